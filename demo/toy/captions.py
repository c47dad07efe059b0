"""Sentences about scenes. Each word is one CLIP token: an object's words are its positions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from random import Random

from .picture import COLOURS, SHAPES, Thing, ToyScene

NAMES = {
    "red": ("red", "crimson"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "turquoise": ("turquoise", "turquoise"),
    "blue": ("blue", "azure"),
    "purple": ("purple", "violet"),
    "circle": ("circle", "ball", "disc"),
    "square": ("square", "box", "block"),
    "triangle": ("triangle", "pyramid"),
    "cross": ("cross", "plus"),
    "ring": ("ring", "hoop"),
    "grass": ("grass", "lawn"),
    "sand": ("sand", "beach"),
    "wood": ("wood", "table"),
    "stone": ("stone", "concrete"),
}
PLURALS = {
    "circle": "circles",
    "ball": "balls",
    "disc": "discs",
    "square": "squares",
    "box": "boxes",
    "block": "blocks",
    "triangle": "pyramids",
    "pyramid": "pyramids",
    "cross": "crosses",
    "plus": "crosses",
    "ring": "rings",
    "hoop": "hoops",
}
NUMBERS = {1: ("a", "one"), 2: ("two",), 3: ("three",), 4: ("four",)}
OPENINGS = ("", "", "a photo of", "a picture of", "there is")
RELATIONS = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
PLACES = {
    "left": "on the left",
    "right": "on the right",
    "above": "at the top",
    "below": "at the bottom",
}
CLEAR = 0.22  # how far apart along an axis two things must be for a relation to be plain to see


@dataclass(frozen=True)
class Word:
    """One word of a caption; ``things`` are the scene's objects that it names, by index."""

    text: str
    things: tuple[int, ...] = ()


@dataclass(frozen=True)
class Caption:
    """A sentence, word by word."""

    words: tuple[Word, ...]

    def __str__(self) -> str:
        return " ".join(word.text for word in self.words).replace(" ,", ",")

    def phrase(self, thing: int) -> str:
        """Return the words that name an object, without article and number."""
        return " ".join(word.text for word in self.words if thing in word.things)


def relation(a: Thing, b: Thing) -> str | None:
    """Return where ``a`` stands seen from ``b``: a side; None if that is not plain to see."""
    return _plain_side(a.x - b.x, a.y - b.y, CLEAR, CLEAR / 2)


def spot(thing: Thing) -> str | None:
    """Return the side of the picture where a thing stands; None near the middle or a corner."""
    return _plain_side(thing.x - 0.5, thing.y - 0.5, 0.2, 0.1)


def side(dx: float, dy: float) -> str:
    """Return the direction of an offset (x to the right, y down): left, right, above or below."""
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "above" if dy < 0 else "below"


def _plain_side(dx: float, dy: float, far: float, apart: float) -> str | None:
    """Return the side if the offset is far enough along one axis, and less along the other."""
    if max(abs(dx), abs(dy)) < far or abs(abs(dx) - abs(dy)) < apart:
        return None
    return side(dx, dy)


def caption(random: Random, scene: ToyScene) -> Caption:
    """Draw a true sentence about a scene, in one of the training forms."""
    groups = _groups(random, scene)
    words = [*_plain(random.choice(OPENINGS)), *_body(random, scene, groups)]
    if random.random() < 0.85:
        words += ground_words(random, scene.ground)
    return Caption(tuple(words))


def noun_words(random: Random, thing: Thing, owners: tuple[int, ...]) -> list[Word]:
    """Name one object or several of a kind: "a red ball", "two red balls"."""
    colour, noun = random.choice(NAMES[thing.colour]), random.choice(NAMES[thing.shape])
    number = random.choice(NUMBERS[len(owners)])
    number = "an" if number == "a" and colour[0] in "aeiou" else number
    noun = PLURALS[noun] if len(owners) > 1 else noun
    return [Word(number), Word(colour, owners), Word(noun, owners)]


def ground_words(random: Random, ground: str) -> list[Word]:
    """Name the ground: "on the grass", "on lawn"."""
    return _plain(f"on {random.choice(('', 'the'))} {random.choice(NAMES[ground])}")


def joined(phrases: list[list[Word]]) -> list[Word]:
    """Join phrases to "A", "A and B" or "A , B and C"."""
    out = list(phrases[0])
    for index, phrase in enumerate(phrases[1:], 2):
        out += [Word("and" if index == len(phrases) else ","), *phrase]
    return out


def vocabulary() -> list[str]:
    """Return every word that captions are made of, sorted."""
    texts = [*OPENINGS, *PLACES.values(), *PLURALS.values(), "and , on the an"]
    for several in (*RELATIONS.values(), *NAMES.values(), *NUMBERS.values()):
        texts += several
    return sorted({word for text in texts for word in text.split()})


def _groups(random: Random, scene: ToyScene) -> list[tuple[int, ...]]:
    """Return the scene's things by index, those of a kind together, in a random order."""

    def kind(index: int) -> tuple[str, str]:
        return scene.things[index].kind

    order = sorted(range(len(scene.things)), key=kind)
    groups = [tuple(group) for _, group in groupby(order, key=kind)]
    random.shuffle(groups)
    return groups


def _body(random: Random, scene: ToyScene, groups: list[tuple[int, ...]]) -> Iterable[Word]:
    phrases = [noun_words(random, scene.things[group[0]], group) for group in groups]
    form = random.random()
    if form < 0.3:
        for phrase, group in zip(phrases, groups, strict=True):
            phrase.extend(_spot_words(scene, group))
    elif form < 0.75 and len(groups) == len(scene.things) > 1:
        between = relation(scene.things[groups[0][0]], scene.things[groups[1][0]])
        if between:
            pair = [*phrases[0], *_plain(random.choice(RELATIONS[between])), *phrases[1]]
            phrases = [pair, *phrases[2:]]
    return joined(phrases)


def _spot_words(scene: ToyScene, group: tuple[int, ...]) -> list[Word]:
    where = spot(scene.things[group[0]]) if len(group) == 1 else None
    return _plain(PLACES[where]) if where else []


def _plain(text: str) -> list[Word]:
    return [Word(word) for word in text.split()]


def kind_of(phrase: str) -> tuple[str | None, str | None]:
    """Return the colour and the shape that a phrase names, by any name; None for one it doesn't."""
    words = set(phrase.lower().replace(",", " ").split())
    words |= {one for one, many in PLURALS.items() if many in words}
    named = [key for key, names in NAMES.items() if words & set(names)]
    colour = next((key for key in named if key in COLOURS), None)
    shape = next((key for key in named if key in SHAPES), None)
    return colour, shape
