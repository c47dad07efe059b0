"""Sentences with a known plan, and how a planned layout differs from it.

A file holds one JSON object a line::

    {"prompt": "two red cups left of a plate",
     "objects": [{"noun": "cup", "count": 2, "adjectives": ["red"]}, {"noun": "plate"}],
     "relations": [["cup", "left of", "plate"]],
     "optional": ["kitchen"]}

``count`` is not checked where it is left out. ``adjectives`` are all that belong to the noun;
``null`` checks none. ``optional`` are nouns that may get a box and need not. GenEval's metadata
lines are read as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from realcompo_core.layout.model import Box, Layout
from realcompo_core.words.tokens import DETERMINERS, singulars

JOINTS = {"and", "&"}
TAIL = re.compile(r" (?:of|with|in|wearing|made|full|covered) ")
WORD = re.compile(r"[^\W_]+(?:[-'\u2019][^\W_]+)*")
NEAR = 0.4  # of the picture: how far apart "next to" may be

Fault = tuple[str, str]  # its kind, and what it is about


@dataclass(frozen=True)
class Wanted:
    """An object that a sentence names.

    ``count`` None is any, ``adjectives`` None are not checked.
    """

    noun: tuple[str, ...]
    count: int | None = None
    adjectives: frozenset[str] | None = frozenset()


@dataclass(frozen=True)
class Truth:
    """What a prompt's layout must hold.

    ``relations`` name objects by their place in ``objects``.
    """

    prompt: str
    objects: tuple[Wanted, ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    optional: tuple[tuple[str, ...], ...] = ()
    kind: str = ""


@dataclass
class Group:
    """All objects of a layout with one phrase."""

    phrase: str
    boxes: list[Box] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        """Return the phrase's words without articles, counts and what follows the noun."""
        head = TAIL.split(f"{self.phrase.lower()} ", maxsplit=1)[0]
        found = WORD.findall(head)
        while len(found) > 1 and (found[0] in DETERMINERS or found[0].isdigit()):
            found = found[1:]
        return found

    @property
    def box(self) -> Box:
        """Return the smallest box around all of the group."""
        return Box(
            min(box.x0 for box in self.boxes),
            min(box.y0 for box in self.boxes),
            max(box.x1 for box in self.boxes),
            max(box.y1 for box in self.boxes),
        )


