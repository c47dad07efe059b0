"""The toy world.

Its splits, its sentences, its painter, and the detectors that the benchmark trusts.
"""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from demo.judging.detect import Reading, overlap, pixels_of, read
from demo.judging.prompts import CATEGORIES, OPENINGS, Prompt, digest, judge, prompts
from demo.judging.realism import Realism
from demo.toy.captions import Word, caption, kind_of, relation
from demo.toy.paint import PAINT, SIZE, hints, paint, silhouettes
from demo.toy.picture import (
    COLOURS,
    DEVELOPMENT_PAIRS,
    HELD_OUT_PAIRS,
    PAIRS,
    SHAPES,
    TRAINING_PAIRS,
    Thing,
    ToyScene,
    random_scene,
)
from realcompo_core.layout.text import parse

MANY = 250


def scenes(count: int = MANY, seed: int = 1) -> list[ToyScene]:
    random = Random(seed)
    return [random_scene(random) for _ in range(count)]


def painted(of: list[ToyScene], look: str = "photo", seed: int = 0) -> Tensor:
    return paint(of, look, Generator().manual_seed(seed))


# The splits


def test_training_never_sees_the_kinds_that_are_kept_for_the_benchmark() -> None:
    assert set(TRAINING_PAIRS) | DEVELOPMENT_PAIRS | HELD_OUT_PAIRS == set(PAIRS)
    assert not DEVELOPMENT_PAIRS & HELD_OUT_PAIRS
    trained = {thing.kind for scene in scenes(3000) for thing in scene.things}
    assert trained == set(TRAINING_PAIRS)  # all of them, and no other


def test_every_colour_and_shape_of_the_kept_kinds_is_trained_in_other_pairs() -> None:
    assert {colour for colour, _ in TRAINING_PAIRS} == set(COLOURS)
    assert {shape for _, shape in TRAINING_PAIRS} == set(SHAPES)


@pytest.mark.parametrize(
    ("split", "own", "never"),
    [("development", DEVELOPMENT_PAIRS, HELD_OUT_PAIRS), ("held-out", HELD_OUT_PAIRS, frozenset())],
)
def test_every_prompt_has_a_kind_of_its_split_and_development_none_that_is_held_out(
    split: str, own: frozenset, never: frozenset
) -> None:
    for prompt in prompts(split, 300):
        kinds = {thing.kind for thing in prompt.scene.things}
        assert kinds & own and not kinds & never, prompt.text


@pytest.mark.parametrize("split", ["development", "held-out"])
def test_both_splits_sentences_have_forms_that_training_never_makes(split: str) -> None:
    random = Random(3)
    trained = [str(caption(random, scene)) for scene in scenes(3000)]
    openings = {tuple(text.split()[:2]) for text in trained}
    for prompt in prompts(split, 300):
        assert tuple(prompt.text.split()[:2]) not in openings
    # training puts the ground last, without a comma
    assert all(p.text.startswith("on ") for p in prompts("held-out", 300))
    assert all(", all on " in p.text for p in prompts("development", 300))
    assert not any(text.startswith("on ") or ", all" in text for text in trained)


def test_the_splits_sentences_differ_in_form() -> None:
    assert not set(OPENINGS["held-out"]) & set(OPENINGS["development"])


def test_splits_share_no_prompt_and_are_the_same_every_time() -> None:
    development, held_out = prompts("development", 300), prompts("held-out", 300)
    assert not {p.text for p in development} & {p.text for p in held_out}
    assert digest(held_out) == digest(prompts("held-out", 300)) != digest(development)
    assert prompts("held-out", 10) == held_out[:10]


# Sentences


def test_captions_name_every_object_with_its_own_words() -> None:
    random = Random(2)
    for scene in scenes():
        text = caption(random, scene)
        for index, thing in enumerate(scene.things):
            assert kind_of(text.phrase(index)) == thing.kind, text


