"""How a language model writes boxes: stated by its profile, never guessed from its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Unit(str, Enum):
    """What a model's numbers count."""

    NORMALISED = "normalised"  # 0 to 1 of the picture
    PERCENT = "percent"
    THOUSANDTHS = "1000"  # as Qwen-VL and Gemini are trained
    PIXELS_512 = "512 pixels"  # of a picture of 512 x 512
    PIXELS_1024 = "1024 pixels"

    @property
    def side(self) -> int:
        """Return the picture's side in this unit."""
        return _SIDES[self]


_SIDES = {
    Unit.NORMALISED: 1,
    Unit.PERCENT: 100,
    Unit.THOUSANDTHS: 1000,
    Unit.PIXELS_512: 512,
    Unit.PIXELS_1024: 1024,
}


class Order(str, Enum):
    """What a model's four numbers mean."""

    CORNERS = "corners"
    XYWH = "xywh"
    Y_FIRST = "y first"
    CENTRE = "centre"

    @property
    def numbers(self) -> str:
        """Return the four numbers' names."""
        return _NUMBERS[self]


_NUMBERS = {
    Order.CORNERS: "left, top, right, bottom",
    Order.XYWH: "left, top, width, height",
    Order.Y_FIRST: "top, left, bottom, right",
    Order.CENTRE: "centre x, centre y, width, height",
}


class BoxKey(str, Enum):
    """What a model is asked to call an object's box. Replies may use any of them."""

    BOX = "box"
    BBOX = "bbox"
    BBOX_2D = "bbox_2d"
    BOX_2D = "box_2d"


class PhraseKey(str, Enum):
    """What a model is asked to call an object's words. Replies may use any of them."""

    PHRASE = "phrase"
    LABEL = "label"
    NAME = "name"
    OBJECT = "object"


@dataclass(frozen=True)
class Convention:
    """How a model is asked to write boxes, and how its boxes are read."""

    unit: Unit = Unit.NORMALISED
    order: Order = Order.CORNERS
    box_key: BoxKey = BoxKey.BOX
    phrase_key: PhraseKey = PhraseKey.PHRASE

    def __str__(self) -> str:
        return f'unit = "{self.unit.value}", order = "{self.order.value}"'

    def corners(self, numbers: Sequence[float]) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom, normalised, of four numbers of the model's."""
        a, b, c, d = (number / self.unit.side for number in numbers)
        if self.order is Order.XYWH:
            return a, b, a + c, b + d
        if self.order is Order.Y_FIRST:
            return b, a, d, c
        if self.order is Order.CENTRE:
            return a - c / 2, b - d / 2, a + c / 2, b + d / 2
        return a, b, c, d

    def numbers(self, corners: Sequence[float]) -> list[float]:
        """Return the model's four numbers for normalised left, top, right and bottom."""
        x0, y0, x1, y1 = corners
        written = {
            Order.CORNERS: (x0, y0, x1, y1),
            Order.XYWH: (x0, y0, x1 - x0, y1 - y0),
            Order.Y_FIRST: (y0, x0, y1, x1),
            Order.CENTRE: ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0),
        }[self.order]
        digits = 2 if self.unit is Unit.NORMALISED else None
        return [round(number * self.unit.side, digits) for number in written]


def schema(convention: Convention, most: int) -> dict[str, Any]:
    """Return the JSON schema of a reply with at most so many objects, for servers that hold a
    model to one.
    """
    phrase, box = convention.phrase_key.value, convention.box_key.value
    numbers = {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}
    entry = {
        "type": "object",
        "properties": {phrase: {"type": "string"}, box: numbers},
        "required": [phrase, box],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"objects": {"type": "array", "items": entry, "maxItems": most}},
        "required": ["objects"],
        "additionalProperties": False,
    }
