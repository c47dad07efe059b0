"""A layout tied to the tokens of one prompt: what travels inside the conditioning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import torch
from torch import Tensor

from ..errors import InputError
from ..layout.model import MAXIMUM_OBJECTS, Box, Layout, LayoutObject
from .tokenized import Tokenized, locate_in, words_in
from .tokens import describe, words_of


@dataclass(frozen=True)
class Objects:
    """What a loss needs of a grounding at one size: regions and token positions.

    ``members`` are the layout's objects, by number, that each object stands for, ``parts`` their
    regions [members, H, W]. ``corner`` (row, column) is where in the latent the regions begin, in
    latent cells.
    """

    phrases: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    parts: tuple[Tensor, ...]
    members: tuple[tuple[int, ...], ...]
    corner: tuple[int, int] = (0, 0)

    @property
    def regions(self) -> Tensor:
        """Return each object's region [objects, H, W], 0..1: the union of its parts."""
        return torch.stack([part.amax(dim=0) for part in self.parts])

    def numbered_from(self, first: int) -> Objects:
        """Return the same, whose layout's objects count on from those of other layouts."""
        moved = []
        for numbers in self.members:
            moved.append(tuple(first + number for number in numbers))
        return replace(self, members=tuple(moved))

    def weights(self, objects: Sequence[float]) -> Tensor:
        """Return each object's weight [objects]: the largest of those of its members."""
        largest = []
        for members in self.members:
            largest.append(max(objects[index] for index in members))
        return torch.tensor(largest)


@dataclass(frozen=True)
class Grounding:
    """A layout and, for each of its objects, the token positions of its phrase in one prompt.

    ``words`` are the positions of all words of the prompt. ``background`` [1, rows, width] is the
    prompt as encoded without its objects, where that was done.
    """

    layout: Layout
    tokens: tuple[tuple[int, ...], ...]
    words: tuple[int, ...] = ()
    background: Tensor | None = field(default=None, compare=False, repr=False)

    @property
    def wordless(self) -> list[int]:
        """Return the rows of the encoded prompt behind its first word that stand for no word.

        They are its end and padding: encoders sum up the whole text there, with all its objects.
        None are known without a ``background``.
        """
        if self.background is None:
            return []
        first, rows = min(self.words, default=0), self.background.shape[1]
        words = {*self.words, *chain.from_iterable(self.tokens)}
        return [row for row in range(first, rows) if row not in words]

    @classmethod
    def of(cls, layout: Layout, encoders: Sequence[Tokenized]) -> Grounding:
        """Find every phrase in the prompt. Raises :class:`InputError` where one is missing."""
        pieces = chain.from_iterable(encoder.pieces for encoder in encoders)
        words = sorted({row for piece in pieces for row in piece.positions})
        return cls(layout, locate_in(layout, encoders), tuple(words))

    @classmethod
    def anywhere(cls, phrases: Sequence[str], encoders: Sequence[Tokenized]) -> Grounding:
        """Ground objects that may stand anywhere, for losses that hold them against each other.

        Raises :class:`InputError` for fewer than two, and where one is missing or shares a word of
        the prompt with another.
        """
        if len(phrases) < 2:
            fix = "Write one object a line, each in words of the prompt."
            raise InputError("objects", "two objects or more", str(len(phrases)), fix)
        objects = tuple(LayoutObject(phrase, Box(0, 0, 1, 1)) for phrase in phrases)
        found = cls.of(Layout(objects), encoders)
        positions = list(chain.from_iterable(found.tokens))
        if len(set(positions)) < len(positions):
            prompt = describe(words_in(encoders))
            expected, got = "words of its own for each object", f"{list(phrases)} in {prompt}"
            fix = "Name each object by words of the prompt that no other has."
            raise InputError("objects", expected, got, fix)
        return found

    def objects(self, height: int, width: int) -> Objects:
        """Return the objects with their regions on a grid of ``height`` x ``width`` latent cells.

        Objects with the same tokens ("two corgis") become one, whose region is the union of theirs:
        attention cannot tell them apart.
        """
        members: dict[tuple[int, ...], list[int]] = {}
        for index, tokens in enumerate(self.tokens):
            members.setdefault(tokens, []).append(index)
        regions = self.layout.rasterise(height, width)
        groups = tuple(map(tuple, members.values()))
        phrases = tuple(self.layout.objects[group[0]].phrase for group in groups)
        parts = tuple(regions[list(group)] for group in groups)
        return Objects(phrases, tuple(members), parts, groups)


def without_objects(grounding: Grounding, encoders: Sequence[Tokenized]) -> str:
    """Return the words of a prompt that belong to none of its objects, as one encoder has them."""
    gone = set(chain.from_iterable(grounding.tokens))
    words = words_of(encoders[0].pieces) if encoders else []
    return " ".join(word.text for word in words if gone.isdisjoint(word.positions))


def distinct_layouts(groundings: Sequence[Grounding]) -> list[Layout]:
    """Return the layouts that prompts are tied to, each once, in their order."""
    found: list[Layout] = []
    for grounding in groundings:
        if not any(_same(grounding.layout, layout) for layout in found):
            found.append(grounding.layout)
    return found


def first_number(layout: Layout, layouts: Sequence[Layout]) -> int:
    """Return how many objects the distinct layouts before this one have."""
    first = 0
    for other in layouts:
        if _same(other, layout):
            break
        first += len(other.objects)
    return first


def together(layouts: Sequence[Layout]) -> Layout | None:
    """Return one layout of the objects of all, as far as a layout holds them; None of none."""
    placed = tuple(placed for layout in layouts for placed in layout.objects)
    return Layout(placed[:MAXIMUM_OBJECTS]) if placed else None


def _same(one: Layout, other: Layout) -> bool:
    masks = zip(one.objects, other.objects, strict=False)
    return one == other and all(a.mask is b.mask for a, b in masks)


OPTION = "realcompo"  # key of the Grounding in a conditioning's options


def grounded(conds: list[dict]) -> list[dict]:
    """Return the conditionings, as processed for a run, that carry a layout."""
    return [cond for cond in conds if isinstance(cond.get(OPTION), Grounding)]
