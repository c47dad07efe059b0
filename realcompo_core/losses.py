"""Losses on attention maps."""

from __future__ import annotations

from torch import Tensor

from .attention import share_inside


def region_loss(attention: Tensor, regions: Tensor) -> Tensor:
    """RealCompo eq. 6: for each object, the share of its attention that lies outside its region.

    ``attention`` [B, objects, h, w]; ``regions`` [objects, H, W] of any size, values 0..1; returns
    [B, objects], 0 (all inside) to 1; the objective is their sum.
    """
    return 1 - share_inside(attention, regions)
