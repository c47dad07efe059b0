"""A layout tied to a prompt's tokens: regions at any size, shared where tokens are."""

from dataclasses import replace

import pytest
import torch

from realcompo_core.errors import InputError
from realcompo_core.layout.model import Box, Layout, LayoutObject
from realcompo_core.words.grounding import (
    Grounding,
    distinct_layouts,
    first_number,
    together,
    without_objects,
)
from realcompo_core.words.tokenized import Tokenized
from realcompo_core.words.tokens import Piece

LEFT, RIGHT, TOP = Box(0, 0, 0.25, 1), Box(0.75, 0, 1, 1), Box(0, 0, 1, 0.5)


def whole_words(text: str) -> list[Piece]:
    return [Piece(f"{word}</w>", (row,)) for row, word in enumerate(text.split(), 1)]


def test_each_object_has_its_tokens_and_its_region() -> None:
    layout = Layout((LayoutObject("dog", RIGHT), LayoutObject("red cat", LEFT)))
    objects = Grounding.of(layout, [Tokenized.of("a red cat and a dog", whole_words)]).objects(1, 4)
    assert objects.phrases == ("dog", "red cat")
    assert objects.tokens == ((6,), (2, 3))
    assert objects.regions.tolist() == [[[0, 0, 0, 1]], [[1, 0, 0, 0]]]


def test_objects_with_the_same_tokens_share_the_union_of_their_regions() -> None:
    layout = Layout(
        (LayoutObject("a corgi", LEFT), LayoutObject("grass", TOP), LayoutObject("corgi", RIGHT))
    )
    objects = Grounding.of(layout, [Tokenized.of("two corgis on grass", whole_words)]).objects(2, 4)
    assert objects.phrases == ("a corgi", "grass")
    assert objects.tokens == ((2,), (4,))
    assert objects.regions.tolist() == [[[1, 0, 0, 1]] * 2, [[1] * 4, [0] * 4]]


def test_a_union_never_exceeds_one() -> None:
    layout = Layout((LayoutObject("cat", TOP), LayoutObject("cat", TOP)))
    assert Grounding(layout, ((2,), (2,))).objects(2, 1).regions.tolist() == [[[1], [0]]]


def test_tokens_that_only_overlap_are_not_shared() -> None:
    layout = Layout((LayoutObject("red cat", LEFT), LayoutObject("cat", RIGHT)))
    assert Grounding(layout, ((2, 3), (3,))).objects(4, 4).regions.shape == (2, 4, 4)


@pytest.mark.parametrize("size", [(8, 8), (5, 13), (1, 1)])
def test_regions_are_those_of_the_layout_at_that_size(size: tuple[int, int]) -> None:
    layout = Layout((LayoutObject("cat", LEFT), LayoutObject("dog", TOP)))
    assert torch.equal(
        Grounding(layout, ((1,), (2,))).objects(*size).regions, layout.rasterise(*size)
    )


def test_a_missing_phrase_is_an_input_error() -> None:
    with pytest.raises(InputError, match="phrase 'dog'"):
        Grounding.of(Layout((LayoutObject("dog", LEFT),)), [Tokenized.of("a cat", whole_words)])


def test_objects_that_share_words_weigh_as_the_heaviest_of_them() -> None:
    box = Box(0, 0, 0.5, 1)
    layout = Layout(
        (
            LayoutObject("two corgis", box),
            LayoutObject("a cat", box),
            LayoutObject("two corgis", box),
        )
    )
    objects = Grounding(layout, ((1, 2), (5,), (1, 2))).objects(4, 4)
    assert objects.members == ((0, 2), (1,))
    assert objects.weights([1, 2, 3]).tolist() == [3, 2]


def test_layouts_side_by_side_count_on() -> None:
    boxes = [Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)]
    pair = Layout(tuple(LayoutObject(name, box) for name, box in zip("ab", boxes, strict=True)))
    alike = Layout(pair.objects)
    alone = Layout((LayoutObject("c", boxes[0]),))
    masked = Layout((LayoutObject("c", boxes[0], mask=torch.ones(2, 2)),))
    groundings = [Grounding(layout, ()) for layout in (pair, alone, alike, masked)]
    layouts = distinct_layouts(groundings)
    assert layouts == [pair, alone, masked]
    assert [first_number(g.layout, layouts) for g in groundings] == [0, 2, 0, 3]
    assert [placed.phrase for placed in together(layouts).objects] == ["a", "b", "c", "c"]
    assert together([]) is None


def test_objects_are_numbered_on() -> None:
    layout = Layout(
        (LayoutObject("a cat", Box(0, 0, 0.5, 1)), LayoutObject("dogs", Box(0, 0, 1, 1)))
    )
    objects = Grounding(layout, ((1,), (2,))).objects(4, 4).numbered_from(3)
    assert objects.members == ((3,), (4,))
    assert objects.weights((9, 9, 9, 1, 2)).tolist() == [1, 2]


def test_rows_of_no_word_are_those_behind_the_first_word() -> None:
    """The start knows no word yet; without the prompt's other encoding none are known."""
    layout = Layout((LayoutObject("red cat", LEFT),))
    grounding = Grounding.of(layout, [Tokenized.of("a red cat on grass", whole_words)])
    assert grounding.words == (1, 2, 3, 4, 5) and grounding.wordless == []
    encoded = replace(grounding, background=torch.zeros(1, 8, 2))
    assert encoded.wordless == [6, 7] and encoded == grounding
    assert replace(encoded, words=(2, 3, 5)).wordless == [4, 6, 7]


def test_a_prompt_without_its_objects() -> None:
    layout = Layout((LayoutObject("red cat", LEFT), LayoutObject("dog", LEFT)))
    prompt = "a red cat and a dog on grass"
    encoders = [Tokenized.of(prompt, whole_words)]
    grounding = Grounding.of(layout, encoders)
    assert without_objects(grounding, encoders) == "a and a on grass"
