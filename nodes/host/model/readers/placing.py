"""Which layers are read where the user leaves the choice to us, in one table.

Where a layout is decided differs by family, and nobody has measured it for all of them. What is
published for a family is taken over, as a share of its depth; the rest reads the second quarter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from .....realcompo_core.sampling.attention import Layers
from .reader import Layer


@dataclass(frozen=True)
class Share:
    """Layers from ``start`` up to ``end``, in shares of a network's depth."""

    start: Fraction
    end: Fraction

    def of(self, layers: Sequence[Layer]) -> list[Layer]:
        """Return these of the layers, at least one."""
        first = int(self.start * len(layers))
        return list(layers[first : max(first + 1, round(self.end * len(layers)))])


# FOCUS (arXiv 2510.02315) steers Flux.1 by its double blocks 4 to 15 of 19.
FLUX = Share(Fraction(4, 19), Fraction(16, 19))
# Between what FOCUS steers in SD3.5 and what Seg4Diff (arXiv 2509.18096) segments by: block 9.
SD3 = Share(Fraction(7, 24), Fraction(13, 24))
# Objects are formed early, background in the middle, attributes late (arXiv 2504.10148).
SECOND_QUARTER = Share(Fraction(1, 4), Fraction(1, 2))

# What a U-Net's way down, middle and way up stand for in a network of one resolution.
THIRDS = {
    Layers.DOWN: Share(Fraction(0), Fraction(1, 3)),
    Layers.MIDDLE: Share(Fraction(1, 3), Fraction(2, 3)),
    Layers.UP: Share(Fraction(2, 3), Fraction(1)),
}
