"""Moving a latent down an objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..errors import check_ranges


@dataclass(frozen=True)
class GuidanceSettings:
    """When and how far Layout Guidance (arXiv 2304.03373) moves a latent before a model is evaluated.

    Raises :class:`InputError` for values out of range.
    """

    scale: float = 30.0  # factor on the gradient times sigma squared
    threshold: float = 0.2  # a sample whose loss is not above this stays where it is
    iterations: int = 5  # most moves at one step
    start: float = 0.0  # share of the steps before the first that is guided, 0..1
    end: float = 0.2  # share of the steps before the first that is guided no more, 0..1

    RANGES: ClassVar = {
        "scale": (0, 1e6),
        "threshold": (0, 1),
        "iterations": (1, 100),
        "start": (0, 1),
        "end": (0, 1),
    }

    def __post_init__(self) -> None:
        check_ranges(self)

    def guides(self, step: int, steps: int) -> bool:
        """Whether the latent is moved at this step of a run."""
        return round(self.start * steps) <= step < round(self.end * steps)


def descend(latent: Tensor, gradient: Tensor, sigma: Tensor, scale: float) -> Tensor:
    """Layout Guidance's update ``x - scale * sigma^2 * dL/dx``: latent and gradient [B, C, H, W], sigma [B]."""
    return latent - scale * sigma.view(-1, 1, 1, 1).square() * gradient
