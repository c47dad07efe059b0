"""The offline planner: what it reads out of a sentence, and whether its boxes say the same."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import planner as bench
from realcompo_core.errors import InputError
from realcompo_core.layout.model import Box, Layout
from realcompo_core.planner.lexicon import MEANINGS, Kind
from realcompo_core.planner.rules import MAXIMUM_OBJECTS, plan
from realcompo_core.planner.scenes import Link, read
from realcompo_core.words.plain_text import MAXIMUM_PROMPT, pieces, plain
from realcompo_core.words.tokenized import locate


def names(prompt: str) -> Counter[str]:
    return Counter(placed.phrase for placed in plan(prompt).objects)


def box(layout: Layout, phrase: str) -> Box:
    [found] = [placed.box for placed in layout.objects if placed.phrase == phrase]
    return found


def links(prompt: str) -> list[tuple[str, str, str]]:
    scene = read(prompt)
    return [
        (scene.things[k.first].phrase, k.kind.value, scene.things[k.second].phrase)
        for k in scene.links
    ]


def places(prompt: str) -> dict[str, tuple[int | None, int | None]]:
    scene = read(prompt)
    return {scene.things[i].phrase: (place.x, place.y) for i, place in scene.places.items()}


PHRASES = {
    "a dog on the left of a cat": ["a dog", "a cat"],
    "a photo of a corgi and a tabby cat on a bench in a sunny park": [
        "a corgi",
        "a tabby cat",
        "a bench",
    ],
    "masterpiece, best quality, a (red cube:1.2) and a (blue ball), 8k": [
        "a red cube",
        "a blue ball",
    ],
    "a small, fluffy dog and a black and white cat": [
        "a small, fluffy dog",
        "a black and white cat",
    ],
    "a woman in a red dress and a man with a beard": [
        "a woman in a red dress",
        "a man with a beard",
    ],
    "a bowl of soup beside a glass of water": ["a bowl of soup", "a glass of water"],
    "a dog without a collar": ["a dog"],
    "a dog and no cats": ["a dog"],
    "a cat sleeping, a bird flying and a building": ["a cat", "a bird", "a building"],
    "A fluffy cat sits on the red car. The cat is happy.": ["A fluffy cat", "the red car"],
    "cat, dog, bird": ["cat", "dog", "bird"],
    "a cat, (embedding:glossy:1.2), embedding:soft <lora:detail:0.8>": ["a cat"],
    "four strawberries were ripe": ["four strawberries"],
    "a sunny beach": ["a sunny beach"],
    "a house with mountains in the background": ["a house", "mountains"],
    "Three cars are parked in front of two houses": ["Three cars", "two houses"],
    "a traffic light, a teddy bear and a t-shirt": ["a traffic light", "a teddy bear", "a t-shirt"],
    "an image of a scene showing a cow\nand a horse": ["a cow", "a horse"],
    "einen Hund, 一只猫": ["einen Hund", "一只猫"],
}


@pytest.mark.parametrize(("prompt", "phrases"), PHRASES.items(), ids=PHRASES)
def test_the_things_of_a_sentence(prompt: str, phrases: list[str]) -> None:
    assert list(names(prompt)) == phrases


COUNTS = {
    "two corgis": {"two corgis": 2},
    "eight red balls and a cube": {"eight red balls": 8, "a cube": 1},
    "1 apple, 2 bananas and 3 oranges": {"1 apple": 1, "2 bananas": 2, "3 oranges": 3},
    "a couple of dogs and a pair of shoes": {"dogs": 2, "shoes": 2},
    "a pair of scissors": {"scissors": 1},
    "several birds": {"several birds": 3},
    "a dozen eggs": {"eggs": 12},
    "the two brown dogs": {"the two brown dogs": 2},
    "a 2 story house": {"a 2 story house": 1},
    "100 birds": {"100 birds": 1},
    "dogs": {"dogs": 1},
    "a stack of 3 plates": {"a stack of 3 plates": 1},
}


@pytest.mark.parametrize(("prompt", "counts"), COUNTS.items(), ids=COUNTS)
def test_counts(prompt: str, counts: dict[str, int]) -> None:
    assert names(prompt) == counts


LINKS = {
    "a cat to the left of a dog": [("a cat", "left of", "a dog")],
    "a cat on the right-hand side of a dog": [("a dog", "left of", "a cat")],
    "a cat sits slightly above a dog": [("a cat", "above", "a dog")],
    "a cat beneath a dog": [("a dog", "above", "a cat")],
    "a cup on top of a book on a table": [("a cup", "on", "a book"), ("a book", "on", "a table")],
    "a cat behind a dog": [("a dog", "in front of", "a cat")],
    "a cat beside a dog": [("a cat", "next to", "a dog")],
    "a cat in a box": [("a cat", "in", "a box")],
    "a cat and a dog on a table": [("a cat", "on", "a table"), ("a dog", "on", "a table")],
    "a cat left of a dog and a bird above a tree": [
        ("a cat", "left of", "a dog"),
        ("a bird", "above", "a tree"),
    ],
    "a dog left of a cat and right of a bird": [
        ("a dog", "left of", "a cat"),
        ("a bird", "left of", "a dog"),
    ],
    "a bird left of a dog, which is above a car": [
        ("a bird", "left of", "a dog"),
        ("a dog", "above", "a car"),
    ],
    "a cat between a dog and a lamp": [
        ("a dog", "left of", "a cat"),
        ("a cat", "left of", "a lamp"),
    ],
    "a cat between two trees": [
        ("two trees", "left of", "a cat"),
        ("a cat", "left of", "two trees"),
    ],
    "To the left of the house is a tree.": [("a tree", "left of", "the house")],
    "Above the table hangs a lamp": [("a lamp", "above", "the table")],
    "a table with a vase on it": [("a vase", "on", "a table")],
    "a lamp and a sofa on its right": [("a lamp", "left of", "a sofa")],
    "a dog with a ball to its left": [("a ball", "left of", "a dog")],
    "a cat and a dog next to each other": [("a cat", "next to", "a dog")],
    "a man riding a horse": [("a man", "on", "a horse")],
    "a cat chasing a mouse": [("a cat", "next to", "a mouse")],
    "a cat near a dog. The dog is under a tree": [
        ("a cat", "next to", "a dog"),
        ("a tree", "above", "a dog"),
    ],
    "a dog at night by Rembrandt in oil": [],
    "a cat, a dog": [],
}


@pytest.mark.parametrize(("prompt", "expected"), LINKS.items(), ids=LINKS)
def test_relations(prompt: str, expected: list[tuple[str, str, str]]) -> None:
    assert links(prompt) == expected


PLACES = {
    "a cube on the left and a ball on the right": {"a cube": (-1, None), "a ball": (1, None)},
    "On the left is a cube and on the right is a ball.": {
        "a cube": (-1, None),
        "a ball": (1, None),
    },
    "a sun in the top right corner, a cat in the middle": {"a sun": (1, -1), "a cat": (0, 0)},
    "a bird at the top of the picture": {"a bird": (None, -1)},
    "a cat to the left of the image": {"a cat": (-1, None)},
    "a cat in the bottom-left corner": {"a cat": (-1, 1)},
    "a lamp above": {"a lamp": (None, -1)},
}


@pytest.mark.parametrize(("prompt", "expected"), PLACES.items(), ids=PLACES)
def test_places(prompt: str, expected: dict[str, tuple[int | None, int | None]]) -> None:
    assert places(prompt) == expected


def test_places_are_kept_by_the_boxes() -> None:
    layout = plan(
        "a sun in the top right corner, a cat in the middle, "
        "a dog on the left, a ball at the bottom"
    )
    sun, cat, dog = box(layout, "a sun"), box(layout, "a cat"), box(layout, "a dog")
    assert sun.x0 > cat.x1 and sun.y1 < 0.5 and dog.x1 < cat.x0 and dog.x1 < 0.5
    assert box(layout, "a ball").y0 > cat.y1


def test_the_background_is_behind_and_above() -> None:
    layout = plan("a house with mountains in the background")
    assert box(layout, "mountains").y0 < box(layout, "a house").y0 < box(layout, "mountains").y1


def test_several_relations_in_one_sentence() -> None:
    layout = plan(
        "a red cat to the left of a blue dog, a green bird above the dog "
        "and a lamp between the cat and the dog"
    )
    cat, dog, bird, lamp = (
        box(layout, p) for p in ("a red cat", "a blue dog", "a green bird", "a lamp")
    )
    assert bench.is_left(cat, lamp) and bench.is_left(lamp, dog) and bench.is_above(bird, dog)


def test_groups_keep_relations() -> None:
    layout = plan("three dogs to the left of two cats")
    dogs = [placed.box for placed in layout.objects if placed.phrase == "three dogs"]
    cats = [placed.box for placed in layout.objects if placed.phrase == "two cats"]
    assert max(b.x1 for b in dogs) < min(b.x0 for b in cats)


def test_what_is_inside_stays_inside() -> None:
    layout = plan("a cat left of a dog in a box on a table")
    assert bench.is_inside(box(layout, "a dog"), box(layout, "a box"))
    assert bench.is_above(box(layout, "a box"), box(layout, "a table"))
    assert bench.is_left(box(layout, "a cat"), box(layout, "a box"))


@pytest.mark.parametrize(
    "prompt",
    ["a cat left of a dog left of the cat", "a box in a bag in the box", "a cat on the cat"],
)
def test_contradictions_do_no_harm(prompt: str) -> None:
    assert plan(prompt).objects


def test_unrelated_things_are_spread_evenly() -> None:
    boxes = [
        placed.box for placed in plan("a cat, a dog, a bird, a cow, a fish and a frog").objects
    ]
    assert max(bench.overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i]) == 0
    sizes = [bench.area(b) for b in boxes]
    assert max(sizes) < 1.01 * min(sizes)


BAD = {
    "": "nothing",
    "  \n": "nothing",
    "masterpiece, best quality": "none that the rules know",
    ",.;": "none that the rules know",
    "twenty cats and twenty dogs": "got 40",
    "x" * (MAXIMUM_PROMPT + 1): "characters",
}


@pytest.mark.parametrize(("prompt", "part"), BAD.items(), ids=lambda text: text[:20])
def test_prompts_without_a_layout_are_told(prompt: str, part: str) -> None:
    with pytest.raises(InputError, match=part) as caught:
        plan(prompt)
    assert caught.value.field == "prompt"


def test_the_same_mention_for_too_many_objects_is_told() -> None:
    with pytest.raises(InputError, match="Name each object differently"):
        plan("two cats on the left and two cats on the right")


def test_weights_and_escapes_of_prompts() -> None:
    assert plain(r"a (red (ball:1.2)) \(round\) (cube: 0.5)") == r"a red ball (round) cube"


WORDS = [" ".join(words) for words in MEANINGS] + [
    "cat",
    "dog",
    "dogs",
    "red",
    "a",
    "the",
    "two",
    "seven",
    "of",
    "park",
    "photo",
    "with",
    "hat",
    "sitting",
    ",",
    ".",
    "(",
    ":1.2)",
    "its",
    "glass",
    "bed",
    "masterpiece",
    "\n",
    "'",
    "-",
    "3",
    "é",
    "猫",
]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join) | st.text(max_size=200)


@settings(max_examples=1000)
@given(TEXTS)
def test_any_text_is_a_layout_or_one_clear_error(prompt: str) -> None:
    try:
        layout = plan(prompt)
    except InputError:
        return
    assert 1 <= len(layout.objects) <= MAXIMUM_OBJECTS
    assert len(locate(layout, plain(prompt), pieces)) == len(layout.objects)
    text = " ".join(plain(prompt).split())
    assert all(placed.phrase in text for placed in layout.objects)
    assert plan(prompt) == layout


@pytest.mark.parametrize(
    "unit", ["a cat on a dog ", "a cat and ", "cat ", ", ", "the cat, ", "(", "in a box "]
)
def test_long_prompts_take_little_time(unit: str) -> None:
    prompt = (unit * MAXIMUM_PROMPT)[:MAXIMUM_PROMPT]
    start = time.thread_time()
    try:
        plan(prompt)
    except InputError as error:
        assert len(str(error)) < 20 * MAXIMUM_PROMPT
    assert time.thread_time() - start < 5


def test_every_relation_of_the_generated_sentences_has_a_rule() -> None:
    assert {tuple(relation.split()) for relation in bench.RELATIONS} <= set(MEANINGS)
    assert Link(Kind.ON, 0, 1) in read("a cat on the top of a dog").links


def test_generated_sentences() -> None:
    report = bench.measure(each=10)
    assert report["sentences"] == 10 * (len(bench.RELATIONS) + len(bench.NUMBERS) + 6)
    assert report["relations"] >= bench.GOAL and report["counts"] >= bench.GOAL, report["failures"]
    assert report["others"] >= bench.GOAL, report["failures"]


def test_the_benchmark_judges_boxes() -> None:
    """Its checks see a wrong layout.

    The same sentences with the boxes exchanged, or one too many.
    """
    [question] = list(bench.spatial(bench.Random(1), 1))[:1]
    layout = plan(question.prompt)
    first, second = layout.objects
    turned = Layout(
        (first.__class__(first.phrase, second.box), first.__class__(second.phrase, first.box))
    )
    assert question.holds(layout) and not question.holds(turned)
    assert not question.holds(Layout((*layout.objects, first)))
