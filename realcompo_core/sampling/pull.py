"""Where attention pulls a latent: what a branch reads, and the gradient of the loss on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .attention import settled
from .trace import Reading


@dataclass(frozen=True)
class Pull:
    """What one branch's attention asks for.

    ``losses`` [B] of its objective, their ``gradient`` [B, C, H, W] in the latent, and what was
    read, one reading for each conditioning with a layout.
    """

    losses: Tensor
    gradient: Tensor
    readings: tuple[Reading, ...]

    @classmethod
    def none(cls, latent: Tensor) -> Pull:
        """Return the pull where no attention is read, for a latent [B, C, H, W]."""
        return cls(latent.new_zeros(latent.shape[0]), torch.zeros_like(latent), ())

    def __add__(self, other: Pull) -> Pull:
        readings = self.readings + other.readings
        return Pull(self.losses + other.losses, self.gradient + other.gradient, readings)

    def scaled(self, scale: Tensor | float) -> Pull:
        """Return the pull of a latent whose ``scale``-fold was read: the chain rule's factor."""
        return replace(self, gradient=scale * self.gradient)


def settled_map(readings: Sequence[Reading], like: Tensor) -> Tensor:
    """Return where nothing is left to place, 0..1, of the size of ``like`` [B, 1, H, W].

    An area conditioning speaks of its own cells alone. Without readings nothing counts as settled.
    """
    if not readings:
        return torch.zeros_like(like)
    whole = torch.ones_like(like)
    for reading in readings:
        found = settled(reading.attention, reading.objects.parts).to(like)
        (top, left), (height, width) = reading.objects.corner, found.shape[-2:]
        area = whole[..., top : top + height, left : left + width]
        area.copy_(torch.minimum(area, found))
    return whole


def finest_cells(readings: Iterable[Reading], like: Tensor) -> tuple[int, int]:
    """Return how many attention cells ``like`` [B, 1, H, W] has: rows and columns.

    Cells are those of the finest maps that were read.
    """
    finest = (1, 1)
    for reading in readings:
        area = reading.objects.regions.shape[-2:]
        sizes = zip(like.shape[-2:], area, reading.attention.shape[-2:], strict=True)
        rows, columns = (round(whole / part * cells) for whole, part, cells in sizes)
        if rows * columns > finest[0] * finest[1]:
            finest = (rows, columns)
    return finest


def share_outside(readings: Sequence[Reading], weights: Sequence[float]) -> Tensor:
    """Return the share of attention outside its region [B], 0..1: the mean over objects.

    ``weights`` of the layout's objects weigh the mean as they weigh the losses; none: all 1.
    """
    scales = []
    for reading in readings:
        ones = torch.ones(len(reading.objects.phrases))
        scales.append(reading.objects.weights(weights) if weights else ones)
    losses = torch.cat([reading.losses for reading in readings], dim=1)
    scale = torch.cat(scales).to(losses)
    return (losses * scale).sum(dim=1) / scale.sum()
