"""Boxes for a scene: ranks along both axes from the links, then cells of a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from ..layout.model import Box
from .lexicon import Kind, Place
from .scenes import Link, Scene

MARGIN = 0.04  # of the picture, on all sides
INSET = 0.06  # of a cell, on all sides
LARGEST = 0.72  # of the picture: a thing alone
INNER = 0.12  # of a container, on all sides
ASPECT = 1.5  # a single object is at most this much longer than wide, or wider than long
TABLE = 2.5  # what carries others may be this much wider than long
TOUCH = 0.02  # of the picture: how far a thing reaches into what it stands on
OVERLAP = 0.3  # of what stands in front: how much of it the thing behind reaches behind
HORIZON = 0.45  # where the background ends
FOREGROUND = 0.2  # where everything else begins if there is a background
MIDDLE = 1.5  # how much larger the middle is than a side
IN_A_ROW = 3  # so many independent things stand side by side, more in rows
SIDEWAYS = (Kind.LEFT, Kind.NEXT)


@dataclass(frozen=True)
class Frame:
    """A rectangle of the picture, normalised; unlike a box it may be anything."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        """The share of the picture's width."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """The share of the picture's height."""
        return self.y1 - self.y0

    def part(self, x0: float, y0: float, x1: float, y1: float) -> Frame:
        """A part given in shares of this frame."""
        w, h = self.width, self.height
        return Frame(self.x0 + x0 * w, self.y0 + y0 * h, self.x0 + x1 * w, self.y0 + y1 * h)

    def inset(self, share: float) -> Frame:
        """Return what is left without a ``share`` of it on all sides."""
        return self.part(share, share, 1 - share, 1 - share)

    def shrunk(self, width: float, height: float) -> Frame:
        """At most this large, about the same centre."""
        w, h = min(self.width, width), min(self.height, height)
        x, y = (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2
        return Frame(x - w / 2, y - h / 2, x + w / 2, y + h / 2)

    def object(self) -> Frame:
        """The box of one object in this cell: not too long, not too wide."""
        return self.shrunk(self.height * ASPECT, self.width * ASPECT)


def arrange(scene: Scene) -> list[list[Box]]:
    """The boxes of every thing of a scene, one for each of its objects.

    Links that contradict earlier ones ("a cat left of a dog left of the cat") have no effect.
    """
    frames = _Arranger(scene).frames()
    boxes = []
    for i, thing in enumerate(scene.things):
        boxes.append([_box(part) for part in split(frames[i], thing.count)])
    return boxes


def split(frame: Frame, count: int) -> list[Frame]:
    """A group's objects: equal cells in rows, as square as may be."""
    if count == 1:
        return [frame]
    return [cell.inset(INSET).object() for cell in grid(frame, count, squarest(frame, count))]


def squarest(frame: Frame, count: int) -> int:
    """How many columns make ``count`` equal cells as square as may be."""
    misfit = {
        n: abs(math.log(frame.width / n / (frame.height / math.ceil(count / n))))
        for n in range(count, 0, -1)
    }
    return min(misfit, key=lambda n: round(misfit[n], 6))


def grid(frame: Frame, count: int, columns: int) -> list[Frame]:
    """``count`` equal cells in rows of ``columns``; the last row is centred."""
    rows = math.ceil(count / columns)
    cells = []
    for i in range(count):
        row, column = divmod(i, columns)
        missing = (columns - min(columns, count - row * columns)) / 2
        x, y = (column + missing) / columns, row / rows
        cells.append(frame.part(x, y, x + 1 / columns, y + 1 / rows))
    return cells


def shares(weights: Sequence[float]) -> list[tuple[float, float]]:
    """Start and end of each part of 0..1 when it is shared out by weight."""
    ends = [end / sum(weights) for end in accumulate(weights)]
    return list(zip([0.0, *ends], ends, strict=False))


class Axis:
    """Ranks of ``count`` things along one axis: who stands before whom, and who stands level."""

    def __init__(self, count: int) -> None:
        self.group = list(range(count))
        self.edges: set[tuple[int, int]] = set()

    def level(self, a: int, b: int) -> None:
        """Put two level, unless one already stands before the other."""
        a, b = self.group[a], self.group[b]
        if b not in self._behind(a) and a not in self._behind(b):
            self.group = [a if g == b else g for g in self.group]
            self.edges = {(a if f == b else f, a if t == b else t) for f, t in self.edges}

    def before(self, a: int, b: int) -> bool:
        """Put one before the other; False where that contradicts what stands."""
        a, b = self.group[a], self.group[b]
        if a == b or a in self._behind(b):
            return False
        self.edges.add((a, b))
        return True

    def ranks(self) -> list[int]:
        """How many stand before each thing, one behind the other."""
        rank = dict.fromkeys(self.group, 0)
        for _ in rank:
            for f, t in self.edges:
                rank[t] = max(rank[t], rank[f] + 1)
        return [rank[g] for g in self.group]

    def _behind(self, a: int) -> set[int]:
        found, fresh = set(), {a}
        while fresh:
            fresh = {t for f, t in self.edges if f in fresh} - found
            found |= fresh
        return found


