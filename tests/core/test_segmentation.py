"""Segmentation maps.

Colours to regions, connected areas, and what is told where a colour is missing.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from realcompo_core.errors import InputError
from realcompo_core.layout.ade20k import COLOURS, TABLE, names_of
from realcompo_core.layout.model import Box
from realcompo_core.layout.segmentation import (
    NOTHING,
    Segmenter,
    colours_of,
    components,
    nearest,
    parse_colour,
    parse_table,
)

RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(*areas: tuple[tuple[int, int, int], tuple[int, int, int, int]]) -> torch.Tensor:
    """A black picture [40, 60, 3] with areas (top, left, bottom, right) in colour."""
    image = torch.zeros(40, 60, 3)
    for colour, (top, left, bottom, right) in areas:
        image[top:bottom, left:right] = torch.tensor(colour) / 255
    return image


# Tables


def test_colours_are_hex_numbers_or_class_names() -> None:
    text = (
        "#FF0000 = a red barn\n\n0, 0, 255 = the lake\n 0 255 0 = grass = green\n"
        "Sky = a stormy sky\n96053d=a woman"
    )
    assert parse_table(text) == [
        (RED, "a red barn"),
        (BLUE, "the lake"),
        ((0, 255, 0), "grass = green"),
        ((6, 230, 230), "a stormy sky"),
        ((150, 5, 61), "a woman"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lines `colour = phrase`, got none"),
        ("sky", "line 1, colours: expected `colour = phrase`"),
        ("sky =  ", "line 1, colours"),
        ("\n#ff00 = a cat", "line 2, colour: .*'#ff00'"),
        ("256, 0, 0 = a cat", "line 1, colour"),
        ("1, 2 = a cat", "line 1, colour"),
        ("\uff19\uff19, 0, 0 = a cat", "line 1, colour"),
        ("peron = a cat", "Did you mean person"),
        (
            "road = a road\nskyscraper = a tower",
            "line 2, colour: expected a new colour, got #8c8c8c",
        ),
    ],
)
def test_bad_tables_are_told(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_table(text)


@given(st.text(max_size=30))
def test_any_text_is_a_table_or_an_input_error(text: str) -> None:
    try:
        table = parse_table(text)
    except InputError:
        return
    assert table and all(len(colour) == 3 and phrase for colour, phrase in table)


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_a_colour_is_read_however_it_is_written(colour: tuple[int, int, int]) -> None:
    spellings = [
        f"#{bytes(colour).hex()}",
        bytes(colour).hex().upper(),
        str(colour),
        "{} {} {}".format(*colour),
    ]
    assert {parse_colour(text) for text in spellings} == {colour}


def test_the_benchmark_has_150_classes_and_149_colours() -> None:
    rows = TABLE.splitlines()
    assert len(rows) == 150 and len({row.split()[0] for row in rows}) == 149
    assert len(COLOURS) == sum(len(row.split(",")) for row in rows)  # no name stands twice
    assert names_of((140, 140, 140)) == "road or skyscraper" and names_of((1, 2, 3)) == ""
    assert COLOURS["wall"] == (120, 120, 120) and COLOURS["flag"] == (
        92,
        0,
        255,
    )  # the first and the last
    assert COLOURS["window"] == COLOURS["windowpane"] == (230, 230, 230)


# Colours


def test_the_nearest_colour_within_the_tolerance_takes_a_pixel() -> None:
    pixels = torch.tensor([[[250, 0, 0], [255, 9, 0], [128, 0, 0], [246, 0, 0]]], dtype=torch.int32)
    assert nearest(pixels, [RED, (240, 0, 0)], 8).tolist() == [[0, NOTHING, NOTHING, 1]]


@pytest.mark.parametrize("tolerance", [0, 255])
def test_the_tolerance_reaches_from_exact_to_everything(tolerance: int) -> None:
    pixels = torch.randint(
        0, 256, (9, 9, 3), dtype=torch.int32, generator=torch.Generator().manual_seed(0)
    )
    classes = nearest(pixels, [tuple(pixels[0, 0].tolist())], tolerance)
    assert classes[0, 0] == 0 and bool((classes == 0).all()) == (tolerance == 255)


def test_common_colours_come_first_and_take_in_their_like() -> None:
    image = picture((RED, (0, 0, 20, 60)), ((250, 3, 0), (20, 0, 22, 60)), (BLUE, (30, 0, 34, 60)))
    found = colours_of((image * 255).round().int(), 8)
    assert [colour for colour, _ in found] == [RED, (0, 0, 0), BLUE]
    assert [share for _, share in found] == pytest.approx([0.55, 0.35, 0.1])


# Areas


@settings(max_examples=60)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 3), st.integers(0, 2**32))
def test_components_are_those_of_a_flood_fill(
    height: int, width: int, most: int, seed: int
) -> None:
    classes = torch.randint(
        NOTHING, most + 1, (height, width), generator=torch.Generator().manual_seed(seed)
    )
    labels = components(classes)
    for index in range(most + 1):
        inside = classes == index
        expected, count = ndimage.label(inside.numpy(), structure=np.ones((3, 3)))
        pairs = torch.stack(
            [labels[inside], torch.from_numpy(expected)[inside].long()], dim=1
        ).unique(dim=0)
        assert len(pairs) == count == len(labels[inside].unique())


def test_a_winding_path_is_one_area() -> None:
    classes = torch.full((41, 41), NOTHING)
    classes[::2] = 0
    classes[1::4, -1] = classes[3::4, 0] = 0
    assert len(components(classes)[classes == 0].unique()) == 1


# Regions


def test_each_colour_is_a_region_with_its_shape() -> None:
    image = picture((RED, (0, 0, 10, 30)), (RED, (30, 30, 40, 60)), (BLUE, (10, 0, 20, 60)))
    red, blue = Segmenter().regions(image, [(RED, "a barn"), (BLUE, "a lake")])
    assert (red.phrase, red.box) == ("a barn", Box(0, 0, 1, 1)) and (blue.box.y0, blue.box.y1) == (
        0.25,
        0.5,
    )
    assert torch.equal(red.mask, image[..., 0] == 1) and torch.equal(blue.mask, image[..., 2] == 1)


def test_each_connected_area_is_a_region_from_left_to_right() -> None:
    image = picture((RED, (0, 40, 10, 60)), (RED, (20, 0, 40, 20)), (RED, (10, 30, 12, 32)))
    found = Segmenter(separate=True).regions(image, [(RED, "a barn")])
    assert [region.box.x0 for region in found] == [0, 0.5, pytest.approx(2 / 3)]
    assert [int(region.mask.sum()) for region in found] == [400, 4, 200]
    assert {region.phrase for region in found} == {"a barn"}
    large = Segmenter(separate=True, minimum_area=0.01).regions(image, [(RED, "a barn")])
    assert len(large) == 2


def test_a_colour_that_is_not_there_lists_those_that_are() -> None:
    image = picture(((6, 230, 230), (0, 0, 30, 60)), (RED, (30, 0, 34, 60)))
    with pytest.raises(InputError) as caught:
        Segmenter().regions(image, parse_table("sky = the sky\nperson = a woman"))
    error = str(caught.value)
    assert "colour of 'a woman': expected #96053d (person) in the image" in error
    assert "got #06e6e6 (sky) 75.0%, #000000 15.0%, #ff0000 (flower) 10.0%." in error


def test_a_colour_that_is_too_small_is_not_there() -> None:
    image = picture((RED, (0, 0, 1, 2)))
    with pytest.raises(InputError, match="lower the minimum area"):
        Segmenter(minimum_area=0.01).regions(image, [(RED, "a barn")])
    assert len(Segmenter(minimum_area=0).regions(image, [(RED, "a barn")])) == 1


def test_too_many_areas_are_an_error() -> None:
    image = torch.zeros(64, 64, 3)
    image[::2, ::2, 0] = 1
    with pytest.raises(InputError, match="at most 256 regions, got 1024"):
        Segmenter(separate=True, minimum_area=0).regions(image, [(RED, "dots")])
