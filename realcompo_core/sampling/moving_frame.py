"""A frame that moves with the latent: how a latent is moved while a sampler keeps its own."""

from __future__ import annotations

import torch
from torch import Tensor

from .coordinates import Coordinates, per_sample


class MovingFrame:
    """The sampler's latent plus an offset, the sum of all moves so far.

    A sampler keeps its latent to itself: what is done to the model's input alone would be undone
    by its next step. So the sampler works on another picture, ``offset`` less than the models'.
    The models are evaluated at ``x + scale * offset``, ``scale`` being the picture's factor in a
    latent (1 on VE models), and the sampler is told ``denoised - offset``. The noise in both is the
    same. A sampler that leads every picture from noise to itself, also leads the models' latent;
    flow's ancestral steps do, whose factors of latent and prediction don't sum to one. The offset
    is added to what the sampler returns and reports.

    This is exact for samplers of one step, of whatever order and however random, and on VE models
    for those that remember noise estimates (lms). One that remembers denoised predictions
    (dpmpp_2m, uni_pc) weighs the last one negatively, and so counts a move once more with that
    weight: about ``(1 - r) / 2`` for a ratio r of neighbouring sigmas. So do, on flow models, those
    that remember velocities. One that looks ahead to the next step's sigma (heun) is moved at that
    look already.
    """

    def __init__(self, coordinates: Coordinates = Coordinates.VE) -> None:
        self.coordinates = coordinates
        self.offset: Tensor | float = 0.0
        self.scale: Tensor | float = 1.0  # where the models last were asked

    def seen(self, latent: Tensor, sigma: Tensor) -> Tensor:
        """Return the latent [B, C, H, W] that the models see at sigma [B], of the sampler's."""
        self.scale = per_sample(self.coordinates.scale(sigma), latent)
        return self.shown(latent)

    def kept(self, latent: Tensor, sigma: Tensor) -> Tensor:
        """Return the sampler's latent [B, C, H, W] at sigma [B], of the one that the models see."""
        return latent - per_sample(self.coordinates.scale(sigma), latent) * self.offset

    def told(self, denoised: Tensor) -> Tensor:
        """Return the prediction [B, C, H, W] that the sampler is told, of the models'."""
        return denoised - self.offset

    def pictured(self, denoised: Tensor) -> Tensor:
        """Return the models' picture [B, C, H, W], of what the sampler was told or has ended with.

        A latent that a run ends with counts as a picture, whatever noise it still has.
        """
        return denoised + self.offset

    def shown(self, latent: Tensor) -> Tensor:
        """Return :meth:`seen` [B, C, H, W] at the sigma where the models last were asked."""
        return latent + self.scale * self.offset

    def move(self, by: Tensor, sigma: Tensor) -> None:
        """Move the latent that the models see at sigma [B] by what broadcasts to [B, C, H, W]."""
        scale = per_sample(self.coordinates.scale(sigma), by)
        self.offset = self.offset + by / scale.clamp(min=torch.finfo(scale.dtype).tiny)


def movable(mask: Tensor | None) -> Tensor | float:
    """Return 1 where an inpainting sampler's mask [B, C, H, W] lets the latent move, else 0.

    Where the mask mixes the original in, an offset could not be taken back whole.
    """
    return 1.0 if mask is None else (mask >= 1).to(mask)
