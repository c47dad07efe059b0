"""What the step asks of a branch, and what a branch answers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .trace import Reading


@dataclass(frozen=True)
class Prediction:
    """What one branch predicts at one latent: ``cond`` and ``uncond`` denoised [B, C, H, W].

    ``uncond`` is zero where guidance (cfg 1) does not need it. ``move`` leads from the latent that the branches share
    to the one that this one predicted at.
    """

    cond: Tensor
    uncond: Tensor
    move: Tensor

    def guided(self, cfg: float) -> Tensor:
        """Plain classifier-free guidance of the two."""
        return self.uncond + (self.cond - self.uncond) * cfg


@dataclass(frozen=True)
class Pull:
    """What one branch's attention asks for: an objective's ``losses`` [B], its gradient [B, C, H, W], what was read."""

    losses: Tensor
    gradient: Tensor
    readings: tuple[Reading, ...]

    @classmethod
    def none(cls, latent: Tensor) -> Pull:
        """Where no attention is read."""
        return cls(latent.new_zeros(latent.shape[0]), torch.zeros_like(latent), ())

    def __add__(self, other: Pull) -> Pull:
        return Pull(
            self.losses + other.losses,
            self.gradient + other.gradient,
            self.readings + other.readings,
        )
