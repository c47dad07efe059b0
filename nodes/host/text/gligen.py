"""Boxes for GLIGEN, at any resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....realcompo_core.errors import InputError
from ....realcompo_core.layout.model import Box, Layout


class Fraction(float):
    """A normalised length that stays one when the host divides latent cells by the latent's size.

    Core keeps GLIGEN boxes in latent cells of one resolution and divides by the latent it meets;
    a layout has no resolution, so its lengths divide to themselves.
    """

    def __add__(self, other: float) -> Fraction:
        return Fraction(float(self) + float(other))

    def __truediv__(self, cells: float) -> float:
        return float(self)


def gligen_option(gligen: Any, clip: Any, layout: Layout) -> tuple[str, Any, list]:
    """Return a conditioning's ``gligen`` option: each object's pooled phrase and its box.

    Raises :class:`InputError` for more objects than the GLIGEN model takes.
    """
    most = gligen.model.max_objs
    if len(layout.objects) > most:
        expected, got = f"at most {most} objects with GLIGEN", str(len(layout.objects))
        raise InputError("layout", expected, got, "Delete objects, or sample without GLIGEN.")
    phrases = dict.fromkeys(placed.phrase for placed in layout.objects)
    pooled = {phrase: _pooled(clip, phrase) for phrase in phrases}
    for encoded in pooled.values():
        _check_width(gligen.model.key_dim, 0 if encoded is None else encoded.shape[-1])
    boxes = [(pooled[placed.phrase], *_cells(placed.box)) for placed in layout.objects]
    return "position", gligen, boxes


def place_in_areas(conds: list[dict], height: int, width: int) -> None:
    """Give processed conditionings with an area the boxes of that area, in its own coordinates.

    The host hands GLIGEN the area's part of a latent of ``height`` and ``width`` cells, and a
    layout's boxes are of the whole. What is outside of the area has no box there.
    """
    for cond in conds:
        if "gligen" in cond and cond.get("area") is not None:
            kind, model, boxes = cond["gligen"]
            placed = [_in_area(box, _share(cond["area"], height, width)) for box in boxes]
            cond["gligen"] = kind, model, [box for box in placed if box is not None]


def _share(area: Sequence[int], height: int, width: int) -> tuple[float, float, float, float]:
    """An area of latent cells (height, width, y, x) as left, top, right, bottom of the whole."""
    rows, columns, top, left = area
    bottom, right = min(height, top + rows), min(width, left + columns)
    return left / width, top / height, right / width, bottom / height


def _in_area(box: tuple, area: tuple[float, float, float, float]) -> tuple | None:
    """A phrase's encoding and box inside an area; None where it is outside.

    Boxes that other nodes have made are in the area's cells already.
    """
    encoded, *lengths = box
    if not all(isinstance(length, Fraction) for length in lengths):
        return box
    height, width, y, x = map(float, lengths)
    left, top, right, bottom = area
    x0, x1 = max(x, left), min(x + width, right)
    y0, y1 = max(y, top), min(y + height, bottom)
    if x0 >= x1 or y0 >= y1:
        return None
    columns, rows = right - left, bottom - top
    inside = (y1 - y0) / rows, (x1 - x0) / columns, (y0 - top) / rows, (x0 - left) / columns
    return encoded, *map(Fraction, inside)


def _check_width(expected: int, got: int) -> None:
    if expected != got:
        fix = "GLIGEN is for SD1.5 alone: leave gligen empty, or place with a ControlNet."
        texts = f"a CLIP whose texts have {expected} values, as GLIGEN was trained with"
        raise InputError("gligen", texts, f"one of {got}" if got else "one of rows alone", fix)


def _pooled(clip: Any, phrase: str) -> Any:
    return clip.encode_from_tokens(clip.tokenize(phrase), return_pooled="unprojected")[1]


def _cells(box: Box) -> tuple[Fraction, ...]:
    """Return height, width, y, x: the order that core keeps them in."""
    return tuple(map(Fraction, (box.y1 - box.y0, box.x1 - box.x0, box.y0, box.x0)))
