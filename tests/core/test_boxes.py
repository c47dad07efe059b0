"""Boxes of other tools: every format, in and out, and an InputError for everything else."""

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from realcompo_core.errors import InputError
from realcompo_core.layout.boxes import Order, Unit, objects, read, to_bounding_boxes
from realcompo_core.layout.model import Box, Layout, LayoutObject
from realcompo_core.layout.regions import Canvas, Region

# As Impact Pack declares it.
SEG = namedtuple(
    "SEG",
    [
        "cropped_image",
        "cropped_mask",
        "confidence",
        "crop_region",
        "bbox",
        "label",
        "control_net_wrapper",
    ],
    defaults=[None],
)
CANVAS = Canvas(200, 100)
QUARTER = Box(0.25, 0.5, 0.75, 1.0)  # x 50, y 50, width 100, height 50
BOX = {"x": 50, "y": 50, "width": 100, "height": 50}

GARBAGE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**20, 10**400)
    | st.floats()
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from([*BOX, "metadata", "label"]), inner, max_size=6)
    ),
    max_leaves=12,
)


def found(value: Any, order: Order = Order.SIZE, unit: Unit = Unit.PIXELS) -> list[Region]:
    return read(value, CANVAS, order, unit)


def segs(**changes: Any) -> tuple:
    mask = np.zeros((60, 120), np.float32)
    mask[10:, 10:110] = 1
    seg = SEG(None, mask, 0.9, [40, 40, 160, 100], [50, 50, 150, 100], "a face")
    return (100, 200), [seg._replace(**changes)]


# Core's bounding boxes


@pytest.mark.parametrize("value", [BOX, [BOX], [[BOX]], [[BOX], [BOX, BOX]]])
def test_one_box_a_list_or_the_first_picture_of_several(value: Any) -> None:
    assert found(value) == [Region(QUARTER)]


@pytest.mark.parametrize("value", [[], [[]], [[], [BOX]], ((64, 64), [])])
def test_no_boxes_are_no_regions(value: Any) -> None:
    assert found(value) == []


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("unit", Unit)
def test_bounding_boxes_know_their_order_and_unit(order: Order, unit: Unit) -> None:
    assert found([BOX], order, unit) == [Region(QUARTER)]


@pytest.mark.parametrize(
    ("extra", "phrase"),
    [
        ({"metadata": {"type": "obj", "text": "", "desc": " a cat "}}, "a cat"),
        ({"metadata": {"text": "SALE", "desc": ""}}, "SALE"),
        ({"metadata": {"label": "cat"}, "label": "dog"}, "cat"),
        ({"label": "dog", "score": 0.5}, "dog"),
        ({"metadata": None, "label": 3}, ""),
    ],
)
def test_a_description_or_a_label_is_the_phrase(extra: dict, phrase: str) -> None:
    assert found([BOX | extra])[0].phrase == phrase


# Plain boxes


@pytest.mark.parametrize(
    ("numbers", "order", "unit"),
    [
        ((50, 50, 100, 50), Order.SIZE, Unit.PIXELS),
        ((50, 50, 150, 100), Order.CORNERS, Unit.PIXELS),
        ((0.25, 0.5, 0.5, 0.5), Order.SIZE, Unit.SHARES),
        ((0.25, 0.5, 0.75, 1.0), Order.CORNERS, Unit.SHARES),
    ],
)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda box: box,
        lambda box: [box],
        lambda box: [list(box)],
        lambda box: [[box], [box]],
        lambda box: np.array([box], np.float32),
        lambda box: torch.tensor([box], dtype=torch.float64),
        lambda box: [torch.tensor(box, dtype=torch.float64)],
    ],
)
def test_plain_boxes_in_every_order_unit_and_wrapping(
    numbers: tuple, order: Order, unit: Unit, wrap: Any
) -> None:
    assert found(wrap(numbers), order, unit) == [Region(QUARTER)]


@pytest.mark.parametrize(
    ("value", "unit", "message"),
    [
        ([(0, 0, 201.5, 10)], Unit.PIXELS, "box 1, box: expected corners within 200 x 100 pixels"),
        ([(0, 0, 10, 10), (0, -2, 10, 10)], Unit.PIXELS, "box 2, box"),
        ([(0, 0, 1.1, 1)], Unit.SHARES, "corners within"),
        ([(0, 0, 0, 10)], Unit.PIXELS, "a box with an area"),
        ([(0, 0, -10, 10)], Unit.PIXELS, "corners within"),
        ([(5, 5, -4, 10)], Unit.PIXELS, "Swap"),
        ([(0, 0, 10)], Unit.PIXELS, "four numbers"),
        ([(0, 0, 10, None)], Unit.PIXELS, "four numbers"),
        ([(0, 0, 10, float("nan"))], Unit.PIXELS, "four numbers"),
        ([(0, 0, 10, True)], Unit.PIXELS, "four numbers"),
        ([(0, 0, 10, 10**400)], Unit.PIXELS, "four numbers"),
        ([{"x": 1, "y": 1, "width": 5}], Unit.PIXELS, "four numbers"),
        ("1 2 3 4", Unit.PIXELS, "BOUNDING_BOX, BBOX or SEGS"),
        (None, Unit.PIXELS, "BOUNDING_BOX, BBOX or SEGS"),
    ],
)
def test_bad_boxes_are_told(value: Any, unit: Unit, message: str) -> None:
    with pytest.raises(InputError, match=message):
        found(value, unit=unit)


