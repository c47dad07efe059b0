"""How a latent is mixed of a picture and noise: what a sigma means."""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor

NO_PICTURE = 1e-4  # a share of the picture in the latent that tells a model nothing


class Coordinates(Enum):
    """The two ways in which models mix a picture and noise of rms 1 to a latent.

    They are two scales of one thing: a flow latent at s is ``1 - s`` times the VE latent of the
    same picture and noise, at ``s / (1 - s)``. What a model takes the picture for (denoised) is the
    same in both.
    """

    VE = "picture + sigma * noise"  # eps, v and EDM models
    FLOW = "(1 - sigma) * picture + sigma * noise"

    def scale(self, sigma: Tensor) -> Tensor:
        """Return the picture's factor [B] in a latent at ``sigma`` [B]."""
        return 1 - sigma if self is Coordinates.FLOW else torch.ones_like(sigma)

    def noise(self, sigma: Tensor) -> Tensor:
        """Return how much noise [B] is beside a picture of factor 1, at ``sigma`` [B]: VE's own."""
        return sigma / self.scale(sigma)

    def sigma(self, noise: Tensor) -> Tensor:
        """Return the sigma [B] of so much :meth:`noise` [B]; infinite noise is flow's sigma 1."""
        return 1 / (1 + 1 / noise) if self is Coordinates.FLOW else noise

    def holds_picture(self, sigma: float) -> bool:
        """Say whether a latent at ``sigma`` holds anything of a picture. Flow's at 1 is noise."""
        return self is Coordinates.VE or 1 - sigma > NO_PICTURE


def per_sample(values: Tensor, latent: Tensor) -> Tensor:
    """Return values [B] or [1] so that they broadcast over the samples of ``latent`` [B, ...]."""
    return values.to(latent).view(-1, *[1] * (latent.ndim - 1))