@pytest.mark.parametrize(
    ("dx", "dy", "expected"),
    [
        (-0.4, 0.0, "left"),
        (0.4, 0.1, "right"),
        (0.0, -0.4, "above"),
        (0.1, 0.4, "below"),
        (0.3, 0.3, None),
        (0.1, 0.0, None),
    ],
)
def test_relations_are_named_only_when_plain(dx: float, dy: float, expected: str | None) -> None:
    a, b = (Thing("red", "circle", 0.5 + x, 0.5 + y, 0.1) for x, y in ((dx, dy), (0, 0)))
    assert relation(a, b) == expected


def test_prompts_ask_for_layouts_that_the_layout_node_takes_with_phrases_of_the_text() -> None:
    for prompt in prompts("held-out", 60):
        layout = parse(prompt.layout)
        assert len(layout.objects) == len(prompt.scene.things)
        assert all(placed.phrase in prompt.text for placed in layout.objects)


# The painter


def test_scenes_hold_objects_that_do_not_touch_and_stay_inside() -> None:
    for scene in scenes():
        for i, thing in enumerate(scene.things):
            assert min(thing.box) >= 0 and max(thing.box) <= 1
            assert all(overlap(thing.box, other.box) == 0 for other in scene.things[:i])


def test_painting_repeats_with_its_generator() -> None:
    some = scenes(4)
    assert torch.equal(painted(some), painted(some))
    assert not torch.equal(painted(some), painted(some, seed=1))
    assert painted(some).shape == (4, 3, SIZE, SIZE)


@pytest.mark.parametrize("boxes", [True, False])
def test_hints_hold_the_objects_colours_inside_their_boxes_only(boxes: bool) -> None:
    thing = Thing("green", "circle", 0.25, 0.75, 0.2)
    hint = hints([ToyScene((thing,), "sand")], [boxes])[0]
    where = hint.amax(0) > 0
    assert torch.allclose(
        hint[:, where], PAINT[COLOURS.index("green")][:, None].expand(-1, int(where.sum()))
    )
    square = (2 * 0.2 * SIZE) ** 2
    assert int(where.sum()) == pytest.approx(square if boxes else square * np.pi / 4, rel=0.1)
    assert not bool(((silhouettes([ToyScene((thing,), "sand")])[0, 0] > 0.5) & ~where).any())


# The detectors


def accuracy(of: list[ToyScene], pictures: Tensor) -> tuple[float, float]:
    """Share of scenes read exactly, and share of grounds."""
    readings = [read(picture) for picture in pictures]
    exact = [
        len(reading.things) == len(scene.things)
        and all(
            any(f.kind == t.kind and overlap(f.box, t.box) > 0.6 for f in reading.things)
            for t in scene.things
        )
        for scene, reading in zip(of, readings, strict=True)
    ]
    right = [reading.ground == scene.ground for scene, reading in zip(of, readings, strict=True)]
    return sum(exact) / len(of), sum(right) / len(of)


DEGRADED = {
    "clean": lambda p: p,
    "noisy": lambda p: (
        p + 0.04 * torch.randn(p.shape, generator=Generator().manual_seed(5))
    ).clamp(0, 1),
    "blurred": lambda p: F.interpolate(F.avg_pool2d(p, 2), scale_factor=2, mode="bilinear"),
    "twice as large": lambda p: F.interpolate(p, scale_factor=2, mode="bilinear"),
    "darker": lambda p: 0.8 * p,
}


@pytest.mark.parametrize("damage", DEGRADED)
@pytest.mark.parametrize("look", ["photo", "flat"])
def test_detectors_read_true_pictures(look: str, damage: str) -> None:
    some = scenes(seed=9)
    exact, grounds = accuracy(some, DEGRADED[damage](painted(some, look)))
    assert exact >= 0.98 and grounds >= 0.95


def test_detectors_do_not_see_what_is_not_there() -> None:
    empty = [ToyScene((), scene.ground) for scene in scenes(40)]
    pictures = painted(
        [ToyScene((Thing("red", "circle", 0.5, 0.5, 0.15),), s.ground) for s in empty]
    )
    assert all(
        not read(picture[:, :, :16]).things for picture in pictures
    )  # a strip beside the object