@given(GARBAGE, st.sampled_from(Order), st.sampled_from(Unit))
def test_garbage_is_boxes_or_an_input_error(value: Any, order: Order, unit: Unit) -> None:
    try:
        regions = read(value, CANVAS, order, unit)
    except InputError:
        return
    assert all(isinstance(region, Region) for region in regions)


# Impact Pack's segments


def test_a_segment_keeps_its_label_and_mask() -> None:
    (region,) = found(segs())
    assert (region.phrase, region.box) == ("a face", QUARTER)
    expected = torch.zeros(100, 200)
    expected[50:100, 50:150] = 1
    assert torch.equal(region.mask, expected)


def test_segments_have_their_own_size() -> None:
    (region,) = read(segs(), Canvas(64, 64), Order.CORNERS, Unit.SHARES)
    assert region.box == QUARTER


@pytest.mark.parametrize(
    "mask",
    [
        torch.ones(60, 120),
        torch.ones(1, 60, 120),
        torch.stack([torch.zeros(60, 120), torch.ones(60, 120)]),
        np.full((60, 120), 255, np.uint8),
        np.ones((60, 120), bool),
    ],
)
def test_masks_of_segments_come_in_several_kinds(mask: Any) -> None:
    (region,) = found(segs(cropped_mask=mask))
    assert region.mask.shape == (100, 200) and region.mask[40:100, 40:160].eq(1).all()
    assert float(region.mask.sum()) == 60 * 120


def test_a_segment_without_a_mask_is_its_box() -> None:
    assert found(segs(cropped_mask=None)) == [Region(QUARTER, "a face")]


@pytest.mark.parametrize(
    "changes", [{"crop_region": [0, 0, 5, 5]}, {"crop_region": [140, 40, 260, 100]}]
)
def test_a_mask_that_is_not_its_crop_is_an_error(changes: dict) -> None:
    with pytest.raises(InputError, match="segment 1, mask"):
        found(segs(**changes))


def test_more_segments_than_a_layout_holds_are_refused() -> None:
    size, found_segs = segs()
    with pytest.raises(InputError, match="boxes: expected at most 256 regions, got 257"):
        found((size, found_segs * 257))


# Out


@given(st.lists(st.tuples(*[st.integers(0, 2**16)] * 4), min_size=1, max_size=5))
def test_what_goes_out_comes_back(corners: list[tuple[int, int, int, int]]) -> None:
    canvas = Canvas(640, 384)
    boxes = []
    for a, b, c, d in corners:
        x, y = a % 640, b % 384
        boxes.append(canvas.box(x, y, x + 1 + c % (640 - x), y + 1 + d % (384 - y)))
    layout = Layout(tuple(LayoutObject(f"object {i}", box) for i, box in enumerate(boxes)))
    back = objects(to_bounding_boxes(layout, canvas), canvas, Order.CORNERS, Unit.SHARES, "")
    assert [placed.phrase for placed in back] == [placed.phrase for placed in layout.objects]
    for placed, box in zip(back, boxes, strict=True):
        assert (placed.box.x0, placed.box.y1) == (pytest.approx(box.x0), pytest.approx(box.y1))


@given(st.floats(0, 0.9997), st.floats(2e-4, 1), st.integers(1, 64))
def test_boxes_out_are_whole_pixels_inside_of_the_picture(
    left: float, width: float, side: int
) -> None:
    layout = Layout((LayoutObject("a cat", Box(left, 0, min(left + width, 1), 1)),))
    ((box,),) = to_bounding_boxes(layout, Canvas(side, side))
    assert all(type(box[key]) is int for key in BOX)
    assert box["width"] >= 1 and box["x"] >= 0 and box["x"] + box["width"] <= side


def test_a_layout_passes_with_masks_and_tokens() -> None:
    layout = Layout((LayoutObject("a cat", QUARTER, torch.ones(2, 2), tokens=(3,)),))
    assert objects(layout, CANVAS, Order.SIZE, Unit.PIXELS, "") is layout.objects
