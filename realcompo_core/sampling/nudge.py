"""The warm-up's move of the latent, against the gradient of attention's loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .balancer import normalise
from .coordinates import Coordinates

# Of a nudge beside the noise, its rms at most: a zero-SNR step leaves 2% of what was there.
MOST_OF_NOISE = 0.25


@dataclass(frozen=True)
class Nudge:
    """A move of the latent, BALANCED's in warm-up, that waits for the sampler's next step.

    ``direction`` [B, C, H, W] was read at the noise level ``sigma`` [B], once in ``every`` steps.
    ``coordinates`` say what these sigmas mean.
    """

    direction: Tensor
    sigma: Tensor
    every: int = 1
    coordinates: Coordinates = Coordinates.VE

    def at(self, sigma: Tensor, guidance: float) -> Tensor:
        """Return the move [B, C, H, W] of a latent at ``sigma`` [B] or [1].

        It is ``guidance`` times as far as the sampler has gone meanwhile. For every unit of
        guidance it is no farther than a quarter of the noise that is left. Both are measured
        beside a picture of factor 1, so that a picture is moved alike in all coordinates.
        """
        noise = self.coordinates.noise(sigma)
        gone = self.every * (self.coordinates.noise(self.sigma) - noise)
        reach = torch.minimum(gone, MOST_OF_NOISE * noise).clamp(min=0)
        reach = self.coordinates.scale(sigma) * reach
        return guidance * reach.view(-1, 1, 1, 1) * self.direction


def against(gradient: Tensor, outside: Tensor, mask: Tensor | float = 1.0) -> Tensor:
    """Return a :class:`Nudge`'s direction [B, C, H, W]: against dL/dx, ``gradient``.

    Where ``mask`` is 1, its rms is the share of attention ``outside`` its regions [B], 0..1, so
    that it fades as attention comes into place. It is zero where the mask is 0, and in a sample
    whose gradient or attention is not finite.
    """
    mask = torch.ones_like(gradient) * mask
    size = outside.view(-1, 1, 1, 1) * mask.mean(dim=(1, 2, 3), keepdim=True).sqrt()
    finite = (gradient.isfinite().all(dim=(1, 2, 3)) & outside.isfinite()).view(-1, 1, 1, 1)
    return torch.where(finite, -size * normalise(gradient * mask), torch.zeros_like(gradient))
