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
    """RealCompo eq. 6: for each object, the share of its attention that lies outside its region.

    ``attention`` [B, objects, h, w]; ``regions`` [objects, H, W] of any size, values 0..1; returns
    [B, objects], 0 (all inside) to 1; the objective is their sum.
    """
    return 1 - share_inside(attention, regions)


def layout_guidance_loss(maps: Sequence[Tensor], regions: Tensor, tokens: Sequence[int]) -> Tensor:
    """Layout Guidance (arXiv 2304.03373) eq. 2: ``(1 - share inside)^2``, the mean over maps, objects and tokens.

    ``maps`` are attention [B, T, h, w], one per layer, of the T tokens of all objects, in their order; ``regions``
    [objects, H, W] of any size; ``tokens`` says how many of the T are each object's. Returns [B], 0 to 1.
    """
    regions = regions.repeat_interleave(torch.tensor(tokens, device=regions.device), dim=0)
    outside = (
        torch.stack([region_loss(attention, regions) for attention in maps]).square().mean(dim=0)
    )
    return torch.stack([part.mean(dim=1) for part in outside.split(list(tokens), dim=1)]).mean(
        dim=0
    )


def separate_loss(attention: Tensor, overlap: Overlap = Overlap.PAIRS) -> Tensor:
    """Separate loss (arXiv 2312.06712): ``max over cells of prod_i M_i / (sum_i M_i + eps)``.

    ``attention`` [B, objects, h, w], 0..1, two objects or more; returns [B], 0 where no two objects share a cell.
    With PAIRS it is the mean of that over all pairs of objects.
    """
    groups = (
        combinations(attention.unbind(1), 2) if overlap is Overlap.PAIRS else [attention.unbind(1)]
    )
    return torch.stack([_overlap(torch.stack(maps)) for maps in groups]).mean(0)


def enhance_loss(attention: Tensor) -> Tensor:
    """Enhance loss (arXiv 2312.06712): ``1 - min_i max over cells of gaussian3x3(M_i)``.

    ``attention`` [B, objects, h, w], 0..1; returns [B], 0 where the least attended object is fully attended.
    """
    return 1 - activation(attention).amin(1)


def activation(attention: Tensor) -> Tensor:
    """Each object's strongest attention [B, objects], after a 3 x 3 Gaussian whose edges repeat."""
    return blurred(attention).amax((-2, -1))


def blurred(attention: Tensor) -> Tensor:
    """Maps [B, objects, h, w] through a 3 x 3 Gaussian; a flat map stays as it is."""
    offsets = torch.arange(-1, 2, dtype=attention.dtype, device=attention.device)
    row = (-(offsets**2) / (2 * BLUR_SIGMA**2)).exp()
    kernel = (row[:, None] * row)[None, None] / row.sum() ** 2
    padded = F.pad(attention, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded.flatten(0, 1)[:, None], kernel)[:, 0].unflatten(0, attention.shape[:2])


def _overlap(maps: Tensor) -> Tensor:
    """[objects, B, h, w] -> [B]."""
    return (maps.prod(0) / (maps.sum(0) + SMALLEST)).amax((-2, -1))


def joint_loss(attention: Tensor, objects: Objects, settings: BalancerSettings) -> Tensor:
    """The region loss and the settings' share of the separate and enhance losses [B]; attention [B, objects, h, w]."""
    losses = region_loss(attention, objects.regions)
    if settings.object_weights:
        losses = losses * objects.weights(settings.object_weights).to(losses)
    total = losses.sum(dim=1)
    if settings.separate and attention.shape[1] > 1:
        total = total + settings.separate * separate_loss(attention)
    return total + settings.enhance * enhance_loss(attention) if settings.enhance else total
