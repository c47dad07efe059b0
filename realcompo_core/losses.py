"""Losses on attention maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .attention import share_inside


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
    outside = torch.stack([region_loss(attention, regions) for attention in maps]).square().mean(dim=0)
    return torch.stack([part.mean(dim=1) for part in outside.split(list(tokens), dim=1)]).mean(dim=0)
