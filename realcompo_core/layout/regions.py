"""Regions on their way to becoming objects: what other tools found, before every one has its phrase."""

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
    """A picture's size in pixels."""

    width: float
    height: float

    def __post_init__(self) -> None:
        if min(self.width, self.height) <= 0:
            raise InputError(
                "size",
                "a picture",
                f"{self.width:g} x {self.height:g}",
                "Give both sides in pixels.",
            )

    def box(self, left: float, top: float, right: float, bottom: float) -> Box:
        """A normalised box from corners in pixels; what overhangs by less than a pixel is cut off.

        Raises :class:`InputError` for corners outside the picture, swapped, equal or not finite.
        """
        corners, sides = [left, top, right, bottom], [self.width, self.height] * 2
        if not all(
            -SLACK < value < side + SLACK for value, side in zip(corners, sides, strict=True)
        ):
            fix = "Set the width and height of the picture that the boxes were made for, and their order and unit."
            expected = f"corners within {self.width:g} x {self.height:g} pixels"
            raise InputError("box", expected, str([round(value, 2) for value in corners]), fix)
        return Box(
            *(min(max(value / side, 0.0), 1.0) for value, side in zip(corners, sides, strict=True))
        )


@dataclass(frozen=True)
class Region:
    """A box, perhaps with a mask [H, W] over the whole canvas, that may still lack its phrase."""

    box: Box
    phrase: str = ""
    mask: Tensor | None = None


def name(regions: Sequence[Region], phrases: str) -> tuple[LayoutObject, ...]:
    """Objects from regions; those that lack a phrase take the lines of ``phrases``: see :func:`assign`."""
    lines = iter(assign(phrases, sum(not region.phrase for region in regions)))
    return tuple(
        LayoutObject(region.phrase or next(lines), region.box, region.mask) for region in regions
    )


def assign(phrases: str, count: int) -> tuple[str, ...]:
    """A phrase for each of ``count`` regions: one a line in their order, or one line for all.

    Empty lines don't count. Raises :class:`InputError` where the numbers don't agree.
    """
    lines = [line.strip() for line in phrases.splitlines() if line.strip()]
    if len(lines) != count and len(lines) != 1 and count:
        fix = "Write one phrase a line, in the order of the regions, or a single line for all of them."
        raise InputError(
            "phrases",
            f"{count} lines, or 1 for all" if count > 1 else "1 line",
            str(len(lines)),
            fix,
        )
    return tuple(lines * count if len(lines) == 1 else lines[:count])


def from_masks(masks: Tensor) -> list[Region]:
    """Regions from masks [count, H, W] or [H, W], values 0..1: each keeps its mask, its box is the mask's extent.

    Raises :class:`InputError` for values outside 0..1 and for an empty mask.
    """
    if masks.ndim not in (2, 3):
        raise InputError(
            "masks", "masks [count, height, width]", f"{list(masks.shape)}", "Connect a MASK."
        )
    batch = masks.detach().float().cpu().reshape(-1, *masks.shape[-2:])
    check_count("masks", len(batch))
    regions = []
    for number, mask in enumerate(batch, 1):
        with within(f"mask {number}"):
            regions.append(Region(extent(mask), mask=mask))
    return regions


def check_count(field: str, count: int) -> None:
    """Raise :class:`InputError` for more regions than a layout holds, before their masks are made."""
    if count > MAXIMUM_OBJECTS:
        raise InputError(field, f"at most {MAXIMUM_OBJECTS} regions", str(count), "Leave some out.")


def extent(mask: Tensor) -> Box:
    """The smallest box around what is at least half as strong as the strongest of a mask [H, W], values 0..1."""
    if not mask.isfinite().all() or mask.min() < 0 or mask.max() > 1:
        raise InputError("mask", "values from 0 to 1", "others", "Convert or threshold the mask.")
    if not mask.any():
        raise InputError(
            "mask",
            "a mask with an area",
            "an empty one",
            "Paint the object's region, or leave it out.",
        )
    inside = mask >= mask.max() / 2
    (top, bottom), (left, right) = (_span(inside.any(dim=axis)) for axis in (1, 0))
    return Canvas(mask.shape[1], mask.shape[0]).box(left, top, right, bottom)


def left_to_right(regions: Sequence[Region]) -> list[Region]:
    """Regions by the middle of their boxes."""
    return sorted(regions, key=lambda region: region.box.x0 + region.box.x1)


def is_number(value: Any) -> bool:
    """Whether a value of another tool is a finite number."""
    return isinstance(value, Real) and not isinstance(value, bool) and -LARGEST < value < LARGEST


def _span(line: Tensor) -> tuple[int, int]:
    """Start and stop of what is set on a line of booleans."""
    places = torch.nonzero(line)
    return int(places[0]), int(places[-1]) + 1
