"""Layouts: geometry at any resolution, JSON and lines in and out, and an InputError for everything
else.
"""

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from realcompo_core.errors import InputError
from realcompo_core.layout.model import MAXIMUM_OBJECTS, Box, Layout, LayoutObject, resample
from realcompo_core.layout.text import (
    MAXIMUM_JSON,
    parse,
    parse_json,
    parse_lines,
    parse_objects,
    to_json,
)

SIDES = st.integers(1, 128)
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)  # lone surrogates too
GARBAGE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**20, 10**400)
    | st.floats()
    | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=8,
)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    left, top = draw(st.floats(0, 0.99)), draw(st.floats(0, 0.99))
    width, height = draw(st.floats(2e-4, 1)), draw(st.floats(2e-4, 1))
    return Box(left, top, min(left + width, 1), min(top + height, 1))


PHRASES = ANY_TEXT.filter(str.strip)
TOKENS = st.none() | st.lists(st.integers(1, 500), min_size=1, max_size=4).map(tuple)
OBJECTS = st.builds(LayoutObject, PHRASES, boxes(), tokens=TOKENS)
LAYOUTS = st.builds(Layout, st.lists(OBJECTS, min_size=1, max_size=4).map(tuple))


def one_object(**changes: Any) -> dict:
    return {"version": 1, "objects": [{"phrase": "a cat", "box": [0.1, 0.2, 0.5, 0.9]} | changes]}


# Geometry


@given(boxes(), SIDES, SIDES)
def test_a_box_keeps_its_area_at_any_size(box: Box, height: int, width: int) -> None:
    region = LayoutObject("a cat", box).region(height, width)
    area = (box.x1 - box.x0) * (box.y1 - box.y0) * height * width
    assert region.shape == (height, width)
    assert float(region.double().sum()) == pytest.approx(area, rel=1e-4)
    assert region.min() >= 0 and 0 < region.max() <= 1


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 2**32))
def test_a_mask_keeps_its_mean_at_any_size(
    rows: int, columns: int, height: int, width: int, seed: int
) -> None:
    mask = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)).clamp(min=1e-3)
    region = LayoutObject("a cat", Box(0, 0, 1, 1), mask).region(height, width)
    assert float(region.mean()) == pytest.approx(float(mask.mean()), rel=1e-4)
    assert float(resample(mask, height, width).mean()) == pytest.approx(
        float(mask.mean()), rel=1e-4
    )
    assert region.min() >= 0 and 0 < region.max() <= 1


def test_regions_that_no_memory_holds_are_refused() -> None:
    layout = Layout((LayoutObject("a cat", Box(0, 0, 1, 1)),) * 256)
    with pytest.raises(InputError, match="pixels of masks"):
        layout.rasterise(4096, 4096)


@pytest.mark.parametrize("text", ["", " \n", '{"objects": []}'])
def test_a_text_may_have_no_objects_but_a_layout_may_not(text: str) -> None:
    assert parse_objects(text) == ()
    with pytest.raises(InputError, match="1 to 256 objects, got 0"):
        parse(text)


