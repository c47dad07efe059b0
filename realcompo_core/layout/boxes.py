"""Boxes of other tools -> regions, and back.

Order and unit of plain numbers are always given, never guessed from the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, brief, within
from .model import Layout, LayoutObject
from .regions import Canvas, Region, check_count, is_number, name

PHRASE_KEYS = ("desc", "label", "text")


class Order(str, Enum):
    """What the four numbers of a plain box are."""

    SIZE = "x y width height"
    CORNERS = "left top right bottom"


class Unit(str, Enum):
    """What coordinates are measured in."""

    PIXELS = "pixels"
    SHARES = "0 to 1"


def objects(
    value: Any, canvas: Canvas, order: Order, unit: Unit, phrases: str
) -> tuple[LayoutObject, ...]:
    """Return a layout's objects, or those of one picture's boxes: see :func:`read`.

    ``phrases`` names the boxes that come without a phrase. Raises :class:`InputError`.
    """
    if isinstance(value, Layout):
        return value.objects
    return name(read(value, canvas, order, unit), phrases)


def read(value: Any, canvas: Canvas, order: Order, unit: Unit) -> list[Region]:
    """Return regions from one picture's boxes, in any format that ComfyUI's nodes pass on:

    - ``{"x", "y", "width", "height"}`` in pixels, perhaps with ``metadata`` (core BOUNDING_BOX);
    - four numbers in the given order and unit (KJNodes' BBOX);
    - ``((height, width), [SEG, ...])`` (Impact Pack's SEGS): their masks are kept.

    One box, a list of boxes, or a list of such lists, one for each picture of a batch, of which
    the first is taken. Raises :class:`InputError`.
    """
    if _is_segs(value):
        return segments(*value)
    regions = []
    for number, item in enumerate(_first_picture(_plain(value)), 1):
        with within(f"boxes, box {number}"):
            regions.append(_region(item, canvas, order, unit))
    return regions


def segments(size: Sequence[int], found: Sequence[Any]) -> list[Region]:
    """Return regions, each with label, box and mask, from Impact Pack's SEGS.

    ``size`` is the picture's (height, width) in pixels. Raises :class:`InputError`.
    """
    check_count("boxes", len(found))
    canvas = Canvas(int(size[1]), int(size[0]))
    regions = []
    for number, seg in enumerate(found, 1):
        with within(f"boxes, segment {number}"):
            box = canvas.box(*_numbers(_plain(seg.bbox)))
            regions.append(Region(box, _text(seg.label), _whole_mask(seg, canvas)))
    return regions


def to_bounding_boxes(layout: Layout, canvas: Canvas) -> list[list[dict[str, Any]]]:
    """Return a layout as one picture's BOUNDING_BOXes: whole pixels, at least one wide and high."""
    return [[_bounding_box(placed, canvas) for placed in layout.objects]]


def _bounding_box(placed: LayoutObject, canvas: Canvas) -> dict[str, Any]:
    x, width = _span(placed.box.x0, placed.box.x1, int(canvas.width))
    y, height = _span(placed.box.y0, placed.box.y1, int(canvas.height))
    metadata = {"type": "obj", "text": "", "desc": placed.phrase, "palette": []}
    return {
        "x": x,
        "y": y,
        "width": width,
        "height": height,
        "label": placed.phrase,
        "metadata": metadata,
    }


def _span(low: float, high: float, side: int) -> tuple[int, int]:
    start = min(round(low * side), side - 1)
    return start, max(1, round(high * side) - start)


def _region(item: Any, canvas: Canvas, order: Order, unit: Unit) -> Region:
    if isinstance(item, dict):
        x, y, width, height = _numbers([item.get(key) for key in ("x", "y", "width", "height")])
        return Region(canvas.box(x, y, x + width, y + height), _phrase(item))
    values = _numbers(item)
    if unit is Unit.SHARES:
        sides = (canvas.width, canvas.height) * 2
        values = [value * side for value, side in zip(values, sides, strict=True)]
    left, top, right, bottom = values
    if order is Order.SIZE:
        right, bottom = left + right, top + bottom
    return Region(canvas.box(left, top, right, bottom))


def _numbers(values: Any) -> list[float]:
    if not isinstance(values, list | tuple) or len(values) != 4 or not all(map(is_number, values)):
        fix = "Give x, y, width and height, or four corners."
        raise InputError("box", "four numbers", brief(values), fix)
    return [float(value) for value in values]


def _first_picture(value: Any) -> Sequence[Any]:
    if _is_box(value):
        return [value]
    if not isinstance(value, list | tuple):
        raise InputError("boxes", "boxes", brief(value), "Connect BOUNDING_BOX, BBOX or SEGS.")
    is_batch = bool(value) and all(map(_is_picture, value))
    return value[0] if is_batch else value


def _is_picture(value: Any) -> bool:
    return isinstance(value, list | tuple) and not _is_box(value)


def _is_box(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(is_number, value))
    return isinstance(value, dict)


def _is_segs(value: Any) -> bool:
    if not _is_pair(value) or not isinstance(value[1], list | tuple):
        return False
    size, segs = value
    is_size = _is_pair(size) and all(map(is_number, size))
    return is_size and all(hasattr(seg, "crop_region") for seg in segs)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def _whole_mask(seg: Any, canvas: Canvas) -> Tensor | None:
    """Return the segment's mask [height, width] over the whole canvas; of a batch, their union."""
    if seg.cropped_mask is None:
        return None
    crop = torch.as_tensor(np.asarray(seg.cropped_mask)).float()
    crop = crop.reshape(-1, *crop.shape[-2:]).amax(dim=0)
    left, top, right, bottom = map(int, _numbers(_plain(seg.crop_region)))
    mask = torch.zeros(int(canvas.height), int(canvas.width))
    place = mask[max(top, 0) : bottom, max(left, 0) : right]
    if crop.shape != place.shape:
        expected = f"one of {bottom - top} x {right - left}, as its crop region"
        got = " x ".join(map(str, crop.shape))
        raise InputError("mask", expected, got, "Detect the segments again.")
    white = 255 if crop.max() > 1 else 1  # 8 bits or 0..1
    place.copy_((crop / white).clamp(0, 1))
    return mask


def _phrase(item: dict) -> str:
    metadata = item.get("metadata")
    sources = [metadata, item] if isinstance(metadata, dict) else [item]
    texts = [_text(source.get(key)) for source in sources for key in PHRASE_KEYS]
    return next(filter(None, texts), "")


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _plain(value: Any) -> Any:
    """Return tensors and arrays, also inside of lists, as lists."""
    if isinstance(value, Tensor | np.ndarray):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
