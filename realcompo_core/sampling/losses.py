"""Losses on attention maps."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..words.grounding import Objects
from .attention import share_inside
from .settings import BalancerSettings

SMALLEST = 1e-6  # keeps the overlap of maps without any attention at 0
BLUR_SIGMA = 0.5  # of the 3 x 3 Gaussian, in attention cells


class Overlap(str, Enum):
    """What counts as overlap of three or more objects; of two objects it is the same."""

    PAIRS = "pairs"  # of any two of them
    ALL = "all"  # only where all of them meet, as the paper's formula reads


def region_loss(attention: Tensor, regions: Tensor) -> Tensor:
    """Return RealCompo's eq. 6: the share of each object's attention outside its region.

    ``attention`` is [B, objects, h, w], ``regions`` [objects, H, W] of any size, values 0..1. The
    result is [B, objects], 0 (all inside) to 1; the objective is their sum.
    """
    return 1 - share_inside(attention, regions)


def layout_guidance_loss(maps: Sequence[Tensor], regions: Tensor, tokens: Sequence[int]) -> Tensor:
    """Return Layout Guidance's eq. 2 (arXiv 2304.03373) [B], 0 to 1: ``(1 - share inside)^2``.

    It is the mean over maps, objects and tokens. ``maps`` are attention [B, T, h, w], one per
    layer, of the T tokens of all objects, in their order; ``regions`` [objects, H, W] of any size;
    ``tokens`` says how many of the T are each object's.
    """
    regions = regions.repeat_interleave(torch.tensor(tokens, device=regions.device), dim=0)
    outside = torch.stack([region_loss(attention, regions) for attention in maps])
    by_token = outside.square().mean(dim=0)
    by_object = [part.mean(dim=1) for part in by_token.split(list(tokens), dim=1)]
    return torch.stack(by_object).mean(dim=0)


def separate_loss(attention: Tensor, overlap: Overlap = Overlap.PAIRS) -> Tensor:
    """Return the separate loss (arXiv 2312.06712): ``max of prod_i M_i / (sum_i M_i + eps)``.

    The maximum is over cells; with PAIRS it is the mean of that over all pairs of objects.
    ``attention`` is [B, objects, h, w], 0..1, of two objects or more. The result is [B], 0 where no
    two objects share a cell.
    """
    maps = attention.unbind(1)
    groups = combinations(maps, 2) if overlap is Overlap.PAIRS else [maps]
    return torch.stack([_overlap(torch.stack(group)) for group in groups]).mean(0)


def enhance_loss(attention: Tensor) -> Tensor:
    """Return the enhance loss (arXiv 2312.06712): ``1 - min_i max over cells of gauss3x3(M_i)``.

    ``attention`` is [B, objects, h, w], 0..1. The result is [B], 0 where the least attended object
    is fully attended.
    """
    return 1 - activation(attention).amin(1)


def activation(attention: Tensor) -> Tensor:
    """Return each object's strongest attention [B, objects] in blurred maps [B, objects, h, w]."""
    return blurred(attention).amax((-2, -1))


def blurred(attention: Tensor) -> Tensor:
    """Blur maps [B, objects, h, w] by a 3 x 3 Gaussian; edges repeat, so a flat map stays flat."""
    offsets = torch.arange(-1, 2, dtype=attention.dtype, device=attention.device)
    row = (-(offsets**2) / (2 * BLUR_SIGMA**2)).exp()
    kernel = (row[:, None] * row)[None, None] / row.sum() ** 2
    padded = F.pad(attention, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded.flatten(0, 1)[:, None], kernel)[:, 0].unflatten(0, attention.shape[:2])


def _overlap(maps: Tensor) -> Tensor:
    """Return the strongest overlap [B] of maps [objects, B, h, w]."""
    return (maps.prod(0) / (maps.sum(0) + SMALLEST)).amax((-2, -1))


def joint_loss(attention: Tensor, objects: Objects, settings: BalancerSettings) -> Tensor:
    """Return the balance's loss [B]: region loss, and the settings' separate and enhance losses.

    ``attention`` is [B, objects, h, w].
    """
    losses = region_loss(attention, objects.regions)
    if settings.object_weights:
        losses = losses * objects.weights(settings.object_weights).to(losses)
    total = losses.sum(dim=1)
    if settings.separate and attention.shape[1] > 1:
        total = total + settings.separate * separate_loss(attention)
    if settings.enhance:
        total = total + settings.enhance * enhance_loss(attention)
    return total
