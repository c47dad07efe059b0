"""Layouts: which object stands where, free of any resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import InputError

MINIMUM_SIDE = 1e-4  # of the canvas: 0.05 pixels at 512
MAXIMUM_OBJECTS = 256
MAXIMUM_CELLS = 2**30  # of all regions together: 4 GiB


@dataclass(frozen=True)
class Box:
    """An axis-aligned box in normalised coordinates: 0..1 of the canvas, origin at the top left.

    Raises :class:`InputError` for corners that are outside [0, 1], swapped, equal or not finite.
    """

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        corners = [self.x0, self.y0, self.x1, self.y1]
        if not all(math.isfinite(value) and 0 <= value <= 1 for value in corners):
            fix = "Boxes are normalised: divide pixels by the canvas width and height."
            raise InputError("box", "corners between 0 and 1", str(corners), fix)
        if self.x1 < self.x0 or self.y1 < self.y0:
            raise InputError("box", "[left, top, right, bottom]", str(corners), "Swap the corners.")
        if min(self.x1 - self.x0, self.y1 - self.y0) < MINIMUM_SIDE:
            fix = "Make the box wider and taller."
            raise InputError("box", "a box with an area", str(corners), fix)


@dataclass(frozen=True)
class LayoutObject:
    """One object of the layout: its phrase in the prompt and the region where it belongs.

    ``mask`` [H, W], values 0..1 over the whole canvas, replaces the box as the region where it is
    given; ``tokens`` are token positions that override the search for the phrase. Raises
    :class:`InputError` for a phrase without words and for an empty mask.
    """

    phrase: str
    box: Box
    mask: Tensor | None = field(default=None, compare=False, repr=False)
    tokens: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.phrase.strip():
            expected, fix = "the object's words in the prompt", "Name the object, or delete it."
            raise InputError("phrase", expected, "nothing", fix)
        if self.mask is not None and not (self.mask > 0).any():
            fix = "Paint the object's region."
            raise InputError("mask", "a mask with an area", "an empty one", fix)

    def region(self, height: int, width: int) -> Tensor:
        """Return the region [height, width] on any grid: the covered share of each cell, 0..1."""
        if self.mask is not None:
            return resample(self.mask.double(), height, width).clamp(0, 1).float()
        rows = interval_overlap([self.box.y0, self.box.y1], height)
        columns = interval_overlap([self.box.x0, self.box.x1], width)
        return (rows.T @ columns).float()


@dataclass(frozen=True)
class Layout:
    """The objects of one picture, in drawing order.

    Raises :class:`InputError` for no objects and for more than :data:`MAXIMUM_OBJECTS`.
    """

    objects: tuple[LayoutObject, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.objects) <= MAXIMUM_OBJECTS:
            expected = f"1 to {MAXIMUM_OBJECTS} objects"
            fix = "Delete objects." if self.objects else "Add an object with a phrase and a box."
            raise InputError("layout", expected, str(len(self.objects)), fix)

    def rasterise(self, height: int, width: int) -> Tensor:
        """Return the regions [objects, height, width]: the covered share of each cell, 0..1.

        No region is ever empty. Raises :class:`InputError` for more than :data:`MAXIMUM_CELLS`.
        """
        cells = len(self.objects) * height * width
        if cells > MAXIMUM_CELLS:
            expected = f"at most {MAXIMUM_CELLS} pixels of masks"
            fix = "Make the picture smaller or use fewer objects."
            raise InputError("layout", expected, str(cells), fix)
        return torch.stack([placed.region(height, width) for placed in self.objects])


def interval_overlap(edges: Sequence[float], cells: int) -> Tensor:
    """Return how much of each of ``cells`` equal cells each interval between ``edges`` covers.

    ``edges`` are n+1 ascending normalised positions. The result is [n, cells] in float64, 0..1;
    its rows sum to each interval's length in cells.
    """
    edge = torch.tensor(list(edges), dtype=torch.float64) * cells
    start = torch.arange(cells, dtype=torch.float64)
    high = torch.minimum(edge[1:, None], start + 1)
    low = torch.maximum(edge[:-1, None], start)
    return (high - low).clamp(0, 1)


def resample(regions: Tensor, height: int, width: int) -> Tensor:
    """Area-resample [..., H, W] to [..., height, width] for any sizes; the mean is conserved."""
    if regions.shape[-2:] == (height, width):
        return regions.clone()  # a graph can't hold a tensor that was made in inference mode
    rows = _shares(regions.shape[-2], height).to(regions)
    columns = _shares(regions.shape[-1], width).to(regions)
    return rows.T @ regions @ columns


def _shares(source: int, target: int) -> Tensor:
    """Return how much of each of ``target`` cells each of ``source`` cells covers."""
    edges = torch.linspace(0, 1, source + 1, dtype=torch.float64)
    return interval_overlap(edges.tolist(), target)
