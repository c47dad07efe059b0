"""What a prompt says of its picture.

Things, how they stand to each other, and where in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

from . import lexicon
from .clauses import simplified
from .lexicon import Kind, Mark, Place, Relation
from .mentions import Item, Mention, mentions


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
    """Return the scene of a plain prompt.

    Surroundings ("a park") are things where nothing else is.
    """
    items = mentions(text)
    scene = _Reader(text, simplified(items)).scene()
    return scene if scene.things else _Reader(text, simplified(items, surroundings=True)).scene()


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
            for actor in actors:
                self.links += [Link(Kind.LEFT, left, actor), Link(Kind.LEFT, actor, right)]
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
            self._object(self.waiting, len(self.items), self._other(self.waiting))
        elif mark is Mark.EACH_OTHER:
            kind = self.waiting.relation.kind if self.waiting else Kind.NEXT
            self.links += [Link(kind, *pair) for pair in pairwise(self.subject)]
            self.waiting = None

    def _other(self, waiting: _Waiting) -> int:
        """What "it" stands for: the last thing that is not the preposition's subject."""
        actors = waiting.actors or ()
        others = [i for i in range(len(self.things)) if i not in actors]
        return others[-1] if others else self.recent

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
