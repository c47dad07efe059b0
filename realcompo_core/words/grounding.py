"""A layout tied to the tokens of one prompt: what travels inside the conditioning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..layout.model import MAXIMUM_OBJECTS, Box, Layout, LayoutObject
from .tokens import Tokenizer, locate


@dataclass(frozen=True)
class Objects:
    """What a loss needs of a grounding at one size: regions and token positions.

    ``members`` are the layout's objects, by number, that each object stands for, ``parts`` their regions
    [members, H, W]. ``corner`` (row, column) is where in the latent the regions begin, in cells.
    """

    phrases: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    parts: tuple[Tensor, ...]
    members: tuple[tuple[int, ...], ...]
    corner: tuple[int, int] = (0, 0)

    @property
    def regions(self) -> Tensor:
        """Each object's region [objects, H, W], the union of its parts."""
        return torch.stack([part.amax(dim=0) for part in self.parts])

    def numbered_from(self, first: int) -> Objects:
        """Return the same, whose layout's objects count on from those of other layouts."""
        members = tuple(tuple(first + number for number in found) for found in self.members)
        return replace(self, members=members)

    def weights(self, objects: Sequence[float]) -> Tensor:
        """Each object's weight [objects], of the weights of all objects; of several that it stands for the largest."""
        return torch.tensor([max(objects[i] for i in members) for members in self.members])


@dataclass(frozen=True)
class Grounding:
    """A layout and, for each of its objects, the token positions of its phrase in one prompt."""

    layout: Layout
    tokens: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, layout: Layout, prompt: str, tokenizer: Tokenizer) -> Grounding:
        """Find every phrase in the prompt; raises :class:`~.errors.InputError` where one is missing."""
        return cls(layout, locate(layout, prompt, tokenizer))

    @classmethod
    def anywhere(cls, phrases: Sequence[str], prompt: str, tokenizer: Tokenizer) -> Grounding:
        """Objects that may stand anywhere, for losses that hold them against each other.

        Raises :class:`~.errors.InputError` for fewer than two, and where one is missing or shares a word of the prompt.
        """
        if len(phrases) < 2:
            fix = "Write one object a line, each in words of the prompt."
            raise InputError("objects", "two objects or more", str(len(phrases)), fix)
        found = cls.of(
            Layout(tuple(LayoutObject(phrase, Box(0, 0, 1, 1)) for phrase in phrases)),
            prompt,
            tokenizer,
        )
        if len({position for tokens in found.tokens for position in tokens}) < sum(
            map(len, found.tokens)
        ):
            fix = "Name each object by words of the prompt that no other has."
            raise InputError(
                "objects", "words of its own for each object", f"{list(phrases)} in {prompt!r}", fix
            )
        return found

    def objects(self, height: int, width: int) -> Objects:
        """Regions on a grid of cells. Objects with the same tokens ("two corgis") share one region,
        the union of theirs: attention cannot tell them apart."""
        regions = self.layout.rasterise(height, width)
        distinct = list(dict.fromkeys(self.tokens))
        members = tuple(
            tuple(i for i, tokens in enumerate(self.tokens) if tokens == t) for t in distinct
        )
        phrases = tuple(self.layout.objects[m[0]].phrase for m in members)
        parts = tuple(regions[list(m)] for m in members)
        return Objects(phrases, tuple(distinct), parts, members)


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
    """The conditionings, as processed for a run, that carry a layout."""
    return [cond for cond in conds if isinstance(cond.get(OPTION), Grounding)]
