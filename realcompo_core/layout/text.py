"""Layouts as text: JSON, or one object a line."""

from __future__ import annotations

import json
from typing import Any

from ..errors import InputError, brief, within
from .model import Box, Layout, LayoutObject

VERSION = 1
MAXIMUM_JSON = 1_000_000  # characters
LARGEST = 2**53  # integer that a float still holds exactly


def parse_json(text: str) -> Layout:
    """Return a layout of at least one object from JSON: see :func:`json_objects`."""
    return Layout(json_objects(text))


def json_objects(text: str) -> tuple[LayoutObject, ...]:
    """Return the objects of ``{"version": 1, "objects": [{"phrase": "a cat", "box": [...]}]}``.

    Boxes are normalised [left, top, right, bottom]; an object may add ``"tokens": [5, 6]``, the
    token positions to use instead of searching for the phrase. Raises :class:`InputError`.
    """
    if len(text) > MAXIMUM_JSON:
        expected = f"at most {MAXIMUM_JSON} characters"
        raise InputError("layout", expected, str(len(text)), "Use fewer objects.")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        fix = 'Write {"version": 1, "objects": [{"phrase": "a cat", "box": [0.1, 0.2, 0.5, 0.9]}]}.'
        raise InputError("layout", "JSON", str(error), fix) from error
    return _objects(data)


def to_json(layout: Layout) -> str:
    """Return the JSON that :func:`parse_json` reads back; masks have none and are left out."""
    objects = [_object_data(placed) for placed in layout.objects]
    return json.dumps({"version": VERSION, "objects": objects})


def parse_lines(text: str) -> Layout:
    """Return a layout of at least one object from lines: see :func:`line_objects`."""
    return Layout(line_objects(text))


def line_objects(text: str) -> tuple[LayoutObject, ...]:
    """Return the objects of lines ``a red cube: 0.1 0.2 0.5 0.9`` (left top right bottom, 0..1).

    Raises :class:`InputError` for a line that is neither that nor empty.
    """
    lines = enumerate(text.splitlines(), 1)
    return tuple(_line_object(number, line.strip()) for number, line in lines if line.strip())


def parse(text: str) -> Layout:
    """Return a layout of at least one object: see :func:`parse_objects`."""
    return Layout(parse_objects(text))


def parse_objects(text: str) -> tuple[LayoutObject, ...]:
    """Return the objects, perhaps none, of JSON (it begins with ``{`` or ``[``) or of lines.

    Raises :class:`InputError`: see :func:`json_objects` and :func:`line_objects`.
    """
    return json_objects(text) if text.lstrip()[:1] in ("{", "[") else line_objects(text)


def _line_object(number: int, line: str) -> LayoutObject:
    phrase, colon, numbers = line.rpartition(":")
    corners = _floats(numbers)
    if not colon or len(corners) != 4:
        fix = "Example: a red cube: 0.1 0.2 0.5 0.9"
        raise InputError(f"line {number}", "`phrase: left top right bottom`", brief(line), fix)
    with within(f"line {number}"):
        return LayoutObject(phrase.strip(), Box(*corners))


def _floats(text: str) -> list[float]:
    """Return the numbers between spaces and commas, none where anything else stands there."""
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        return []


def _objects(data: Any) -> tuple[LayoutObject, ...]:
    if not isinstance(data, dict) or not isinstance(data.get("objects"), list):
        expected, fix = 'an object with a list "objects"', 'Add "objects": [...].'
        raise InputError("layout", expected, brief(data), fix)
    version = data.get("version", VERSION)
    if isinstance(version, bool) or version != VERSION:
        fix = "Update ComfyUI-RealCompo."
        raise InputError("layout", f"version {VERSION}", brief(version), fix)
    return tuple(_object(number, item) for number, item in enumerate(data["objects"], 1))


def _object(number: int, item: Any) -> LayoutObject:
    where = f"object {number}"
    if not isinstance(item, dict) or not isinstance(item.get("phrase"), str):
        expected, fix = 'an object with a text "phrase"', 'Add "phrase": "a cat".'
        raise InputError(where, expected, brief(item), fix)
    with within(where):
        box, tokens = _box(item.get("box")), _tokens(item.get("tokens"))
        return LayoutObject(item["phrase"], box, tokens=tokens)


def _box(value: Any) -> Box:
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)):
        expected = "four numbers [left, top, right, bottom]"
        raise InputError("box", expected, brief(value), "Give all four, 0 to 1.")
    return Box(*map(float, value))


def _tokens(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(map(_is_position, value)):
        expected = "a list of token positions from 1"
        raise InputError("tokens", expected, brief(value), "Leave it out to search.")
    return tuple(value)


def _object_data(placed: LayoutObject) -> dict[str, Any]:
    box = [placed.box.x0, placed.box.y0, placed.box.x1, placed.box.y1]
    tokens = {"tokens": list(placed.tokens)} if placed.tokens else {}
    return {"phrase": placed.phrase, "box": box} | tokens


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < LARGEST)


def _is_position(value: Any) -> bool:
    return type(value) is int and value > 0
