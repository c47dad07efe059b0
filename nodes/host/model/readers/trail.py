"""Following a layer's rows and tokens through what other packs do to them before it attends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

PATCHES = "attn2_patch"  # called one after the other, with queries, text and values
Found = tuple[list[int], int]


class Trail:
    """What a layer's cross-attention has before and after the patches of other packs.

    Rows and tokens that patches move or repeat are found again by what they hold.
    """

    def __init__(self) -> None:
        self.begin: tuple[Tensor, Tensor] | None = None
        self.end: tuple[Tensor, Tensor] | None = None

    def __deepcopy__(self, memo: dict) -> Trail:
        return self  # hosts deep-copy model options

    @classmethod
    def laid(cls, transformer: dict) -> Trail | None:
        """Return a trail around the patches in transformer options; None where there is none."""
        patches = transformer.get("patches", {})
        if not patches.get(PATCHES):
            return None
        trail = cls()
        transformer["patches"] = patches | {PATCHES: [trail.before, *patches[PATCHES], trail.after]}
        return trail

    @torch.compiler.disable
    def before(
        self, n: Tensor, context: Tensor, value: Tensor, options: dict
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Note what stock gives the layer: queries, text, values [rows, tokens, width]."""
        self.begin = n, context
        return n, context, value

    @torch.compiler.disable
    def after(
        self, n: Tensor, context: Tensor, value: Tensor, options: dict
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Note what the patches make of it: queries, text, values [rows, tokens, width]."""
        self.end = n, context
        return n, context, value

    def followed(self, rows: Sequence[int]) -> Found | None:
        """Return where these rows are after the patches, and which share of tokens they have.

        A stride of 2 says that every second row of text is left. None where a row is not found.
        """
        if self.begin is None or self.end is None:
            return None
        queries, context = self.begin
        for stride, texts in _texts(context, self.end[1].shape[1]):
            found = [_place(queries[row], texts[row], *self.end) for row in rows]
            if None not in found:
                return [row for row in found if row is not None], stride
        return None


def _place(queries: Tensor, text: Tensor, after: Tensor, context: Tensor) -> int | None:
    """The first row after the patches that has these queries and this text."""
    for number in range(min(len(after), len(context))):
        if torch.equal(after[number], queries) and torch.equal(context[number], text):
            return number
    return None


def _texts(context: Tensor, count: int) -> Iterator[tuple[int, Tensor]]:
    """Ways to make ``count`` tokens of a text [rows, tokens, width], each with its stride.

    The text is repeated, or has several rows a token: side by side, or one half after the other.
    """
    tokens = context.shape[1]
    if count % tokens == 0:
        yield 1, context.repeat(1, count // tokens, 1)
    elif tokens % count == 0:
        yield tokens // count, context[:, :: tokens // count]
        yield tokens // count, context[:, :count]
