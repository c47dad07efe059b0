"""Benchmark prompts, and what must hold of a picture.

There are two splits, each with kinds of objects that training never shows.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, product
from random import Random

from ..toy.captions import (
    RELATIONS,
    Caption,
    Word,
    ground_words,
    joined,
    noun_words,
    relation,
    side,
)
from ..toy.picture import DEVELOPMENT_PAIRS, GROUNDS, HELD_OUT_PAIRS, Thing, ToyScene, place
from ..toy.picture import PAIRS as ALL_PAIRS
from .detect import Found, Reading, overlap

CATEGORIES = ("colour", "shape", "texture", "spatial", "numeracy", "complex")
# Both splits' sentences also open with words and come in an order that training never shows:
# "in this painting a red ball and two discs, all on grass", "on grass, here see a red ball".
OPENINGS = {
    "development": ("in this painting", "we see", "my drawing has"),
    "held-out": ("an image showing", "a scene with", "here see"),
}
PAIRS = {"development": DEVELOPMENT_PAIRS, "held-out": HELD_OUT_PAIRS}
INSIDE = 0.5  # the least IoU of an object with its box that counts as placed


@dataclass(frozen=True)
class Prompt:
    """A sentence, the scene it describes, and which of its facts a picture is asked for."""

    category: str
    caption: Caption
    scene: ToyScene
    related: tuple[int, int] | None
    asks_ground: bool

    @property
    def text(self) -> str:
        """Return the sentence."""
        return str(self.caption)

    @property
    def layout(self) -> str:
        """Return the scene's boxes as text for RealCompoLayout."""
        objects = []
        for index, thing in enumerate(self.scene.things):
            box = [round(value, 4) for value in thing.box]
            objects.append({"phrase": self.caption.phrase(index), "box": box})
        return json.dumps({"version": 1, "objects": objects})


@dataclass(frozen=True)
class Verdict:
    """How a picture meets a prompt: shares of 0 to 1."""

    composition: float  # of the prompt's facts that hold
    success: float  # 1 if all hold
    placed: float  # of the objects that stand in their boxes


def prompts(split: str, count: int, seed: int = 0) -> list[Prompt]:
    """Draw ``count`` prompts, the categories in turn; the first n are the same for every count."""
    found = []
    for number, category in zip(range(count), cycle(CATEGORIES), strict=False):
        found.append(_prompt(Random(f"{split}-{seed}-{number}"), split, category))
    return found


def digest(of: Sequence[Prompt]) -> str:
    """Return a hash of texts and layouts."""
    pairs = [(prompt.text, prompt.layout) for prompt in of]
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16]


def judge(prompt: Prompt, reading: Reading) -> Verdict:
    """Compare what was read with what was asked."""
    facts = [*_counts(prompt, reading)]
    if prompt.related:
        facts.append(_relation_holds(prompt, reading))
    if prompt.asks_ground:
        facts.append(reading.ground == prompt.scene.ground)
    placed = [_stands(thing, reading) for thing in prompt.scene.things]
    return Verdict(sum(facts) / len(facts), float(all(facts)), sum(placed) / len(placed))


def _counts(prompt: Prompt, reading: Reading) -> list[bool]:
    """Return a fact for each kind (as many as asked), and one that nothing else is there."""
    asked = Counter(thing.kind for thing in prompt.scene.things)
    found = Counter(thing.kind for thing in reading.things)
    as_many = [found[kind] == number for kind, number in asked.items()]
    return [*as_many, not found.keys() - asked.keys()]


def _relation_holds(prompt: Prompt, reading: Reading) -> bool:
    first, second = (prompt.scene.things[index] for index in prompt.related or ())
    wanted = relation(first, second)
    pairs = product(_of_kind(reading, first), _of_kind(reading, second))
    return any(_side(a.centre, b.centre) == wanted for a, b in pairs)


def _of_kind(reading: Reading, thing: Thing) -> list[Found]:
    return [found for found in reading.things if found.kind == thing.kind]


def _side(a: tuple[float, float], b: tuple[float, float]) -> str:
    return side(a[0] - b[0], a[1] - b[1])


def _stands(thing: Thing, reading: Reading) -> bool:
    return any(overlap(found.box, thing.box) > INSIDE for found in _of_kind(reading, thing))


def _prompt(random: Random, split: str, category: str) -> Prompt:
    kinds = _kinds(random, split, category)
    related = (0, 1) if category in ("spatial", "complex") else None
    things = place(random, kinds)
    while things is None or (related and relation(things[0], things[1]) is None):
        things = place(random, kinds)
    scene = ToyScene(things, random.choice(GROUNDS))
    caption = sentence(random, split, scene, related)
    return Prompt(category, caption, scene, related, category in ("texture", "complex"))


def _kinds(random: Random, split: str, category: str) -> list[tuple[str, str]]:
    """Draw a prompt's kinds: the first is the split's own, the rest are any that isn't held out."""
    kind = random.choice(sorted(PAIRS[split]))
    if category == "numeracy":
        return [kind] * random.randint(2, 4)
    others = [pair for pair in ALL_PAIRS if pair != kind and pair not in HELD_OUT_PAIRS]
    if category in ("colour", "shape"):
        same_colour = category == "shape"
        alike = [pair for pair in others if (pair[0] == kind[0]) == same_colour]
        return [kind, random.choice(alike)]
    if category == "texture":
        return [kind, *random.sample(others, random.randint(0, 1))]
    return [kind, *random.sample(others, 1 if category == "spatial" else 2)]


def sentence(
    random: Random, split: str, scene: ToyScene, related: tuple[int, int] | None = None
) -> Caption:
    """Draw a true sentence about a scene, in a form of the split's own.

    ``related`` are the things whose places it compares.
    """
    indices = range(len(scene.things))
    groups = [(index,) for index in indices]
    if len({thing.kind for thing in scene.things}) == 1:
        groups = [tuple(indices)]
    phrases = [noun_words(random, scene.things[group[0]], group) for group in groups]
    if related:
        between = relation(scene.things[0], scene.things[1])
        words = random.choice(RELATIONS[between or ""]).split()
        phrases = [[*phrases[0], *map(Word, words), *phrases[1]], *phrases[2:]]
    opening = [Word(word) for word in random.choice(OPENINGS[split]).split()]
    ground = ground_words(random, scene.ground)
    if split == "held-out":
        return Caption((*ground, Word(","), *opening, *joined(phrases)))
    return Caption((*opening, *joined(phrases), Word(","), Word("all"), *ground))
