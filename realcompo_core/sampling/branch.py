"""What the step asks of a branch, and what a branch answers.

The host supplies the branches (a loaded model, its conditionings, its patches). Tests supply toy
ones whose attention is a closed formula.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from torch import Tensor

from .pull import Pull


class Side(str, Enum):
    """Which of the two branches: the realistic one, or the one that places objects."""

    TEXT = "text"
    SPATIAL = "spatial"

    __str__ = str.__str__
    __format__ = str.__format__


@dataclass(frozen=True)
class Point:
    """Where the models are evaluated.

    ``latent`` [B, C, H, W] is at noise level ``sigma`` [B]. It belongs to a ``step`` of the
    schedule; ``first`` says whether it is that step's first evaluation.
    """

    latent: Tensor
    sigma: Tensor
    step: int
    first: bool = False


@dataclass(frozen=True)
class Prediction:
    """What one branch, or the blend of both, predicts at one latent.

    ``cond`` and ``uncond`` are denoised [B, C, H, W]; ``uncond`` is zero where guidance (cfg 1)
    does not need it. ``move`` leads from the latent that the branches share to the one that this
    prediction was made at: a branch that guides itself moves its latent first. ``own``
    [B, C, H, W] is what the branch's own functions make of the two; None where it has none, and
    plain guidance is all there is.
    """

    cond: Tensor
    uncond: Tensor
    move: Tensor
    own: Tensor | None = None

    def guided(self, cfg: float) -> Tensor:
        """Return the two guided [B, C, H, W]: by the branch's own functions, or plainly."""
        if self.own is not None:
            return self.own
        return self.uncond + (self.cond - self.uncond) * cfg


class Branch(Protocol):
    """One of the two models, ready to be evaluated."""

    side: Side

    @property
    def guides_itself(self) -> bool:
        """Say whether its own attention moves its latent already (Layout Guidance)."""
        ...

    def predict(self, at: Point) -> Prediction:
        """Evaluate both conditionings."""
        ...

    def pull(self, at: Point, *, gradient: bool, checkpointing: bool) -> Pull:
        """Read the positive conditioning's attention, and the gradient of its loss."""
        ...

    def predict_and_pull(
        self, at: Point, *, gradient: bool, checkpointing: bool
    ) -> tuple[Prediction, Pull]:
        """Do both by one evaluation of each conditioning."""
        ...

    def input_scale(self, sigma: Tensor) -> Tensor:
        """Return what the network's input is of the latent [B, 1, 1, 1], at ``sigma`` [B]."""
        ...
