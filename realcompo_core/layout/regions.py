"""Regions on their way to becoming objects: what other tools found, with or without a phrase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, within
from .model import MAXIMUM_OBJECTS, Box, LayoutObject

LARGEST = 1e15  # of a number that another tool may give
SLACK = 1.0  # pixels that a box may overhang the picture: detectors don't round


@dataclass(frozen=True)
class Canvas:
    """A picture's size in pixels. Raises :class:`InputError` for a side of 0 or less."""

    width: float
    height: float

    def __post_init__(self) -> None:
        if min(self.width, self.height) <= 0:
            got = f"{self.width:g} x {self.height:g}"
            raise InputError("size", "a picture", got, "Give both sides in pixels.")

    def box(self, left: float, top: float, right: float, bottom: float) -> Box:
        """Return a normalised box from corners in pixels; an overhang below a pixel is cut off.

        Raises :class:`InputError` for corners outside the picture, swapped, equal or not finite.
        """
        corners = [left, top, right, bottom]
        pairs = list(zip(corners, [self.width, self.height] * 2, strict=True))
        if not all(-SLACK < value < side + SLACK for value, side in pairs):
            expected = f"corners within {self.width:g} x {self.height:g} pixels"
            got = str([round(value, 2) for value in corners])
            fix = "Give the size of the picture that the boxes belong to, and their order and unit."
            raise InputError("box", expected, got, fix)
        return Box(*(min(max(value / side, 0.0), 1.0) for value, side in pairs))


@dataclass(frozen=True)
class Region:
    """A box, perhaps with a mask [H, W] over the whole canvas, that may still lack its phrase."""

    box: Box
    phrase: str = ""
    mask: Tensor | None = None


def name(regions: Sequence[Region], phrases: str) -> tuple[LayoutObject, ...]:
    """Return regions as objects; those without a phrase take one of ``phrases``, by :func:`assign`.

    Raises :class:`InputError` where the numbers don't agree.
    """
    lines = iter(assign(phrases, sum(not region.phrase for region in regions)))
    return tuple(
        LayoutObject(region.phrase or next(lines), region.box, region.mask) for region in regions
    )


def assign(phrases: str, count: int) -> tuple[str, ...]:
    """Return a phrase for each of ``count`` regions: one a line in their order, or one for all.

    Empty lines don't count. Raises :class:`InputError` where the numbers don't agree.
    """
    lines = [line.strip() for line in phrases.splitlines() if line.strip()]
    if len(lines) == 1:
        return tuple(lines * count)
    if count and len(lines) != count:
        expected = f"{count} lines, or 1 for all" if count > 1 else "1 line"
        fix = "Write one phrase a line, in the order of the regions, or one line for all of them."
        raise InputError("phrases", expected, str(len(lines)), fix)
    return tuple(lines[:count])


def from_masks(masks: Tensor) -> list[Region]:
    """Return a region for each of the masks [count, H, W] or [H, W], values 0..1.

    Each keeps its mask; its box is the mask's :func:`extent`. Raises :class:`InputError` for values
    outside 0..1 and for an empty mask.
    """
    if masks.ndim not in (2, 3):
        got = str(list(masks.shape))
        raise InputError("masks", "masks [count, height, width]", got, "Connect a MASK.")
    batch = masks.detach().float().cpu().reshape(-1, *masks.shape[-2:])
    check_count("masks", len(batch))
    regions = []
    for number, mask in enumerate(batch, 1):
        with within(f"mask {number}"):
            regions.append(Region(extent(mask), mask=mask))
    return regions


def check_count(field: str, count: int) -> None:
    """Raise :class:`InputError` for more regions than a layout holds, before any mask is made."""
    if count > MAXIMUM_OBJECTS:
        raise InputError(field, f"at most {MAXIMUM_OBJECTS} regions", str(count), "Leave some out.")


def extent(mask: Tensor) -> Box:
    """Return the box around what is at least half as strong as the strongest of a mask [H, W].

    Raises :class:`InputError` for values outside 0..1 and for an empty mask.
    """
    if not mask.isfinite().all() or mask.min() < 0 or mask.max() > 1:
        raise InputError("mask", "values from 0 to 1", "others", "Convert or threshold the mask.")
    if not mask.any():
        fix = "Paint the object's region, or leave it out."
        raise InputError("mask", "a mask with an area", "an empty one", fix)
    inside = mask >= mask.max() / 2
    top, bottom = _span(inside.any(dim=1))
    left, right = _span(inside.any(dim=0))
    return Canvas(mask.shape[1], mask.shape[0]).box(left, top, right, bottom)


def left_to_right(regions: Sequence[Region]) -> list[Region]:
    """Return regions sorted by the middle of their boxes."""
    return sorted(regions, key=lambda region: region.box.x0 + region.box.x1)


def is_number(value: Any) -> bool:
    """Tell whether a value of another tool is a finite number."""
    return isinstance(value, Real) and not isinstance(value, bool) and -LARGEST < value < LARGEST


def _span(line: Tensor) -> tuple[int, int]:
    """Return start and stop of what is set on a line of booleans."""
    places = torch.nonzero(line)
    return int(places[0]), int(places[-1]) + 1