# The judge


def prompt_of(category: str) -> Prompt:
    return next(p for p in prompts("held-out", 12) if p.category == category)


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_true_picture_meets_its_prompt(category: str) -> None:
    of = [p for p in prompts("held-out", 120) if p.category == category]
    verdicts = [judge(p, read(x)) for p, x in zip(of, painted([p.scene for p in of]), strict=True)]
    assert np.mean([v.success for v in verdicts]) >= 0.95
    assert np.mean([v.placed for v in verdicts]) >= 0.95


def test_a_missing_a_doubled_and_a_recoloured_object_each_cost_a_fact() -> None:
    prompt = prompt_of("colour")
    whole = read(painted([prompt.scene])[0])
    first, *rest = whole.things
    other = next(c for c in COLOURS if c not in {t.colour for t in whole.things})
    for broken in ((*rest,), (first, *whole.things), (replace(first, colour=other), *rest)):
        verdict = judge(prompt, Reading(tuple(broken), whole.ground))
        assert verdict.composition < 1 == judge(prompt, whole).composition
        assert verdict.success == 0


def test_a_swapped_relation_costs_a_fact_and_places() -> None:
    prompt = prompt_of("spatial")
    a, b = prompt.scene.things
    swapped = ToyScene((replace(a, x=b.x, y=b.y), replace(b, x=a.x, y=a.y)), prompt.scene.ground)
    verdict = judge(prompt, read(painted([swapped])[0]))
    assert (
        verdict.success == 0 and verdict.composition >= 0.7
    )  # the objects are right, the relation is not


def test_the_ground_counts_where_it_is_asked() -> None:
    prompt = prompt_of("texture")
    reading = read(painted([prompt.scene])[0])
    other = "wood" if prompt.scene.ground != "wood" else "sand"
    assert (
        judge(prompt, replace(reading, ground=other)).success == 0 < judge(prompt, reading).success
    )


# Realism


@pytest.fixture(scope="module")
def realism() -> Realism:
    return Realism(lambda pictures: pictures)


def test_realism_orders_true_blended_and_flat_pictures(realism: Realism) -> None:
    some = scenes(40, seed=4)
    photo, flat = painted(some), painted(some, "flat")
    means = [
        np.mean([realism.score(p) for p in share * photo + (1 - share) * flat])
        for share in (1, 0.75, 0.5, 0)
    ]
    assert means[0] > 0.95 and means[-1] < 0.2
    assert means == sorted(means, reverse=True)


def test_frechet_distance_is_small_between_true_sets_and_grows(realism: Realism) -> None:
    some = scenes(80, seed=4)
    photo, flat = painted(some), painted(some, "flat")
    near, half, far = (realism.frechet(list(p)) for p in (photo, (photo + flat) / 2, flat))
    assert near < 2 < half < far


def test_layouts_are_plain_json() -> None:
    data = json.loads(prompt_of("complex").layout)
    assert data["version"] == 1 and len(data["objects"]) == 3


def test_words_know_their_objects() -> None:
    text = caption(Random(1), ToyScene((Thing("blue", "ring", 0.5, 0.5, 0.1),), "sand"))
    assert [w.text for w in text.words if w.things == (0,)] in (
        ["blue", "ring"],
        ["blue", "hoop"],
        ["azure", "ring"],
        ["azure", "hoop"],
    )
    assert Word("a").things == ()


def test_the_pixels_of_a_colour_are_its_objects() -> None:
    things = (Thing("red", "square", 0.25, 0.25, 0.15), Thing("blue", "square", 0.75, 0.75, 0.15))
    picture = paint([ToyScene(things, "grass")], "photo", Generator().manual_seed(0))[0]
    red = pixels_of(picture, "red")
    assert red[8:24, 8:24].mean() > 0.8
    assert red.sum() - red[4:28, 4:28].sum() < 0.02 * red.sum()
    assert pixels_of(picture, "green").sum() == 0
