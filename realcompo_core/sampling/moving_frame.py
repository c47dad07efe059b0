"""A frame that moves with the latent: how a latent is moved while a sampler keeps its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


class MovingFrame:
    """The sampler's latent plus an offset, the sum of all moves so far.

    A sampler keeps its latent to itself: what is done to the model's input alone would be undone
    by its next step. So the model is evaluated at ``x + offset`` and the sampler is told
    ``denoised - offset``. Its noise estimate is then that of the moved latent,
    ``((x + offset) - denoised) / sigma``. A sampler's step adds fractions of latents and
    predictions that sum to one, and noise; so ``x + offset`` goes where a step from the moved
    latent leads. The offset is added to what the sampler returns and reports.

    This is exact for samplers of one step, of whatever order and however random, and for those
    that remember noise estimates. One that remembers denoised predictions (dpmpp_2m, uni_pc)
    weighs the last one negatively, and so counts a move once more with that weight: about
    ``(1 - r) / 2`` for a ratio r of neighbouring sigmas. One that looks ahead to the next step's
    sigma (heun) is moved at that look already.
    """

    def __init__(self) -> None:
        self.offset: Tensor | float = 0.0

    def seen(self, latent: Tensor) -> Tensor:
        """Return the latent [B, C, H, W] that the models see, of the sampler's."""
        return latent + self.offset

    def told(self, denoised: Tensor) -> Tensor:
        """Return the prediction [B, C, H, W] that the sampler is told, of the models'."""
        return denoised - self.offset

    def move(self, by: Tensor) -> None:
        """Move the latent that the models see by a tensor that broadcasts to [B, C, H, W]."""
        self.offset = self.offset + by

    def reporting(self, callback: Callable | None) -> Callable | None:
        """Return a sampler's callback (step, denoised, latent, total), told what the models see."""
        if callback is None:
            return None

        def report(step: int, denoised: Tensor, latent: Tensor, total: int) -> Any:
            return callback(step, denoised + self.offset, latent + self.offset, total)

        return report


def movable(mask: Tensor | None) -> Tensor | float:
    """Return 1 where an inpainting sampler's mask [B, C, H, W] lets the latent move, else 0.

    Where the mask mixes the original in, an offset could not be taken back whole.
    """
    return 1.0 if mask is None else (mask >= 1).to(mask)
