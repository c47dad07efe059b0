"""Boxes of other tools -> entities, and back.

Order and unit of plain numbers are always given, never guessed from the values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import InputError, within
from .layout import Box, Entity, Layout
from .phrases import assign

SLACK = 1.0  # pixels that a box may overhang the picture: detectors don't round
PHRASE_KEYS = ("desc", "label", "text")


class Order(str, Enum):
    """What the four numbers of a plain box are."""

    SIZE = "x y width height"
    CORNERS = "left top right bottom"


class Unit(str, Enum):
    """What the four numbers of a plain box are measured in."""

    PIXELS = "pixels"
    SHARES = "0 to 1"


@dataclass(frozen=True)
class Canvas:
    """A picture's size in pixels."""

    width: int
    height: int

    def box(self, left: float, top: float, right: float, bottom: float) -> Box:
        """A normalised box from corners in pixels; what overhangs by less than a pixel is cut off.

        Raises :class:`InputError` for corners outside the picture, swapped, equal or not finite.
        """
        corners = [left, top, right, bottom]
        limits = [self.width, self.height] * 2
        if not all(-SLACK < value < limit + SLACK for value, limit in zip(corners, limits, strict=True)):
            fix = "Set the width and height that the boxes were made for, and the boxes' order and unit."
            raise InputError("box", f"corners within {self.width} x {self.height} pixels", _shown(corners), fix)
        return Box(*(min(max(v / limit, 0.0), 1.0) for v, limit in zip(corners, limits, strict=True)))


@dataclass(frozen=True)
class Region:
    """A box, perhaps with a mask [H, W] over the whole canvas, that may still lack its phrase."""

    box: Box
    phrase: str = ""
    mask: Tensor | None = None


def read(value: Any, canvas: Canvas, order: Order, unit: Unit) -> list[Region]:
    """Regions from the boxes of one picture, in any of the formats that ComfyUI's nodes pass on:

    - ``{"x", "y", "width", "height"}`` in pixels, perhaps with ``metadata`` (core BOUNDING_BOX);
    - four numbers in the given order and unit (KJNodes' BBOX);
    - ``((height, width), [SEG, ...])`` (Impact Pack's SEGS): their masks are kept.

    One box, a list of boxes, or a list of such lists, one for each picture of a batch, of which
    the first is taken. Raises :class:`InputError`.
    """
    value = _plain(value)
    if _is_segs(value):
        return segments(*value)
    regions = []
    for number, item in enumerate(_first_picture(value), 1):
        with within(f"boxes, box {number}"):
            regions.append(_region(_plain(item), canvas, order, unit))
    return regions


def segments(size: Sequence[int], found: Sequence[Any]) -> list[Region]:
    """Regions from Impact Pack's SEGS of a picture of ``size`` (height, width): label, box and mask of each."""
    canvas, regions = Canvas(int(size[1]), int(size[0])), []
    for number, seg in enumerate(found, 1):
        with within(f"boxes, segment {number}"):
            box = canvas.box(*_numbers(_plain(seg.bbox)))
            regions.append(Region(box, _text(seg.label), _whole_mask(seg, canvas)))
    return regions


def name(regions: Sequence[Region], phrases: str) -> tuple[Entity, ...]:
    """Entities from regions; those that lack a phrase take the lines of ``phrases``."""
    lines = iter(assign(phrases, sum(not region.phrase for region in regions)))
    return tuple(Entity(region.phrase or next(lines), region.box, region.mask) for region in regions)


def to_bounding_boxes(layout: Layout, canvas: Canvas) -> list[list[dict[str, Any]]]:
    """A layout as core BOUNDING_BOXes of one picture: whole pixels, at least one wide and high."""
    return [[_bounding_box(entity, canvas) for entity in layout.entities]]


def _bounding_box(entity: Entity, canvas: Canvas) -> dict[str, Any]:
    x, width = _span(entity.box.x0, entity.box.x1, canvas.width)
    y, height = _span(entity.box.y0, entity.box.y1, canvas.height)
    metadata = {"type": "obj", "text": "", "desc": entity.phrase, "palette": []}
    return {"x": x, "y": y, "width": width, "height": height, "label": entity.phrase, "metadata": metadata}


def _span(low: float, high: float, side: int) -> tuple[int, int]:
    start = min(round(low * side), side - 1)
    return start, max(1, round(high * side) - start)


def _region(item: Any, canvas: Canvas, order: Order, unit: Unit) -> Region:
    if isinstance(item, dict):
        x, y, width, height = _numbers([item.get(key) for key in ("x", "y", "width", "height")])
        return Region(canvas.box(x, y, x + width, y + height), _phrase(item))
    values = _numbers(item)
    if unit is Unit.SHARES:
        values = [v * side for v, side in zip(values, (canvas.width, canvas.height) * 2, strict=True)]
    left, top, right, bottom = values
    return Region(canvas.box(left, top, left + right, top + bottom) if order is Order.SIZE else canvas.box(*values))


def _numbers(values: Any) -> list[float]:
    if not isinstance(values, list | tuple) or len(values) != 4 or not all(map(_is_number, values)):
        raise InputError("box", "four numbers", _shown(values), "Give x, y, width and height, or four corners.")
    return [float(value) for value in values]


def _first_picture(value: Any) -> Sequence[Any]:
    if _is_box(value):
        return [value]
    if not isinstance(value, list | tuple):
        fix = "Connect BOUNDING_BOX, BBOX or SEGS."
        raise InputError("boxes", "boxes", _shown(value), fix)
    items = [_plain(item) for item in value]
    nested = bool(items) and not any(map(_is_box, items)) and all(isinstance(item, list | tuple) for item in items)
    return items[0] if nested else items


def _is_box(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list | tuple) and any(map(_is_number, value)))


def _is_segs(value: Any) -> bool:
    if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[1], list | tuple):
        return False
    size = value[0]
    whole = isinstance(size, list | tuple) and len(size) == 2 and all(map(_is_number, size))
    return whole and all(hasattr(seg, "crop_region") for seg in value[1])


def _whole_mask(seg: Any, canvas: Canvas) -> Tensor | None:
    """The segment's mask [height, width] over the whole canvas."""
    if seg.cropped_mask is None:
        return None
    crop = torch.as_tensor(np.asarray(seg.cropped_mask)).float()
    left, top, right, bottom = map(int, _numbers(_plain(seg.crop_region)))
    if crop.shape != (bottom - top, right - left) or not (0 <= left and right <= canvas.width):
        expected = f"a mask of its crop region {[left, top, right, bottom]}"
        raise InputError("mask", expected, f"{list(crop.shape)}", "Detect the segments again.")
    mask = torch.zeros(canvas.height, canvas.width)
    mask[top:bottom, left:right] = crop
    return mask


def _phrase(item: dict) -> str:
    metadata = item.get("metadata")
    sources = [metadata, item] if isinstance(metadata, dict) else [item]
    return next((text for s in sources for key in PHRASE_KEYS if (text := _text(s.get(key)))), "")


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _plain(value: Any) -> Any:
    """Tensors and arrays as lists."""
    return value.tolist() if isinstance(value, Tensor | np.ndarray) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
