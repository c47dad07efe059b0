"""What a picture of the toy world holds: shapes with a colour, a place and a size, on a ground."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

COLOURS = ("red", "yellow", "green", "turquoise", "blue", "purple")
SHAPES = ("circle", "square", "triangle", "cross", "ring")
GROUNDS = ("grass", "sand", "wood", "stone")

# Colour-shape pairs that training never shows: one split to choose settings, one to report.
DEVELOPMENT_PAIRS = frozenset(
    {("yellow", "square"), ("turquoise", "triangle"), ("purple", "circle")}
)
HELD_OUT_PAIRS = frozenset({("red", "ring"), ("green", "circle"), ("blue", "cross")})
PAIRS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
TRAINING_PAIRS = tuple(pair for pair in PAIRS if pair not in DEVELOPMENT_PAIRS | HELD_OUT_PAIRS)

RADIUS = (0.12, 0.19)  # half an object's width, of the picture's
GAP = 0.02
TRIES = 60


@dataclass(frozen=True)
class Thing:
    """One object: its centre and half its width, from 0 to 1 of the picture."""

    colour: str
    shape: str
    x: float
    y: float
    radius: float

    @property
    def kind(self) -> tuple[str, str]:
        """Return the colour and the shape."""
        return self.colour, self.shape

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom, from 0 to 1."""
        r = self.radius
        return self.x - r, self.y - r, self.x + r, self.y + r


@dataclass(frozen=True)
class ToyScene:
    """What one picture holds: things that don't touch, on a ground."""

    things: tuple[Thing, ...]
    ground: str


def random_kinds(random: Random, count: int) -> list[tuple[str, str]]:
    """Draw kinds of ``count`` objects: now and then all the same, mostly all different."""
    if count > 1 and random.random() < 0.25:
        return [random.choice(TRAINING_PAIRS)] * count
    return random.sample(TRAINING_PAIRS, count)


def place(random: Random, kinds: list[tuple[str, str]]) -> tuple[Thing, ...] | None:
    """Place objects of these kinds so that none touch; return None where chance left no room."""
    things: list[Thing] = []
    for colour, shape in kinds:
        thing = _fit(random, colour, shape, things)
        if thing is None:
            return None
        things.append(thing)
    return tuple(things)


def random_scene(random: Random, count: int | None = None) -> ToyScene:
    """Draw a scene with objects of training kinds."""
    count = count or random.choices((1, 2, 3, 4), (4, 4, 3, 2))[0]
    kinds = random_kinds(random, count)
    things = place(random, kinds)
    while things is None:
        things = place(random, kinds)
    return ToyScene(things, random.choice(GROUNDS))


def _fit(random: Random, colour: str, shape: str, others: list[Thing]) -> Thing | None:
    for _ in range(TRIES):
        radius = random.uniform(*RADIUS)
        low, high = radius + GAP, 1 - radius - GAP
        thing = Thing(colour, shape, random.uniform(low, high), random.uniform(low, high), radius)
        if all(_apart(thing, other) for other in others):
            return thing
    return None


def _apart(a: Thing, b: Thing) -> bool:
    return max(abs(a.x - b.x), abs(a.y - b.y)) > a.radius + b.radius + GAP
