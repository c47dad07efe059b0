"""Boxes for GLIGEN, at any resolution."""

from __future__ import annotations

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
    boxes = [(pooled[placed.phrase], *_cells(placed.box)) for placed in layout.objects]
    return "position", gligen, boxes


def _pooled(clip: Any, phrase: str) -> Any:
    return clip.encode_from_tokens(clip.tokenize(phrase), return_pooled="unprojected")[1]


def _cells(box: Box) -> tuple[Fraction, ...]:
    """Return height, width, y, x: the order that core keeps them in."""
    return tuple(map(Fraction, (box.y1 - box.y0, box.x1 - box.x0, box.y0, box.x0)))