@given(SIDES, SIDES, SIDES, SIDES)
def test_a_single_mask_pixel_never_vanishes(
    rows: int, columns: int, height: int, width: int
) -> None:
    mask = torch.zeros(rows, columns)
    mask[rows // 2, columns // 2] = 1
    region = LayoutObject("a cat", Box(0, 0, 1, 1), mask).region(height, width)
    assert region.sum() > 0


def test_cells_hold_the_share_that_is_covered() -> None:
    region = LayoutObject("a cat", Box(0.25, 0, 1, 0.5)).region(2, 2)
    assert region.tolist() == [[0.5, 1], [0, 0]]


def test_a_mask_replaces_the_box() -> None:
    for mask in (torch.tensor([[0.0, 1.0]]), torch.tensor([[False, True]])):
        assert LayoutObject("a cat", Box(0, 0, 0.5, 1), mask).region(1, 4).tolist() == [
            [0, 0, 1, 1]
        ]


def test_rows_go_down_and_columns_go_right() -> None:
    layout = Layout(
        (LayoutObject("top", Box(0, 0, 1, 0.5)), LayoutObject("left", Box(0, 0, 0.5, 1)))
    )
    top, left = layout.rasterise(2, 2)
    assert top.tolist() == [[1, 1], [0, 0]] and left.tolist() == [[1, 0], [1, 0]]


@given(SIDES, SIDES)
def test_resampling_to_the_same_size_changes_nothing(height: int, width: int) -> None:
    maps = torch.rand(2, height, width, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resample(maps, height, width), maps)


# Reading and writing


@given(LAYOUTS)
def test_json_round_trip(layout: Layout) -> None:
    assert parse(to_json(layout)) == layout


@pytest.mark.parametrize("line", ["a red cube: 0.1 0.2 0.5 0.9", " a red cube :0.1,0.2, 0.5 ,0.9 "])
def test_a_line_is_a_phrase_and_four_numbers(line: str) -> None:
    expected = Layout((LayoutObject("a red cube", Box(0.1, 0.2, 0.5, 0.9)),))
    assert parse_lines(line) == parse(line) == expected


def test_blank_lines_and_colons_in_phrases_are_fine() -> None:
    layout = parse("\n  at 7:30: 0 0 1 1\n\r\n dog: 0 0 .5 .5\n")
    assert [placed.phrase for placed in layout.objects] == ["at 7:30", "dog"]


def test_version_and_tokens_may_be_left_out() -> None:
    (placed,) = parse('{"objects": [{"phrase": "a cat", "box": [0, 0, 1, 1]}]}').objects
    assert placed == LayoutObject("a cat", Box(0, 0, 1, 1), tokens=None)


def test_as_many_objects_as_the_maximum_are_read() -> None:
    assert (
        len(parse(json.dumps({"objects": one_object()["objects"] * MAXIMUM_OBJECTS})).objects)
        == MAXIMUM_OBJECTS
    )


# Bad layouts

OUTSIDE = (
    st.floats(max_value=-1e-9)
    | st.floats(min_value=1.0000001)
    | st.sampled_from([math.nan, math.inf, 10**400])
)
NOT_A_NUMBER = (
    st.none()
    | st.booleans()
    | ANY_TEXT
    | st.lists(st.floats(0, 1), max_size=2)
    | st.integers(2**53)
)
CORNERS = st.lists(st.floats(0, 1), min_size=4, max_size=4)
BAD_BOXES = (
    st.builds(
        lambda box, at, bad: [*box[:at], bad, *box[at + 1 :]],
        CORNERS,
        st.integers(0, 3),
        OUTSIDE | NOT_A_NUMBER,
    )
    | CORNERS.map(lambda box: [max(box[0], box[2]), box[1], min(box[0], box[2]), box[3]])
    | CORNERS.map(lambda box: [box[0], box[3], box[2], box[3]])
    | st.lists(st.floats(0, 1), max_size=8).filter(lambda box: len(box) != 4)
    | GARBAGE.filter(lambda box: not isinstance(box, list))
)
BAD_PHRASES = st.sampled_from(["", " ", "\n\t", "\u3000"]) | GARBAGE.filter(
    lambda value: not isinstance(value, str)
)
BAD_TOKENS = st.lists(
    st.integers(max_value=0) | st.floats() | st.booleans() | st.none() | ANY_TEXT, max_size=4
) | (GARBAGE.filter(lambda value: value is not None and not isinstance(value, list)))
BAD_VERSIONS = GARBAGE.filter(lambda value: isinstance(value, bool) or value != 1)
BAD_OBJECTS = (
    st.just([])
    | st.lists(GARBAGE, min_size=1, max_size=4)
    | GARBAGE.filter(lambda v: not isinstance(v, list))
)
BAD_TEXTS = st.one_of(
    st.fixed_dictionaries({"box": BAD_BOXES}).map(lambda bad: json.dumps(one_object(**bad))),
    st.fixed_dictionaries({"phrase": BAD_PHRASES}).map(lambda bad: json.dumps(one_object(**bad))),
    st.fixed_dictionaries({"tokens": BAD_TOKENS}).map(lambda bad: json.dumps(one_object(**bad))),
    BAD_VERSIONS.map(lambda bad: json.dumps(one_object() | {"version": bad})),
    BAD_OBJECTS.map(lambda bad: json.dumps(one_object() | {"objects": bad})),
    LAYOUTS.map(to_json).flatmap(
        lambda text: st.integers(0, len(text) - 1).map(lambda end: text[:end])
    ),
)
MUTATED_TEXTS = st.builds(
    lambda text, at, drop, junk: text[: at % len(text)] + junk + text[at % len(text) + drop :],
    LAYOUTS.map(to_json),
    st.integers(0, 1000),
    st.integers(0, 20),
    ANY_TEXT
    | st.sampled_from(
        ["NaN", "-Infinity", "1e999", "9" * 5000, "[" * 2000, '{"a":' * 2000, "\\ud800", "\0"]
    ),
)


@settings(max_examples=1200)
@given(BAD_TEXTS)
def test_a_bad_layout_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert caught.value.field and caught.value.expected and caught.value.got and caught.value.fix


@settings(max_examples=1000)
@given(GARBAGE.map(json.dumps) | MUTATED_TEXTS | ANY_TEXT)
def test_any_text_is_a_layout_or_an_input_error(text: str) -> None:
    try:
        layout = parse(text)
    except InputError as error:
        assert str(error).startswith(error.field)
    else:
        assert parse(to_json(layout)) == layout


@pytest.mark.parametrize("opening", ["[", '{"objects":', '{"objects":[{"box":['])
@pytest.mark.parametrize("depth", [100, 400, 900, 1000, 40_000])
def test_deep_nesting_is_an_input_error(opening: str, depth: int) -> None:
    closing = opening[::-1].translate(str.maketrans("[{", "]}", '":abcejkostx'))
    for text in (opening * depth, opening * depth + "1" + closing * depth):
        with pytest.raises(InputError):
            parse(text)


def test_a_hundred_thousand_brackets_are_an_input_error() -> None:
    with pytest.raises(InputError, match="layout: expected JSON"):
        parse("[" * 100_000)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(one_object()) + " " * MAXIMUM_JSON,
        "x" * (2 * MAXIMUM_JSON),
        "a: 0 0 1 " + "9" * MAXIMUM_JSON,
    ],
)
def test_huge_text_is_an_input_error_with_a_short_message(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert len(str(caught.value)) < 400


BROKEN = [
    ("{", "layout", "JSON", "line 1 column 2", 'Write {"version": 1'),
    ("[]", "layout", 'a list "objects"', "[]", 'Add "objects"'),
    ({"objects": "cat"}, "layout", 'a list "objects"', "{'objects': 'cat'}", 'Add "objects"'),
    ({"objects": []}, "layout", "1 to 256 objects", "0", "Add an object"),
    (
        {"objects": one_object()["objects"] * 257},
        "layout",
        "1 to 256 objects",
        "257",
        "Delete objects",
    ),
    (one_object() | {"version": 2}, "layout", "version 1", "2", "Update"),
    (one_object() | {"version": True}, "layout", "version 1", "True", "Update"),
    (
        one_object(box=[0, 0, 1, 10**400]),
        "object 1, box",
        "four numbers",
        "[0, 0, 1, 1000",
        "Give all four",
    ),
    ({"objects": [7]}, "object 1", 'a text "phrase"', "7", 'Add "phrase"'),
    (
        one_object(phrase=" "),
        "object 1, phrase",
        "the object's words",
        "nothing",
        "Name the object",
    ),
    (one_object(box=[0, 0, 1]), "object 1, box", "four numbers", "[0, 0, 1]", "Give all four"),
    (
        one_object(box=[0, 0, 1, "1"]),
        "object 1, box",
        "four numbers",
        "[0, 0, 1, '1']",
        "Give all four",
    ),
    (
        one_object(box=[0, 0, 512, 512]),
        "object 1, box",
        "between 0 and 1",
        "512.0",
        "divide pixels",
    ),
    (
        one_object(box=[0, 0, math.nan, 1]),
        "object 1, box",
        "between 0 and 1",
        "nan",
        "divide pixels",
    ),
    (
        one_object(box=[0.5, 0, 0.1, 1]),
        "object 1, box",
        "[left, top, right, bottom]",
        "[0.5, 0.0, 0.1",
        "Swap",
    ),
    (
        one_object(box=[0.5, 0, 0.5, 1]),
        "object 1, box",
        "a box with an area",
        "[0.5, 0.0, 0.5",
        "Make the box wider",
    ),
    (one_object(tokens=[]), "object 1, tokens", "token positions from 1", "[]", "Leave it out"),
    (one_object(tokens=[0]), "object 1, tokens", "token positions from 1", "[0]", "Leave it out"),
    (
        one_object(tokens=[True]),
        "object 1, tokens",
        "token positions from 1",
        "[True]",
        "Leave it out",
    ),
    ("a cat: 0 0 1", "line 1", "`phrase: left top right bottom`", "'a cat: 0 0 1'", "Example:"),
    (
        "\na cat: 0 0 1 x",
        "line 2",
        "`phrase: left top right bottom`",
        "'a cat: 0 0 1 x'",
        "Example:",
    ),
    ("0 0 1 1", "line 1", "`phrase: left top right bottom`", "'0 0 1 1'", "Example:"),
    ("a cat: 0 0 1 2", "line 1, box", "between 0 and 1", "[0.0, 0.0, 1.0, 2.0]", "divide pixels"),
    (": 0 0 1 1", "line 1, phrase", "the object's words", "nothing", "Name the object"),
    ("", "layout", "1 to 256 objects", "0", "Add an object"),
]


@pytest.mark.parametrize(("bad", "field", "expected", "got", "fix"), BROKEN)
def test_the_message_names_field_expected_got_and_fix(
    bad: Any, field: str, expected: str, got: str, fix: str
) -> None:
    with pytest.raises(InputError) as caught:
        parse(bad if isinstance(bad, str) else json.dumps(bad))
    error = caught.value
    assert error.field == field
    assert expected in error.expected and got in error.got and fix in error.fix
    assert str(error) == f"{error.field}: expected {error.expected}, got {error.got}. {error.fix}"


@pytest.mark.parametrize(
    "mask", [torch.zeros(4, 4), torch.full((1, 1), torch.nan), torch.zeros(0, 3)]
)
def test_an_empty_mask_is_an_input_error(mask: Tensor) -> None:
    with pytest.raises(InputError, match="mask: expected a mask with an area"):
        LayoutObject("a cat", Box(0, 0, 1, 1), mask)


def test_json_must_be_json_even_where_lines_would_do() -> None:
    with pytest.raises(InputError, match="expected JSON"):
        parse_json("a cat: 0 0 1 1")


@given(CORNERS)
def test_a_box_exists_only_with_an_area_inside_the_canvas(corners: list[float]) -> None:
    x0, y0, x1, y1 = corners
    assume(x1 - x0 < 1e-4 or y1 - y0 < 1e-4)
    with pytest.raises(InputError, match="box"):
        Box(x0, y0, x1, y1)


def test_resampled_regions_can_be_part_of_a_graph_even_at_their_own_size() -> None:
    with torch.inference_mode():
        regions = torch.rand(1, 4, 4)
    for size in ((4, 4), (2, 2)):
        weight = torch.ones(1, *size, requires_grad=True)
        (weight * resample(regions, *size)).sum().backward()
        assert weight.grad is not None
