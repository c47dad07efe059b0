"""Maps of a whole area, put together from what was evaluated of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ....realcompo_core.layout.model import resample
from .readers.reader import Size
from .rows import Part


@dataclass(frozen=True)
class Piece:
    """A layer's maps [rows, T, h, w] of a part of a conditioning's area."""

    part: Part
    maps: Tensor


def is_whole(pieces: Sequence[Piece], samples: int, size: Size) -> bool:
    """Say whether pieces cover an area of this size in cells, of so many samples."""
    seen = torch.zeros(samples, *size, dtype=torch.bool)
    for piece in pieces:
        for sample in piece.part.samples:
            _cut(seen[sample], piece.part).fill_(True)
    return bool(seen.all())


def assembled(pieces: Sequence[Piece], samples: int, size: Size) -> Tensor:
    """Return the maps [samples, T, h, w] of an area of ``size`` cells that the pieces cover.

    Where pieces overlap it is their mean.
    """
    if all(_is_all(piece.part, samples, size) for piece in pieces):
        first, *others = (piece.maps for piece in pieces)
        return torch.stack([first, *others]).mean(dim=0) if others else first
    maps, part = pieces[0].maps, pieces[0].part
    total = maps.new_zeros(samples, maps.shape[1], *size)
    count = maps.new_zeros(samples, 1, *size)
    for piece in pieces:
        cells = resample(piece.maps, *piece.part.size)
        for sample, own in zip(piece.part.samples, cells, strict=True):
            _cut(total[sample], piece.part).add_(own)
            _cut(count[sample], piece.part).add_(1)
    ratios = zip(size, maps.shape[-2:], part.size, strict=True)
    rows, columns = (max(1, round(whole * found / cells)) for whole, found, cells in ratios)
    return resample(total / count, rows, columns)


def _is_all(part: Part, samples: int, size: Size) -> bool:
    return list(part.samples) == list(range(samples)) and part.size == size


def _cut(area: Tensor, part: Part) -> Tensor:
    """The part's own cells of an area [..., H, W]."""
    (top, left), (height, width) = part.corner, part.size
    return area[..., top : top + height, left : left + width]
