"""The English that the offline planner knows.

Where things stand, and which words are no objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import product

Words = tuple[str, ...]


class Kind(Enum):
    """How one thing stands to another. Right, below and behind are these with the two exchanged."""

    LEFT = "left of"
    ABOVE = "above"
    ON = "on"
    FRONT = "in front of"
    INSIDE = "in"
    NEXT = "next to"
    BETWEEN = "between"


@dataclass(frozen=True)
class Relation:
    """A preposition; ``swapped`` says that the second thing takes the kind's first part.

    ``vague`` prepositions ("in", "at", "by") may also begin something that is no object: "at
    night". ``its`` ones hold their second thing: "to its left". ``rise`` is -1 where the first
    thing also stands higher, 1 where lower: "to the upper left of".
    """

    kind: Kind
    swapped: bool = False
    vague: bool = False
    its: bool = False
    rise: int = 0


@dataclass(frozen=True)
class Place:
    """A part of the picture: -1, 0 or 1 along x and y (None: not said), or the background."""

    x: int | None = None
    y: int | None = None
    background: bool = False


class Mark(Enum):
    """Words that only shape a sentence."""

    JOIN = "and"
    COMMA = ","
    BREAK = "."
    TO = "to"
    AS = "as"
    FOR = "for"
    VERB = "is"
    WHICH = "which"
    WITH = "with"
    SKIP = "without"
    OF = "of"
    IT = "it"
    EACH_OTHER = "each other"


Meaning = Relation | Place | Mark


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


HORIZONTAL = {"left": -1, "right": 1}
VERTICAL = {"top": -1, "upper": -1, "bottom": 1, "lower": 1}

RELATIONS = {
    Relation(Kind.ABOVE): "above|over|hovering over",
    Relation(Kind.ABOVE, swapped=True): (
        "below|under|underneath|beneath|on the bottom of|on bottom of|at the bottom of|"
        "at the foot of"
    ),
    Relation(Kind.ON): (
        "on|upon|onto|atop|on top of|on the top of|at the top of|riding|riding on|"
        "riding on top of|riding atop|sitting on top of|standing on top of|lying on top of|"
        "perched atop|mounted on"
    ),
    Relation(Kind.FRONT): "in front of|in the front of",
    Relation(Kind.FRONT, swapped=True): "behind|at the back of|in back of|hidden by|hidden behind",
    Relation(Kind.INSIDE): "inside|inside of|within",
    Relation(Kind.INSIDE, vague=True): "in|into",
    Relation(Kind.NEXT): (
        "next to|beside|near|near to|close to|adjacent to|alongside|along with|together with|"
        "facing|opposite|across from|outside|outside of|right next to|on the side of|on side of|"
        "on either side of|on both sides of|on opposite sides of|at the side of|to the side of|"
        "by the side of|leaning against|contrasts with|contrasted with|contrasting with|"
        "contrast with|compared to|compared with|surrounded by|among|nearby"
    ),
    Relation(Kind.NEXT, vague=True): "at|by|against",
    Relation(Kind.BETWEEN): "between|in between",
}
PLACES = {
    Place(0, 0): (
        "in the middle|in the center|in the centre|at the center|at the centre|centered|centred"
    ),
    Place(y=-1): (
        "at the top|on the top|on top|at top|in the sky|in the air|in the top half|"
        "in the upper half|overhead"
    ),
    Place(y=1): (
        "at the bottom|on the bottom|at bottom|on the ground|on the floor|in the foreground|"
        "in the bottom half|in the lower half|in front"
    ),
    Place(1, -1): "in the corner|in a corner",
    Place(background=True): "in the background|in background|in the distance|in the back|far away",
}
MARKS = {
    Mark.JOIN: "and|&|plus|as well as|and also|then",
    Mark.BREAK: (
        "while|but|whereas|where|because|so that|around|through|across|past|along|down|up|off|"
        "towards|toward|about|via|until|when|before|after|over to|onwards|"
        "against the backdrop of|amid|amidst|throughout"
    ),
    Mark.VERB: (
        "is|are|was|were|be|being|there is|there are|there's|there was|there were|there stands|"
        "there lies|there sits|there hangs|it is|it's|it was|we see|you see|can be seen|"
        "have been|has been|had been|that have been|that has been|which has been|been|becomes|"
        "became|seems|looks like"
    ),
    Mark.WHICH: "that|which|who",
    Mark.WITH: (
        "with|wearing|having|has|have|made of|made out of|full of|filled with|covered in|"
        "covered with|dressed in|decorated with|that has|that have"
    ),
    Mark.TO: "to|in order to",
    Mark.AS: "as",
    Mark.FOR: "for",
    Mark.SKIP: (
        "without|from|during|like|dressed as|disguised as|known as|such as|depicted as|used as|"
        "in the style of|style of|inspired by|instead of|except|not|made by|drawn by|painted by"
    ),
    Mark.OF: "of",
    Mark.IT: "it|them|him",
    Mark.EACH_OTHER: "each other|one another",
}
# Prepositions with nothing after them, "a lamp above", and of the whole, "at the top of the
# picture".
ALONE = {
    Relation(Kind.ABOVE): Place(y=-1),
    Relation(Kind.ABOVE, swapped=True): Place(y=1),
    Relation(Kind.FRONT, swapped=True): Place(background=True),
}
OF_THE_PICTURE = ALONE | {
    Relation(Kind.LEFT): Place(x=-1),
    Relation(Kind.LEFT, swapped=True): Place(x=1),
    Relation(Kind.ON): Place(y=-1),
    Relation(Kind.LEFT, rise=-1): Place(-1, -1),
    Relation(Kind.LEFT, rise=1): Place(-1, 1),
    Relation(Kind.LEFT, swapped=True, rise=-1): Place(1, -1),
    Relation(Kind.LEFT, swapped=True, rise=1): Place(1, 1),
}
SIDE_BY_SIDE = "side by side|side-by-side|in a row|in a line"

# Nouns for the whole picture, what stands between them and its subject, and what else means the
# whole.
MEDIA = _set(
    "photo photograph picture image painting drawing illustration render rendering sketch shot "
    "view closeup close-up scene portrait snapshot watercolor watercolour photography depiction "
    "artwork art cartoon"
)
DEPICTING = _set("of depicting showing featuring")
CANVAS = MEDIA | _set("frame canvas")
# Surroundings: not objects where anything else can be one; the materials only without an article
# ("on stone").
SCENES = _set(
    "scene park forest woods field meadow garden street road city town village kitchen bedroom "
    "bathroom room office beach sky air desert sea ocean lawn ground floor wall night day "
    "daylight sunset sunrise dawn dusk morning evening afternoon rain fog mist nature "
    "countryside background landscape backyard yard jungle savanna savannah sunlight moonlight "
    "darkness winter summer autumn studio outdoors indoors underwater pavement sidewalk farm "
    "zoo hall farmland prairie wilderness"
)
MATERIALS = _set(
    "snow water grass sand wood stone concrete space spring light dark gravel marble mud ice dirt"
)
STYLE = _set(
    "masterpiece quality detailed detail details realistic photorealistic hyperrealistic "
    "realism 8k 4k 2k hd uhd hdr lighting focus bokeh style artstation trending resolution "
    "cinematic dramatic octane unreal photography art digital vibrant colors colours "
    "composition atmosphere award-winning professional dslr lens film grain depth highres "
    "high-res aesthetic mood anime minimalist abstract foreground render rendered watercolor "
    "watercolour oil ink pixel 3d solo left right top bottom"
)
# What belongs to a thing: "a man with a beard" and "a woman in a red dress" are one object.
PARTS = _set(
    "hat cap helmet glasses sunglasses hair eyes eye beard moustache mustache tail wings wing "
    "ears ear legs leg arms arm hands hand face nose mouth teeth horns horn fur skin feathers "
    "stripes spots dots door doors window windows roof chimney wheels wheel handle handles "
    "dress suit jacket coat shirt t-shirt skirt trousers pants jeans shorts scarf tie shoes "
    "boots socks gloves uniform costume armor armour kimono sweater hoodie robe crown collar "
    "bow ribbon necklace earrings belt leaves branches petals sails smile expression color "
    "colour pattern texture background"
)
SINGULAR_PAIRS = _set(
    "scissors glasses sunglasses jeans pants trousers shorts pliers tweezers binoculars headphones"
)
INVARIABLE = _set(
    "sheep deer fish moose salmon trout bison shrimp squid aircraft people cattle geese swine"
)
# Singular for all that they end in -s.
SINGULAR_IN_S = _set(
    "lens gas canvas series species atlas christmas news headquarters chess always sas texas "
    "mars swiss iris cosmos pancreas bias molasses gymnastics tennis"
)
# What a digit measures: "a 2 story house" is one house.
UNITS = _set(
    "story storey stories door seat seater piece year inch foot lane wheel tier level layer d "
    "point way person headed legged stage string ply speed storied hour minute day cm mm km "
    "meter metre"
)
# Words before text that stands written in the picture.
SAYING = _set(
    "says say saying said reads read reading written writing titled labeled labelled labeling "
    "named called spelling spells spelled"
)
WRITING = _set(
    "word words text letters letter sign message phrase title slogan caption inscription name"
)
ALSO_DESCRIBING = _set("nearby opposite outside inside near over adjacent")
PARTICLES = _set("down up off")
WITH_PARTICLES = _set("run broken worn beat torn washed pick pop boarded curled rolled")
# No objects, whatever stands before them.
POINTERS = _set(
    "he she they we you i me us themselves itself himself herself myself yourself there here "
    "other others same rest way top bottom left right front back side middle number lot lots "
    "kind type sort bit variety"
)
# How things are put, in what is no thing: "in a neat row".
ARRANGEMENTS = _set("row line circle formation pattern order way manner style position pose")
# What can't be seen.
ABSTRACT = _set(
    "beauty elegance grace tranquility serenity peace joy happiness fun harmony contrast "
    "testament reminder symbol sense feeling feelings moment memory memories delight escape "
    "passage time history culture tradition strength power energy nostalgia comfort wonder awe "
    "anticipation excitement disagreement sophistication ambiance atmosphere silence luxury "
    "adventure freedom love pain fear hope luck pride warmth"
)
# Verbs that say how a thing stands, not to what: they link it to nothing.
POSTURES = _set(
    "sits stands lies hangs rests floats flies sleeps walks runs jumps plays sit lie hang sleep "
    "appears sat stood lay hung slept rested floated flew walked ran jumped swam swims grew "
    "grows shone shines stand rest float fly walk run jump play appear"
)
DEFINITE = _set("the this that these those both")
INDEFINITE = _set("a an some another his her its their my your our each every no any")
NUMBERS: dict[str, int] = {
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "eleven": 11,
    "twelve": 12,
    "thirteen": 13,
    "fourteen": 14,
    "fifteen": 15,
    "sixteen": 16,
    "seventeen": 17,
    "eighteen": 18,
    "nineteen": 19,
    "twenty": 20,
}
QUANTITIES: dict[Words, int] = {
    ("a", "couple", "of"): 2,
    ("the", "couple", "of"): 2,
    ("couple", "of"): 2,
    ("a", "couple"): 2,
    ("both",): 2,
    ("a", "pair", "of"): 2,
    ("pair", "of"): 2,
    ("a", "trio", "of"): 3,
    ("a", "few"): 3,
    ("few",): 3,
    ("several",): 3,
    ("a", "dozen"): 12,
    ("a", "dozen", "of"): 12,
    ("half", "a", "dozen"): 6,
    ("a", "half", "dozen"): 6,
    ("a", "single"): 1,
}


RIDING = _set("rides rode ride riding")


def _phrases(table: dict) -> Iterator[tuple[Words, Meaning]]:
    for meaning, text in table.items():
        yield from ((tuple(phrase.split()), meaning) for phrase in text.split("|"))


def _sides() -> Iterator[tuple[Words, Meaning]]:
    """left of X, to the left of X, on its left, on the left, on the left-hand side ..."""
    tails = ((), ("side",), ("hand", "side"), ("half",), ("part",))
    for side, x in HORIZONTAL.items():
        relation = Relation(Kind.LEFT, swapped=x > 0)
        yield (side, "of"), relation
        yield from (
            ((*h, side, *t, "of"), relation) for h, t in product((("on",), ("to",), ("at",)), tails)
        )
        yield (f"{side}-hand", "side", "of"), relation
        its = Relation(Kind.LEFT, swapped=x > 0, its=True)
        yield from (
            ((h, owner, side), its)
            for h, owner in product(("on", "to", "at"), ("its", "his", "her", "their"))
        )
        for lead, far, tail in product(
            ("on", "to", "at", "in"), ((), ("far",)), (*tails, (f"{side}-hand", "side"))
        ):
            words = (lead, "the", *far, *(tail if tail[:1] == (f"{side}-hand",) else (side, *tail)))
            yield words, Place(x=x)
            yield (*words, "of"), relation
        yield from (((lead, side), Place(x=x)) for lead in ("on", "at"))


def _corners() -> Iterator[tuple[Words, Meaning]]:
    for (row, y), (side, x) in product(VERTICAL.items(), HORIZONTAL.items()):
        for lead, name, tail in product(
            (("in", "the"), ("at", "the"), ("on", "the"), ("to", "the"), ("in",)),
            ((row, side), (f"{row}-{side}",)),
            ((), ("corner",), ("side",), ("part",)),
        ):
            yield (*lead, *name, *tail), Place(x, y)
            if lead == ("to", "the") and tail in ((), ("side",)):
                yield (*lead, *name, *tail, "of"), Relation(Kind.LEFT, swapped=x > 0, rise=y)


def _table() -> dict[Words, Meaning]:
    """Every phrase and what it means; the longest that fits is taken."""
    table = dict(
        [*_phrases(PLACES), *_phrases(RELATIONS), *_phrases(MARKS), *_sides(), *_corners()]
    )
    return table | {tuple(phrase.split()): Mark.EACH_OTHER for phrase in SIDE_BY_SIDE.split("|")}


MEANINGS = _table()
LONGEST = max(map(len, MEANINGS))
