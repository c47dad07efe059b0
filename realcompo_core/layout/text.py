"""Layouts as text: JSON, or one object a line."""

from __future__ import annotations

import json
from typing import Any

from ..errors import InputError, within
from .model import Box, Layout, LayoutObject

VERSION = 1


MAXIMUM_JSON = 1_000_000  # characters


def parse_json(text: str) -> Layout:
    """A layout of at least one object from JSON: see :func:`json_objects`."""
    return Layout(json_objects(text))


def json_objects(text: str) -> tuple[LayoutObject, ...]:
    """Objects from JSON: ``{"version": 1, "objects": [{"phrase": "a cat", "box": [x0, y0, x1, y1]}]}``.

    Boxes are normalised [left, top, right, bottom]; an object may add ``"tokens": [5, 6]``, the
    token positions to use instead of searching for the phrase. Raises :class:`InputError`.
    """
    if len(text) > MAXIMUM_JSON:
        raise InputError(
            "layout", f"at most {MAXIMUM_JSON} characters", str(len(text)), "Use fewer objects."
        )
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        fix = 'Write {"version": 1, "objects": [{"phrase": "a cat", "box": [0.1, 0.2, 0.5, 0.9]}]}.'
        raise InputError("layout", "JSON", str(error), fix) from error
    return _objects(data)


def to_json(layout: Layout) -> str:
    """The JSON that :func:`parse_json` reads back; masks have no JSON form and are left out."""
    objects = [_object_data(placed) for placed in layout.objects]
    return json.dumps({"version": VERSION, "objects": objects})


def parse_lines(text: str) -> Layout:
    """A layout of at least one object from lines: see :func:`line_objects`."""
    return Layout(line_objects(text))


def line_objects(text: str) -> tuple[LayoutObject, ...]:
    """Objects, one a line: ``a red cube: 0.1 0.2 0.5 0.9`` (left top right bottom, 0..1)."""
    lines = [
        (number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()
    ]
    return tuple(_line_object(number, line) for number, line in lines)


def parse(text: str) -> Layout:
    """A layout of at least one object: see :func:`parse_objects`."""
    return Layout(parse_objects(text))


def parse_objects(text: str) -> tuple[LayoutObject, ...]:
    """Objects, perhaps none, from JSON (it begins with ``{`` or ``[``) or from one object a line."""
    return json_objects(text) if text.lstrip()[:1] in ("{", "[") else line_objects(text)


def _line_object(number: int, line: str) -> LayoutObject:
    where, expected = f"line {number}", "`phrase: left top right bottom`"
    phrase, colon, numbers = line.rpartition(":")
    try:
        corners = [float(part) for part in numbers.replace(",", " ").split()]
    except ValueError as error:
        raise InputError(
            where, expected, repr(line[:80]), "Example: a red cube: 0.1 0.2 0.5 0.9"
        ) from error
    if not colon or len(corners) != 4:
        raise InputError(where, expected, repr(line[:80]), "Example: a red cube: 0.1 0.2 0.5 0.9")
    with within(where):
        return LayoutObject(phrase.strip(), Box(*corners))


def _objects(data: Any) -> tuple[LayoutObject, ...]:
    if not isinstance(data, dict) or not isinstance(data.get("objects"), list):
        raise InputError(
            "layout", 'an object with a list "objects"', _short(data), 'Add "objects": [...].'
        )
    version = data.get("version", VERSION)
    if isinstance(version, bool) or version != VERSION:
        raise InputError(
            "layout", f"version {VERSION}", _short(version), "Update ComfyUI-RealCompo."
        )
    return tuple(_object(number, item) for number, item in enumerate(data["objects"], 1))


def _object(number: int, item: Any) -> LayoutObject:
    where = f"object {number}"
    if not isinstance(item, dict) or not isinstance(item.get("phrase"), str):
        raise InputError(
            where, 'an object with a text "phrase"', _short(item), 'Add "phrase": "a cat".'
        )
    with within(where):
        return LayoutObject(
            item["phrase"], _box(item.get("box")), tokens=_tokens(item.get("tokens"))
        )


def _box(value: Any) -> Box:
    if (
        not isinstance(value, list)
        or len(value) != 4
        or not all(_is_number(part) for part in value)
    ):
        raise InputError(
            "box",
            "four numbers [left, top, right, bottom]",
            _short(value),
            "Give all four, 0 to 1.",
        )
    return Box(*map(float, value))


def _tokens(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if (
        not isinstance(value, list)
        or not value
        or not all(type(part) is int and part > 0 for part in value)
    ):
        raise InputError(
            "tokens", "a list of token positions from 1", _short(value), "Leave it out to search."
        )
    return tuple(value)


def _object_data(placed: LayoutObject) -> dict[str, Any]:
    box = [placed.box.x0, placed.box.y0, placed.box.x1, placed.box.y1]
    tokens = {"tokens": list(placed.tokens)} if placed.tokens else {}
    return {"phrase": placed.phrase, "box": box} | tokens


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**53)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
