"""Boxes for GLIGEN, at any resolution."""

from __future__ import annotations

from typing import Any

from ....realcompo_core.errors import InputError
from ....realcompo_core.layout.model import Layout


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
    """The conditioning's ``gligen`` option for a layout: each phrase's pooled encoding and its box."""
    most = gligen.model.max_objs
    if len(layout.objects) > most:
        fix = "Delete objects, or sample without GLIGEN."
        raise InputError(
            "layout", f"at most {most} objects with GLIGEN", str(len(layout.objects)), fix
        )
    pooled = {
        phrase: _pooled(clip, phrase)
        for phrase in {placed.phrase: None for placed in layout.objects}
    }
    return "position", gligen, [(pooled[e.phrase], *_cells(e.box)) for e in layout.objects]


def _pooled(clip: Any, phrase: str) -> Any:
    return clip.encode_from_tokens(clip.tokenize(phrase), return_pooled="unprojected")[1]


def _cells(box: Any) -> tuple[Fraction, ...]:
    """Height, width, y, x: the order that core keeps them in."""
    return tuple(map(Fraction, (box.y1 - box.y0, box.x1 - box.x0, box.y0, box.x0)))
