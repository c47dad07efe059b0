"""A layout tied to the tokens of one prompt: what travels inside the conditioning."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .layout import Layout
from .tokens import Tokenizer, locate


@dataclass(frozen=True)
class Objects:
    """What a loss needs of a grounding at one size: ``regions`` [objects, H, W] and token positions."""

    phrases: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    regions: Tensor


@dataclass(frozen=True)
class Grounding:
    """A layout and, for each of its entities, the token positions of its phrase in one prompt."""

    layout: Layout
    tokens: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, layout: Layout, prompt: str, tokenizer: Tokenizer) -> Grounding:
        """Find every phrase in the prompt; raises :class:`~.errors.InputError` where one is missing."""
        return cls(layout, locate(layout, prompt, tokenizer))

    def objects(self, height: int, width: int) -> Objects:
        """Regions on a grid of cells. Entities with the same tokens ("two corgis") share one region,
        the union of theirs: attention cannot tell them apart."""
        regions = self.layout.rasterise(height, width)
        distinct = list(dict.fromkeys(self.tokens))
        members = [[i for i, tokens in enumerate(self.tokens) if tokens == t] for t in distinct]
        phrases = tuple(self.layout.entities[m[0]].phrase for m in members)
        return Objects(phrases, tuple(distinct), torch.stack([regions[m].amax(dim=0) for m in members]))
