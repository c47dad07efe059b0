"""What a prompt says of its picture.

Things, how they stand to each other, and where in the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from . import lexicon
from .lexicon import Kind, Mark, Place, Relation
from .mentions import Item, Mention, mentions
from .phrases import is_plural
from .vocabulary import COLOURS, TEXTURES, is_adjective


@dataclass(frozen=True)
class Thing:
    """Objects that one phrase names: ``count`` of a kind."""

    phrase: str
    count: int = 1


@dataclass(frozen=True)
class Link:
    """``first`` (an index of a thing) stands left of, above, on, in front of, in or next to
    ``second``.

    ``level`` says that neither is higher than the other where one is left, nor more to the side
    where one is above.
    """

    kind: Kind
    first: int
    second: int
    level: bool = True


@dataclass(frozen=True)
class Scene:
    """Things in the order of the prompt, the links between them, and places in the picture by
    index.
    """

    things: tuple[Thing, ...]
    links: tuple[Link, ...] = ()
    places: dict[int, Place] = field(default_factory=dict)


def read(text: str) -> Scene:
    """The scene of a plain prompt.

    Surroundings ("a park") are things only where nothing else is.
    """
    items = mentions(text)
    scene = _Reader(text, _simplified(items)).scene()
    return scene if scene.things else _Reader(text, _simplified(items, surroundings=True)).scene()


def _simplified(items: Sequence[Item], *, surroundings: bool = False) -> list[Item]:
    """Only things, prepositions with something after them, places and what separates are left."""
    left = _canvas(_without_what_is_not_there(items))
    left = left if surroundings else _without_surroundings(left)
    return _with_actions(_without_lone_prepositions(_with_parts(left)))


def _without_what_is_not_there(items: Sequence[Item]) -> list[Item]:
    """Without styles, "no dogs", what follows "without" or "like", and qualities.

    "the apples were crunchy".
    """
    out: list[Item] = []
    for item in items:
        said = (
            isinstance(item, Mention)
            and len(out) > 1
            and out[-1] is Mark.VERB
            and isinstance(out[-2], Mention)
        )
        if said and not item.determiner and not is_plural(item.head):
            continue
        skipped = bool(out) and out[-1] is Mark.SKIP
        gone = isinstance(item, Mention) and (skipped or item.determiner == "no" or _is_style(item))
        out.append(Mark.BREAK if gone else item)
    return [Mark.BREAK if item is Mark.SKIP else item for item in out]


def _canvas(items: Sequence[Item]) -> list[Item]:
    """ "left of the picture" is a place; "in the middle of a table" is a relation."""
    out: list[Item] = []
    for item in items:
        last = out[-1] if out else None
        if isinstance(item, Mention) and isinstance(last, Relation) and _is_canvas(item):
            out[-1] = lexicon.OF_THE_PICTURE.get(last, Mark.BREAK)
        elif (
            isinstance(item, Mention)
            and last is Mark.OF
            and len(out) > 1
            and isinstance(out[-2], Place)
        ):
            whole = _is_canvas(item) or _is_surrounding(item)
            out[-2:] = [out[-2]] if whole else [Relation(Kind.INSIDE), item]
        else:
            out.append(item)
    return [item for item in out if item is not Mark.OF]


def _without_surroundings(items: Sequence[Item]) -> list[Item]:
    out: list[Item] = []
    for item in items:
        last = out[-1] if out else None
        bare = (
            isinstance(last, Relation)
            and last.vague
            and isinstance(item, Mention)
            and not item.determiner
        )
        put = last == Relation(Kind.INSIDE, vague=True) and _is_arrangement(item)
        if isinstance(item, Mention) and (bare or put or _is_surrounding(item)):
            out = out[:-1] if isinstance(last, Relation) else out
            out.append(Mark.BREAK)
        else:
            out.append(item)
    return out


def _with_parts(items: Sequence[Item]) -> list[Item]:
    """ "a man with a beard" is one thing; "a man with a dog" are two, side by side."""
    out: list[Item] = []
    for item, after in zip(items, [*items[1:], Mark.BREAK], strict=True):
        last, owner = (out[-1] if out else None), (out[-2] if len(out) > 1 else None)
        if (
            isinstance(item, Mention)
            and isinstance(owner, Mention)
            and _is_part(owner, last, item, after)
        ):
            out[-2:] = [replace(owner, end=item.end, verb=item.verb, cut=item.cut)]
            continue
        if isinstance(item, Mention) and last is Mark.WITH:
            companion = isinstance(owner, Mention) and not isinstance(after, Relation | Place)
            out[-1] = Relation(Kind.NEXT) if companion else Mark.BREAK
        out.append(item)
    return [Mark.BREAK if item is Mark.WITH else item for item in out]


def _without_lone_prepositions(items: Sequence[Item]) -> list[Item]:
    """ "a lamp above" is a lamp at the top."""
    out: list[Item] = []
    for item, after in zip(items, [*items[1:], Mark.BREAK], strict=True):
        lone = isinstance(item, Relation) and not (
            isinstance(after, Mention) or after in (Mark.IT, Mark.EACH_OTHER)
        )
        out.append(lexicon.ALONE.get(item, Mark.BREAK) if lone else item)
    return out


def _with_actions(items: Sequence[Item]) -> list[Item]:
    """ "a cat chasing a mouse" stand side by side."""
    out: list[Item] = []
    for item in items:
        last = out[-1] if out else None
        if isinstance(item, Mention) and isinstance(last, Mention) and last.verb:
            rides = last.verb in lexicon.RIDING
            out.append(Relation(Kind.ON if rides else Kind.NEXT))
        out.append(item)
    return out


def _is_style(mention: Mention) -> bool:
    return not mention.determiner and not lexicon.STYLE.isdisjoint(mention.noun)


def _is_arrangement(item: Item) -> bool:
    return isinstance(item, Mention) and item.noun[-1] in lexicon.ARRANGEMENTS


def _is_canvas(mention: Mention) -> bool:
    """Whether the picture itself is named: "the image", not "the wooden picture frame"."""
    if mention.head not in lexicon.CANVAS or len(mention.noun) > 1 + (mention.noun[0] == "whole"):
        return False
    return not mention.determiner or mention.determiner in lexicon.DEFINITE


def _is_surrounding(mention: Mention) -> bool:
    """Whether a place or a material gets no box: one without a colour or texture of its own."""
    described = mention.name[:-1]
    own = any(_has_look(word) for word in described)
    if mention.head in lexicon.SCENES:
        return not own
    bare = not own and all(is_adjective(word) for word in described)
    return mention.head in lexicon.MATERIALS and bare and mention.determiner in ("", "the")


def _has_look(word: str) -> bool:
    parts = word.split("-")
    return any(part in COLOURS or part in TEXTURES for part in parts)


def _is_part(owner: Mention, joint: Item | None, mention: Mention, after: Item) -> bool:
    """Whether "with" or "in" a mention belongs to the thing before.

    A beard, a red dress, long hair.
    """
    clothes = mention.head in lexicon.PARTS and mention.count == 1
    if joint is Mark.WITH:
        return clothes or not (mention.determiner or isinstance(after, Place))
    return clothes and not owner.cut and joint == Relation(Kind.INSIDE, vague=True)


@dataclass
class _Waiting:
    """A preposition on its way to being a link: ``actors`` None where its subject comes last."""

    relation: Relation
    actors: list[int] | None
    objects: list[int] = field(default_factory=list)
    full: bool = False


class _Reader:
    """Goes through the items once.

    ``subject`` are the things spoken of, ``open`` says that "and" adds to them, ``recent`` is the
    last thing named.
    """

    def __init__(self, text: str, items: list[Item]) -> None:
        self.text, self.items = text, items
        self.things: list[Thing] = []
        self.nouns: list[tuple[str, ...]] = []
        self.links: list[Link] = []
        self.places: dict[int, Place] = {}
        self.subject: list[int] = []
        self.open = False
        self.recent = 0
        self.waiting: _Waiting | None = None
        self.place: Place | None = None  # of the next thing

    def scene(self) -> Scene:
        for i, item in enumerate(self.items):
            if isinstance(item, Mention):
                self._mention(i, self._thing(item))
            elif isinstance(item, Relation):
                self._preposition(i, item)
            elif isinstance(item, Place):
                self._stand(i, item)
            else:
                self._mark(item)
        return Scene(tuple(self.things), tuple(self.links), self.places)

    def _thing(self, mention: Mention) -> int:
        """The index of a new thing, or of the one that "the dog" refers back to."""
        for i in range(len(self.things) - 1, -1, -1):
            if (
                mention.determiner in lexicon.DEFINITE
                and self.nouns[i][-len(mention.noun) :] == mention.noun
            ):
                return i
        self.things.append(
            Thing(" ".join(self.text[mention.start : mention.end].split()), mention.count)
        )
        self.nouns.append(mention.noun)
        return len(self.things) - 1

    def _mention(self, i: int, thing: int) -> None:
        if self.waiting and not self.waiting.full:
            self._object(self.waiting, i, thing)
        elif self.waiting:
            self._link(self.waiting, [thing])
            self.subject, self.open = [thing], False
        elif self.place:
            self.places[thing], self.place = self.place, None
            self.subject, self.open = [thing], False
        elif self.open and self._item(i - 1) in (Mark.JOIN, Mark.COMMA):
            self.subject.append(thing)
        else:
            self.subject, self.open = [thing], True
        self.recent = thing

    def _object(self, waiting: _Waiting, i: int, thing: int) -> None:
        waiting.objects.append(thing)
        second = self._item(i + 1) is Mark.JOIN and isinstance(self._item(i + 2), Mention)
        waiting.full = not (
            waiting.relation.kind is Kind.BETWEEN and len(waiting.objects) == 1 and second
        )
        if waiting.full and waiting.actors is not None:
            self._link(waiting, waiting.actors)

    def _link(self, waiting: _Waiting, actors: list[int]) -> None:
        relation, objects = waiting.relation, waiting.objects
        self.waiting = None
        if relation.kind is Kind.BETWEEN:
            left, right = objects if len(objects) == 2 else (objects[0], self._split(objects[0]))
            self.links += [
                link
                for a in actors
                for link in (Link(Kind.LEFT, left, a), Link(Kind.LEFT, a, right))
            ]
            return
        ends = [
            (objects[0], actor) if relation.swapped else (actor, objects[0]) for actor in actors
        ]
        for first, second in ends:
            if first != second:
                self.links += _links(relation, first, second)

    def _split(self, thing: int) -> int:
        """Half of a group as a thing of its own, to have something between the halves."""
        whole = self.things[thing]
        self.things[thing] = replace(whole, count=whole.count - whole.count // 2)
        self.things.append(replace(whole, count=max(whole.count // 2, 1)))
        self.nouns.append(self.nouns[thing])
        return len(self.things) - 1

    def _preposition(self, i: int, relation: Relation) -> None:
        if isinstance(self._before(i), Mention):
            together = self.open and self._item(i + 1) is not Mark.IT
            actors = self.subject if together else [self.recent]
        else:
            actors = self.subject if self.subject and not self._is_inverted(i) else None
        self.waiting, self.open = _Waiting(relation, actors), False

    def _stand(self, i: int, place: Place) -> None:
        before = self._before(i)
        if isinstance(before, Mention) and not self.open:
            self.places[self.recent] = place
        elif isinstance(self._after(i), Mention) and not isinstance(before, Mention | Place):
            self.place = place
        else:
            self.places |= {
                thing: _both(self.places.get(thing, Place()), place) for thing in self.subject
            }
        self.open = False

    def _mark(self, mark: Item) -> None:
        if mark is Mark.BREAK:
            self.waiting = self.place = None
            self.open = False
        elif mark is Mark.IT and self.waiting and self.things:
            others = [i for i in range(len(self.things)) if i not in (self.waiting.actors or ())]
            self._object(self.waiting, len(self.items), others[-1] if others else self.recent)
        elif mark is Mark.EACH_OTHER:
            kind = self.waiting.relation.kind if self.waiting else Kind.NEXT
            self.links += [Link(kind, *pair) for pair in pairwise(self.subject)]
            self.waiting = None

    def _item(self, i: int) -> Item:
        return self.items[i] if 0 <= i < len(self.items) else Mark.BREAK

    def _before(self, i: int) -> Item:
        """What stands before an item, verbs aside."""
        return next(
            (item for item in reversed(self.items[:i]) if item is not Mark.VERB), Mark.BREAK
        )

    def _after(self, i: int) -> Item:
        """What stands after an item, verbs and commas aside."""
        return next(
            (item for item in self.items[i + 1 :] if item not in (Mark.VERB, Mark.COMMA)),
            Mark.BREAK,
        )

    def _is_inverted(self, i: int) -> bool:
        """Whether the subject comes last: "and above the table is a lamp", "Next to it, a cat"."""
        then = self._item(i + 2)
        commas = then is Mark.COMMA and self._before(i) is Mark.BREAK
        thing = isinstance(self._item(i + 1), Mention) or self._item(i + 1) is Mark.IT
        verb = then is Mark.VERB or isinstance(then, Mention)
        return (
            thing
            and (verb or commas)
            and (isinstance(then, Mention) or isinstance(self._item(i + 3), Mention))
        )


def _links(relation: Relation, first: int, second: int) -> list[Link]:
    """The links of a preposition; "to the upper left of" has two."""
    if not relation.rise:
        return [Link(relation.kind, first, second)]
    first_is_higher = (relation.rise < 0) != relation.swapped
    rise = (first, second) if first_is_higher else (second, first)
    return [
        Link(relation.kind, first, second, level=False),
        Link(Kind.ABOVE, *rise, level=False),
    ]


def _both(one: Place, other: Place) -> Place:
    """Two places said of one thing: "on the left in the background"."""
    x = one.x if other.x is None else other.x
    y = one.y if other.y is None else other.y
    return Place(x, y, one.background or other.background)