class _Arranger:
    """Frames for all things of a scene: the picture's, then those inside each container."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.parents: dict[int, int] = {}
        for link in scene.links:
            if link.kind is Kind.INSIDE and link.first not in (
                link.second,
                *self._ancestors(link.second),
            ):
                self.parents.setdefault(link.first, link.second)

    def frames(self) -> dict[int, Frame]:
        members = [i for i in range(len(self.scene.things)) if i not in self.parents]
        behind = [i for i in members if self._place(i).background]
        front = [i for i in members if i not in behind]
        canvas = Frame(0, 0, 1, 1).inset(MARGIN)
        if not (behind and front):
            return self._level(members, canvas)
        return self._level(behind, canvas.part(0, 0, 1, HORIZON)) | self._level(
            front, canvas.part(0, FOREGROUND, 1, 1)
        )

    def _level(self, members: list[int], frame: Frame) -> dict[int, Frame]:
        """Frames of things that stand beside each other, and of all that is inside them."""
        links = self._links(members)
        columns, rows = self._axes(links)
        frames = {}
        for zone, components in self._zones(components_of(members, links), frame, columns, rows):
            for component, part in zip(components, self._blocks(components, zone), strict=True):
                frames |= self._component(component, columns, rows, part)
        frames = _in_contact(frames, links, rows)
        for container in members:
            inside = [i for i, parent in self.parents.items() if parent == container]
            if inside:
                first = split(frames[container], self.scene.things[container].count)[0]
                frames |= self._level(inside, first.inset(INNER))
        return frames

    def _zones(
        self, components: list[list[int]], frame: Frame, columns: list[int], rows: list[int]
    ) -> Iterator[tuple[Frame, list[list[int]]]]:
        """The parts of the frame that places ask for, with the components that stand there."""
        spots = [
            (self._side(component, "x", columns), self._side(component, "y", rows))
            for component in components
        ]
        for x, (x0, x1) in _thirds({x for x, _ in spots}):
            column = [y for at, y in spots if at == x]
            for y, (y0, y1) in _thirds(set(column)):
                chosen = [c for c, spot in zip(components, spots, strict=True) if spot == (x, y)]
                yield frame.part(x0, y0, x1, y1), chosen

    def _blocks(self, components: list[list[int]], frame: Frame) -> list[Frame]:
        """A part of a zone for each component: side by side up to three, else in rows."""
        count = len(components)
        few = count <= IN_A_ROW and frame.width > 0.8 * frame.height
        columns = count if few else squarest(frame, count)
        if columns < count:
            return grid(frame, count, columns)
        weights = [math.hypot(*map(self._weight, component)) for component in components]
        return [frame.part(x0, 0, x1, 1) for x0, x1 in shares(weights)]

    def _component(
        self, members: list[int], columns: list[int], rows: list[int], frame: Frame
    ) -> dict[int, Frame]:
        """Linked things in the cells of a grid.

        A column for each rank along x, a row for each along y.
        """
        cells: dict[tuple[int, int], list[int]] = {}
        for i in members:
            cells.setdefault((columns[i], rows[i]), []).append(i)
        widths, heights = self._sizes(cells, 0, sum), self._sizes(cells, 1, max)
        frames = {}
        for (column, row), inside in cells.items():
            cell = frame.part(
                widths[column][0], heights[row][0], widths[column][1], heights[row][1]
            )
            for i, (x0, x1) in zip(inside, shares([self._weight(i) for i in inside]), strict=True):
                frames[i] = self._single(i, cell.part(x0, 0, x1, 1).inset(INSET))
        return frames

    def _axes(self, links: list[Link]) -> tuple[list[int], list[int]]:
        """Ranks along x and y of all things."""
        x, y = Axis(len(self.scene.things)), Axis(len(self.scene.things))
        for link in links:
            first, second = (
                (link.second, link.first) if self._is_turned(link) else (link.first, link.second)
            )
            along, across = (x, y) if link.kind in SIDEWAYS else (y, x)
            stands = along.before(first, second)
            if not stands and link.kind is Kind.NEXT:
                stands = along.before(second, first)
            if stands and link.level:
                across.level(first, second)
        return x.ranks(), y.ranks()

    def _is_turned(self, link: Link) -> bool:
        """In front is lower in the picture.

        Of two side by side, one asked to the right goes there.
        """
        asked = self._place(link.first).x == 1 or self._place(link.second).x == -1
        return link.kind is Kind.FRONT or (link.kind is Kind.NEXT and asked)

    def _sizes(
        self, cells: dict, axis: int, total: Callable[[Iterable[float]], float]
    ) -> list[tuple[float, float]]:
        """Start and end of each column (axis 0) or row (1) of a grid, by what stands in its
        cells.
        """
        wanted = [1.0] * _lines(cells, axis)
        for at, members in cells.items():
            line = at[axis]
            wanted[line] = max(wanted[line], total(map(self._weight, members)))
        return shares(wanted)

    def _single(self, i: int, cell: Frame) -> Frame:
        if self.scene.things[i].count > 1:
            return cell
        carries = any(link.kind is Kind.ON and link.second == i for link in self.scene.links)
        largest = 1.0 if i in self.parents.values() else LARGEST
        return (cell.shrunk(cell.height * TABLE, 1) if carries else cell.object()).shrunk(
            largest, largest
        )

    def _weight(self, i: int) -> float:
        """How much of a side a thing wants.

        A group is as wide as its rows, a container as what it holds.
        """
        inside = sum(self._weight(child) for child, parent in self.parents.items() if parent == i)
        return max(math.ceil(math.sqrt(self.scene.things[i].count)), inside + 1 if inside else 1)

    def _links(self, members: list[int]) -> list[Link]:
        """The links between things of one level; what is inside a thing speaks for it."""
        lifted = [
            replace(k, first=self._lift(k.first, members), second=self._lift(k.second, members))
            for k in self.scene.links
            if k.kind is not Kind.INSIDE
        ]
        return [
            link
            for link in lifted
            if link.first != link.second and -1 not in (link.first, link.second)
        ]

    def _lift(self, i: int, members: list[int]) -> int:
        return next((above for above in (i, *self._ancestors(i)) if above in members), -1)

    def _ancestors(self, i: int) -> list[int]:
        return [] if i not in self.parents else [self.parents[i], *self._ancestors(self.parents[i])]

    def _place(self, i: int) -> Place:
        return self.scene.places.get(i, Place())

    def _side(self, component: list[int], axis: str, ranks: list[int]) -> int:
        """Where along an axis a component was asked to stand.

        One that spreads along it takes the whole of it.
        """
        asked = [
            getattr(self._place(i), axis)
            for i in component
            if getattr(self._place(i), axis) is not None
        ]
        return asked[0] if asked and len({ranks[i] for i in component}) == 1 else 0


def components_of(members: list[int], links: list[Link]) -> list[list[int]]:
    """Members that hang together by links, each in order."""
    group = {i: i for i in members}
    for link in links:
        old, new = group[link.second], group[link.first]
        group = {i: new if g == old else g for i, g in group.items()}
    components: dict[int, list[int]] = {}
    for i in members:
        components.setdefault(group[i], []).append(i)
    return list(components.values())


def _thirds(spots: set[int]) -> list[tuple[int, tuple[float, float]]]:
    """Start and end, in 0..1, of the asked ones of three parts.

    The middle is kept free beside a lone side.
    """
    kept = sorted(spots | {0}) if len(spots) == 1 else sorted(spots)
    bounds = dict(
        zip(
            kept,
            shares([MIDDLE if spot == 0 and 0 in spots else 1.0 for spot in kept]),
            strict=True,
        )
    )
    return [(spot, bounds[spot]) for spot in sorted(spots)]


def _in_contact(frames: dict[int, Frame], links: list[Link], rows: list[int]) -> dict[int, Frame]:
    """Things touch what they stand on, and reach behind what stands in front of them."""
    frames = dict(frames)
    for link in sorted(links, key=lambda link: -rows[link.second]):
        first, second = frames[link.first], frames[link.second]
        if link.kind is Kind.ON and rows[link.first] < rows[link.second]:
            down = second.y0 + TOUCH - first.y1
            frames[link.first] = replace(first, y0=first.y0 + down, y1=first.y1 + down)
        if link.kind is Kind.FRONT and rows[link.second] < rows[link.first]:
            frames[link.second] = replace(
                second, y1=max(second.y1, first.y0 + OVERLAP * first.height)
            )
    return frames


def _lines(cells: dict[tuple[int, int], list[int]], axis: int) -> int:
    return 1 + max(at[axis] for at in cells)


def _box(frame: Frame) -> Box:
    return Box(
        *(round(min(max(edge, 0.0), 1.0), 4) for edge in (frame.x0, frame.y0, frame.x1, frame.y1))
    )