def read_truths(path: Path) -> list[Truth]:
    """Read a file of known plans, one JSON object a line; raises ValueError for a wrong line."""
    truths = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            truths.append(_truth(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}, line {number}: {error!r}") from error
    return truths


def faults_of(layout: Layout, truth: Truth) -> list[Fault]:
    """List how a layout differs from a known plan; an empty list means that all is right."""
    groups = _groups(layout)
    found = _matches(groups, truth)
    faults: list[Fault] = []
    for i, wanted in enumerate(truth.objects):
        faults += _of(wanted, found.get(i))
    faults += _extras(groups, found, truth)
    for first, relation, second in truth.relations:
        both = first in found and second in found
        if both and not RELATIONS[relation](found[first].box, found[second].box):
            faults.append(("relation", relation))
    return faults


def _truth(value: dict[str, Any]) -> Truth:
    if "include" in value:
        return _of_geneval(value)
    objects = tuple(_wanted(entry) for entry in value["objects"])
    nouns = [" ".join(wanted.noun) for wanted in objects]
    relations = tuple(
        (nouns.index(first), _known(relation), nouns.index(second))
        for first, relation, second in value.get("relations", ())
    )
    optional = tuple(tuple(noun.split()) for noun in value.get("optional", ()))
    return Truth(value["prompt"], objects, relations, optional, value.get("kind", ""))


def _wanted(entry: dict[str, Any]) -> Wanted:
    adjectives = entry.get("adjectives", [])
    words = None if adjectives is None else frozenset(" ".join(adjectives).lower().split())
    return Wanted(tuple(entry["noun"].lower().split()), entry.get("count"), words)


def _of_geneval(value: dict[str, Any]) -> Truth:
    objects = []
    relations = []
    for i, entry in enumerate(value["include"]):
        colours = frozenset([entry["color"]] if "color" in entry else [])
        objects.append(Wanted(tuple(entry["class"].split()), entry["count"], colours))
        if "position" in entry:
            relation, other = entry["position"]
            relations.append((i, _known(relation), other))
    return Truth(value["prompt"], tuple(objects), tuple(relations), (), value["tag"])


def _known(relation: str) -> str:
    if relation not in RELATIONS:
        raise ValueError(f"{relation!r} is none of {', '.join(RELATIONS)}")
    return relation


def _groups(layout: Layout) -> list[Group]:
    groups: dict[str, Group] = {}
    for placed in layout.objects:
        groups.setdefault(placed.phrase, Group(placed.phrase)).boxes.append(placed.box)
    return list(groups.values())


def _matches(groups: Sequence[Group], truth: Truth) -> dict[int, Group]:
    """Give every wanted object the unused group that ends in its noun and shares most
    adjectives.
    """
    found: dict[int, Group] = {}
    longest_first = sorted(range(len(truth.objects)), key=lambda i: -len(truth.objects[i].noun))
    for i in longest_first:
        wanted = truth.objects[i]
        used = list(found.values())
        free = [g for g in groups if _ends_in(g.words, wanted.noun) and _is_free(g, wanted, used)]
        if free:
            shared = wanted.adjectives or frozenset()
            found[i] = max(free, key=lambda group: len(shared & _parts(group.words)))
    return found


def _is_free(group: Group, wanted: Wanted, used: Sequence[Group]) -> bool:
    """Whether a group may stand for one more noun: two "a cup" may be two nouns."""
    room = len(group.boxes) if wanted.count is None else 1
    return used.count(group) < room


def _of(wanted: Wanted, group: Group | None) -> Iterator[Fault]:
    noun = " ".join(wanted.noun)
    if group is None:
        yield "lost", noun
        return
    if wanted.count is not None and len(group.boxes) != wanted.count:
        yield "count", f"{len(group.boxes)} {noun}"
    if wanted.adjectives is None:
        return
    described = group.words[: len(group.words) - len(wanted.noun)]
    missing = wanted.adjectives - set(described) - _parts(described)
    known = wanted.adjectives | JOINTS
    more = [word for word in described if word not in known and not _parts([word]) <= known]
    if missing:
        yield "torn", f"{group.phrase!r} without {' '.join(sorted(missing))}"
    if more:
        yield "swollen", f"{group.phrase!r} with {' '.join(more)}"


def _extras(groups: Sequence[Group], found: dict[int, Group], truth: Truth) -> Iterator[Fault]:
    for group in groups:
        may_be = any(_ends_in(group.words, noun) for noun in truth.optional)
        if group not in found.values() and not may_be:
            yield "extra", repr(group.phrase)


def _ends_in(words: Sequence[str], noun: tuple[str, ...]) -> bool:
    end = words[-len(noun) :]
    pairs = zip(end, noun, strict=False)
    return len(end) == len(noun) and all(singulars(a) & singulars(b) for a, b in pairs)


def _parts(words: Sequence[str]) -> set[str]:
    """The words, and those that hyphens join."""
    return set(words).union(*(word.split("-") for word in words))


def _is_left(a: Box, b: Box) -> bool:
    return a.x0 + a.x1 < b.x0 + b.x1


def _is_above(a: Box, b: Box) -> bool:
    return a.y0 + a.y1 < b.y0 + b.y1


def _is_near(a: Box, b: Box) -> bool:
    across = max(a.x0, b.x0) - min(a.x1, b.x1)
    along = max(a.y0, b.y0) - min(a.y1, b.y1)
    return max(across, along) <= NEAR


def _is_in_front(a: Box, b: Box) -> bool:
    return a.y1 > b.y1


def _is_inside(a: Box, b: Box) -> bool:
    return b.x0 <= a.x0 and b.y0 <= a.y0 and a.x1 <= b.x1 and a.y1 <= b.y1


RELATIONS = {
    "left of": _is_left,
    "right of": lambda a, b: _is_left(b, a),
    "above": _is_above,
    "below": lambda a, b: _is_above(b, a),
    "on": _is_above,
    "under": lambda a, b: _is_above(b, a),
    "next to": _is_near,
    "in front of": _is_in_front,
    "behind": lambda a, b: _is_in_front(b, a),
    "inside": _is_inside,
}
