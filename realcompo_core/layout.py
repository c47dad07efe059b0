"""Layouts: which object stands where, free of any resolution."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .errors import InputError, within

VERSION = 1
MINIMUM_SIDE = 1e-4  # of the canvas: 0.05 pixels at 512
MAXIMUM_ENTITIES = 256
MAXIMUM_CELLS = 2**30  # of all regions together: 4 GiB
MAXIMUM_JSON = 1_000_000  # characters


@dataclass(frozen=True)
class Box:
    """An axis-aligned box in normalised coordinates: 0..1 of the canvas, origin at the top left.

    Raises :class:`InputError` for corners that are outside [0, 1], swapped, equal or not finite.
    """

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        corners = (self.x0, self.y0, self.x1, self.y1)
        if not all(math.isfinite(value) and 0 <= value <= 1 for value in corners):
            fix = "Boxes are normalised: divide pixels by the canvas width and height."
            raise InputError("box", "corners between 0 and 1", str(list(corners)), fix)
        if self.x1 < self.x0 or self.y1 < self.y0:
            raise InputError("box", "[left, top, right, bottom]", str(list(corners)), "Swap the corners.")
        if min(self.x1 - self.x0, self.y1 - self.y0) < MINIMUM_SIDE:
            raise InputError("box", "a box with an area", str(list(corners)), "Make the box wider and taller.")


@dataclass(frozen=True)
class Entity:
    """One object of the layout: its phrase in the prompt and the region where it belongs.

    ``mask`` [H, W], values 0..1 over the whole canvas, replaces the box as the region where it is
    given; ``tokens`` are token positions that override the search for the phrase.
    """

    phrase: str
    box: Box
    mask: Tensor | None = field(default=None, compare=False, repr=False)
    tokens: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.phrase.strip():
            raise InputError("phrase", "the object's words in the prompt", "nothing", "Name the object, or delete it.")
        if self.mask is not None and not (self.mask > 0).any():
            raise InputError("mask", "a mask with an area", "an empty one", "Paint the object's region.")

    def region(self, height: int, width: int) -> Tensor:
        """The region [height, width] in cells of any grid: the covered share of each cell, 0..1."""
        if self.mask is not None:
            return resample(self.mask.double(), height, width).clamp(0, 1).float()
        rows = interval_overlap([self.box.y0, self.box.y1], height)
        columns = interval_overlap([self.box.x0, self.box.x1], width)
        return (rows.T @ columns).float()


@dataclass(frozen=True)
class Layout:
    """The objects of one picture, in drawing order."""

    entities: tuple[Entity, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.entities) <= MAXIMUM_ENTITIES:
            expected = f"1 to {MAXIMUM_ENTITIES} objects"
            raise InputError("layout", expected, str(len(self.entities)), "Add an object with a phrase and a box.")

    def rasterise(self, height: int, width: int) -> Tensor:
        """Regions [objects, height, width]: covered share of each cell (anti-aliased, never empty).

        Raises :class:`InputError` where that is more than :data:`MAXIMUM_CELLS`.
        """
        cells = len(self.entities) * height * width
        if cells > MAXIMUM_CELLS:
            expected = f"at most {MAXIMUM_CELLS} pixels of masks"
            raise InputError("layout", expected, str(cells), "Make the picture smaller or use fewer objects.")
        return torch.stack([entity.region(height, width) for entity in self.entities])


def interval_overlap(edges: Sequence[float], cells: int) -> Tensor:
    """Share of each of ``cells`` equal cells covered by each interval between ``edges``.

    ``edges`` are n+1 ascending normalised positions; returns [n, cells] in float64, 0..1, whose
    rows sum to each interval's length in cells.
    """
    edge = torch.tensor(list(edges), dtype=torch.float64) * cells
    start = torch.arange(cells, dtype=torch.float64)
    high = torch.minimum(edge[1:, None], start + 1)
    low = torch.maximum(edge[:-1, None], start)
    return (high - low).clamp(0, 1)


def resample(regions: Tensor, height: int, width: int) -> Tensor:
    """Area-resample [..., H, W] to [..., height, width] for any sizes; the mean is conserved."""
    source_height, source_width = regions.shape[-2:]
    if (source_height, source_width) == (height, width):
        return regions.clone()  # a graph can't hold a tensor that was made in inference mode
    rows = interval_overlap(torch.linspace(0, 1, source_height + 1, dtype=torch.float64).tolist(), height)
    columns = interval_overlap(torch.linspace(0, 1, source_width + 1, dtype=torch.float64).tolist(), width)
    rows, columns = rows.to(regions), columns.to(regions)
    return rows.T @ regions @ columns


def parse_json(text: str) -> Layout:
    """A layout of at least one object from JSON: see :func:`json_entities`."""
    return Layout(json_entities(text))


def json_entities(text: str) -> tuple[Entity, ...]:
    """Objects from JSON: ``{"version": 1, "objects": [{"phrase": "a cat", "box": [x0, y0, x1, y1]}]}``.

    Boxes are normalised [left, top, right, bottom]; an object may add ``"tokens": [5, 6]``, the
    token positions to use instead of searching for the phrase. Raises :class:`InputError`.
    """
    if len(text) > MAXIMUM_JSON:
        raise InputError("layout", f"at most {MAXIMUM_JSON} characters", str(len(text)), "Use fewer objects.")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        fix = 'Write {"version": 1, "objects": [{"phrase": "a cat", "box": [0.1, 0.2, 0.5, 0.9]}]}.'
        raise InputError("layout", "JSON", str(error), fix) from error
    return _entities(data)


def to_json(layout: Layout) -> str:
    """The JSON that :func:`parse_json` reads back; masks have no JSON form and are left out."""
    objects = [_entity_data(entity) for entity in layout.entities]
    return json.dumps({"version": VERSION, "objects": objects})


def parse_lines(text: str) -> Layout:
    """A layout of at least one object from lines: see :func:`line_entities`."""
    return Layout(line_entities(text))


def line_entities(text: str) -> tuple[Entity, ...]:
    """Objects, one a line: ``a red cube: 0.1 0.2 0.5 0.9`` (left top right bottom, 0..1)."""
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    return tuple(_line_entity(number, line) for number, line in lines)


def parse(text: str) -> Layout:
    """A layout of at least one object: see :func:`parse_entities`."""
    return Layout(parse_entities(text))


def parse_entities(text: str) -> tuple[Entity, ...]:
    """Objects, perhaps none, from JSON (it begins with ``{`` or ``[``) or from one object a line."""
    return json_entities(text) if text.lstrip()[:1] in ("{", "[") else line_entities(text)


def _line_entity(number: int, line: str) -> Entity:
    where, expected = f"line {number}", "`phrase: left top right bottom`"
    phrase, colon, numbers = line.rpartition(":")
    try:
        corners = [float(part) for part in numbers.replace(",", " ").split()]
    except ValueError as error:
        raise InputError(where, expected, repr(line[:80]), "Example: a red cube: 0.1 0.2 0.5 0.9") from error
    if not colon or len(corners) != 4:
        raise InputError(where, expected, repr(line[:80]), "Example: a red cube: 0.1 0.2 0.5 0.9")
    with within(where):
        return Entity(phrase.strip(), Box(*corners))


def _entities(data: Any) -> tuple[Entity, ...]:
    if not isinstance(data, dict) or not isinstance(data.get("objects"), list):
        raise InputError("layout", 'an object with a list "objects"', _short(data), 'Add "objects": [...].')
    version = data.get("version", VERSION)
    if isinstance(version, bool) or version != VERSION:
        raise InputError("layout", f"version {VERSION}", _short(version), "Update ComfyUI-RealCompo.")
    return tuple(_entity(number, item) for number, item in enumerate(data["objects"], 1))


def _entity(number: int, item: Any) -> Entity:
    where = f"object {number}"
    if not isinstance(item, dict) or not isinstance(item.get("phrase"), str):
        raise InputError(where, 'an object with a text "phrase"', _short(item), 'Add "phrase": "a cat".')
    with within(where):
        return Entity(item["phrase"], _box(item.get("box")), tokens=_tokens(item.get("tokens")))


def _box(value: Any) -> Box:
    if not isinstance(value, list) or len(value) != 4 or not all(_is_number(part) for part in value):
        raise InputError("box", "four numbers [left, top, right, bottom]", _short(value), "Give all four, 0 to 1.")
    return Box(*map(float, value))


def _tokens(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(type(part) is int and part > 0 for part in value):
        raise InputError("tokens", "a list of token positions from 1", _short(value), "Leave it out to search.")
    return tuple(value)


def _entity_data(entity: Entity) -> dict[str, Any]:
    box = [entity.box.x0, entity.box.y0, entity.box.x1, entity.box.y1]
    tokens = {"tokens": list(entity.tokens)} if entity.tokens else {}
    return {"phrase": entity.phrase, "box": box} | tokens


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**53)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
