"""Generated sentences of another kind than relations and counts.

Verbs, surroundings, comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from .planner_truth import Truth, Wanted

NOUNS = (
    "vase",
    "clock",
    "lamp",
    "kettle",
    "basket",
    "robot",
    "owl",
    "turtle",
    "bicycle",
    "guitar",
    "chair",
    "teapot",
    "ladder",
    "pumpkin",
    "statue",
    "umbrella",
    "suitcase",
    "candle",
    "traffic light",
    "picture frame",
    "watering can",
    "rocking chair",
    "fire hydrant",
)
ADJECTIVES = ("red", "wooden", "small", "striped", "glass", "fluffy", "old", "metallic", "shiny")
ACTIONS = (
    "holds",
    "carried",
    "pushes",
    "lit",
    "covered",
    "supports",
    "polished",
    "guards",
    "hides",
    "touched",
    "is lifting",
    "is watching",
)
POSES = ("rests on", "leaned against", "glows beside", "floats above", "rolled under", "hung above")
POSED = {
    "rests on": "on",
    "leaned against": "next to",
    "glows beside": "next to",
    "floats above": "above",
    "rolled under": "below",
    "hung above": "above",
}
SURROUNDINGS = ("sky", "floor", "wall", "lawn", "street", "sea")
LOOKS = ("black", "green", "wooden", "tiled", "yellow", "purple")
SCENES = (
    "a realistic photo of a scene with {}",
    "a scene with {}",
    "{} in a sunny park",
    "{} in the kitchen",
    "{} on the street at night",
)
COMPARED = ("larger", "smaller", "taller", "bigger", "brighter", "heavier")


def free_truths(random: Random, each: int) -> list[Truth]:
    """Return ``each`` sentences of every kind, with what their layouts must hold."""
    kinds: tuple[Callable[[Random], Truth], ...] = (
        action,
        pose,
        scene,
        surrounding,
        comparison,
        digits,
    )
    truths: list[Truth] = []
    for kind in kinds:
        truths += [kind(random) for _ in range(each)]
    return truths


def action(random: Random) -> Truth:
    """ "The glass vase and a robot carried the lamp"."""
    one, other, third = _things(random, 3)
    prompt = f"{_the(random, one)} and {_the(random, other)} {random.choice(ACTIONS)} "
    return Truth(f"{prompt}{_the(random, third)}.", (one, other, third), kind="verb")


def pose(random: Random) -> Truth:
    """ "The small owl rests on a wooden chair"."""
    one, other = _things(random, 2)
    verb = random.choice(POSES)
    prompt = f"{_the(random, one)} {verb} {_the(random, other)}."
    return Truth(prompt, (one, other), ((0, POSED[verb], 1),), kind="verb in place")


def scene(random: Random) -> Truth:
    """ "A scene with two vases": surroundings get no box."""
    [one] = _things(random, 1, adjectives=False)
    count = random.randint(1, 4)
    noun = " ".join(one.noun)
    counted = f"a {noun}" if count == 1 else f"{('two', 'three', 'four')[count - 2]} {noun}s"
    prompt = random.choice(SCENES).format(counted)
    return Truth(prompt, (Wanted(one.noun, count),), kind="surrounding")


def surrounding(random: Random) -> Truth:
    """ "A red lamp and a black sky": a surrounding with a look of its own is an object."""
    [one] = _things(random, 1)
    place = Wanted((random.choice(SURROUNDINGS),), 1, frozenset([random.choice(LOOKS)]))
    parts = [_named(one, "a"), _named(place, "a")]
    random.shuffle(parts)
    return Truth(" and ".join(parts), (one, place), kind="coloured surrounding")


def comparison(random: Random) -> Truth:
    """ "A vase which is larger than a lamp and smaller than a chair"."""
    things = _things(random, random.randint(2, 3))
    first, *others = [_named(thing, "a") for thing in things]
    verb = random.choice((" which is", " that is", ""))
    compared = [f" {random.choice(COMPARED)} than {other}" for other in others]
    return Truth(first + verb + " and".join(compared), tuple(things), kind="comparison")


def digits(random: Random) -> Truth:
    """ "4 vase and 2 lamp"."""
    one, other = _things(random, 2, adjectives=False)
    wanted = [Wanted(thing.noun, random.randint(1, 6)) for thing in (one, other)]
    prompt = " and ".join(f"{thing.count} {' '.join(thing.noun)}" for thing in wanted)
    return Truth(prompt, tuple(wanted), kind="digits before singulars")


def _things(random: Random, count: int, *, adjectives: bool = True) -> list[Wanted]:
    nouns = random.sample(NOUNS, count)
    return list(_described(random, nouns, adjectives=adjectives))


def _described(random: Random, nouns: list[str], *, adjectives: bool) -> Iterator[Wanted]:
    for noun in nouns:
        chosen = [random.choice(ADJECTIVES)] if adjectives and random.random() < 0.7 else []
        yield Wanted(tuple(noun.split()), 1, frozenset(chosen))


def _the(random: Random, thing: Wanted) -> str:
    return _named(thing, random.choice(("the", "a")))


def _named(thing: Wanted, article: str) -> str:
    words = " ".join([*sorted(thing.adjectives or ()), *thing.noun])
    return f"{'an' if article == 'a' and words[0] in 'aeiou' else article} {words}"
