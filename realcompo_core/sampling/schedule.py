"""Where in the schedule a model evaluation stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .coordinates import Coordinates

TOLERANCE = 1e-4  # relative: samplers reach a schedule sigma only up to rounding


@dataclass(frozen=True)
class Schedule:
    """The sigmas of a run, descending and ending where the run ends, and its warm-up in steps.

    ``coordinates`` say what the sigmas mean. Step i goes from ``sigmas[i]`` to ``sigmas[i + 1]``.
    Multi-stage samplers also ask in between: such an evaluation belongs to the step whose interval
    it falls in, and a look at the next step's sigma (heun) to that step. The balance moves at a
    step's first evaluation, so that samplers with sigmas of their own (dpm_fast) balance once a
    step too.
    """

    sigmas: Sequence[float]
    warmup: int = 0
    every: int = 1
    coordinates: Coordinates = Coordinates.VE

    @property
    def blank(self) -> int:
        """Return how many first steps find no picture in the latent: a flow model's at sigma 1."""
        blank = 0
        while blank < self.steps and not self.coordinates.holds_picture(self.sigmas[blank]):
            blank += 1
        return blank

    @property
    def steps(self) -> int:
        """Return the number of steps."""
        return len(self.sigmas) - 1

    def step(self, sigma: float) -> int:
        """Return the step that an evaluation at ``sigma`` belongs to."""
        passed = sum(s * (1 + TOLERANCE) >= sigma for s in self.sigmas[:-1])
        return max(passed - 1, 0)

    def warming_up(self, step: int) -> bool:
        """Tell whether a step is one of the warm-up."""
        return step < self.warmup

    def reads_attention(self, step: int, *, in_warmup: bool) -> bool:
        """Tell whether a step's balance moves: never at one that ends at sigma 0.

        No attention is read there.
        """
        first = self.blank if in_warmup else self.warmup
        return self.sigmas[step + 1] > 0 and step >= first and (step - first) % self.every == 0


def step_at(share: float, steps: int, blank: int = 0) -> int:
    """Return the step that a share of a run comes to, 0..1.

    The first ``blank`` steps, which find no picture, do not count among its ``steps``.
    """
    return blank + round(share * (steps - blank))
