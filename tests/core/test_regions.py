"""Regions: phrases for those without one, and masks with their extent."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from realcompo_core.errors import InputError
from realcompo_core.layout.model import MAXIMUM_OBJECTS, Box
from realcompo_core.layout.regions import (
    Canvas,
    Region,
    assign,
    extent,
    from_masks,
    left_to_right,
    name,
)

HALF = Box(0, 0, 0.5, 0.5)


# Phrases


@pytest.mark.parametrize(
    ("text", "count", "phrases"),
    [
        ("a cat", 3, ("a cat",) * 3),
        ("a cat\n\n  a dog \n", 2, ("a cat", "a dog")),
        ("a cat\na dog", 0, ()),
        ("", 0, ()),
    ],
)
def test_phrases_are_one_a_line_or_one_for_all(
    text: str, count: int, phrases: tuple[str, ...]
) -> None:
    assert assign(text, count) == phrases


@pytest.mark.parametrize(("text", "count"), [("", 1), ("\n \n", 2), ("a\nb", 1), ("a\nb", 3)])
def test_too_few_or_too_many_phrases_are_an_error(text: str, count: int) -> None:
    with pytest.raises(InputError, match="phrases: expected"):
        assign(text, count)


def test_only_regions_without_a_phrase_take_a_line() -> None:
    mask = torch.ones(2, 2)
    objects = name([Region(HALF), Region(HALF, "a dog", mask), Region(HALF)], "a cat\na bird")
    assert [placed.phrase for placed in objects] == ["a cat", "a dog", "a bird"]
    assert objects[1].mask is mask


def test_left_to_right_is_by_the_middle() -> None:
    boxes = [Box(0.5, 0, 0.6, 1), Box(0, 0, 1, 1), Box(0.1, 0, 0.2, 1)]
    assert [region.box for region in left_to_right([Region(box) for box in boxes])] == [
        boxes[2],
        boxes[1],
        boxes[0],
    ]


# Boxes in pixels


def test_a_fraction_of_a_pixel_outside_is_cut_off() -> None:
    assert Canvas(200, 100).box(-0.9, 0, 200.9, 50) == Box(0, 0, 1, 0.5)


@pytest.mark.parametrize(
    "corners", [(-1, 0, 9, 9), (0, 0, 101, 9), (0, 0, 9, 51), (0, math.nan, 9, 9)]
)
def test_a_box_outside_is_an_error_with_the_size(
    corners: tuple[float, float, float, float],
) -> None:
    with pytest.raises(InputError, match="within 100 x 50 pixels"):
        Canvas(100, 50).box(*corners)


def test_a_picture_has_a_size() -> None:
    with pytest.raises(InputError, match="a picture, got 0 x 5"):
        Canvas(0, 5)


# Masks


@given(st.data(), st.integers(1, 24), st.integers(1, 24))
def test_the_extent_of_a_filled_box_is_that_box(
    data: st.DataObject, height: int, width: int
) -> None:
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    mask = torch.zeros(height, width)
    mask[top:bottom, left:right] = 0.7
    assert extent(mask) == Box(left / width, top / height, right / width, bottom / height)


def test_the_extent_leaves_the_faint_rim_out() -> None:
    mask = torch.full((8, 8), 0.2)
    mask[2:6, 1:7] = 0.9
    assert extent(mask) == Box(1 / 8, 2 / 8, 7 / 8, 6 / 8)


def test_masks_are_kept_as_they_are() -> None:
    masks = torch.rand(3, 7, 9, generator=torch.Generator().manual_seed(0))
    regions = from_masks(masks)
    assert len(regions) == 3
    assert all(torch.equal(region.mask, mask) for region, mask in zip(regions, masks, strict=True))
    assert torch.equal(from_masks(masks[0])[0].mask, masks[0])


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (
            torch.stack([torch.ones(4, 4), torch.zeros(4, 4)]),
            "mask 2, mask: expected a mask with an area",
        ),
        (torch.full((1, 4, 4), 2.0), "values from 0 to 1"),
        (torch.full((1, 4, 4), math.nan), "values from 0 to 1"),
        (torch.ones(1, 4, 4, 3), "masks: expected"),
        (torch.ones(MAXIMUM_OBJECTS + 1, 2, 2), "masks: expected at most 256 regions"),
    ],
)
def test_bad_masks(masks: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_masks(masks)
