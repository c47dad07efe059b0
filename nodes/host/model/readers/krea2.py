"""Krea 2."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from .reader import TextRows
from .transformer import Spans, Transformer


class Krea2(Transformer):
    """Reads text, image, and reference latents behind."""

    def attention(self) -> Iterator[tuple[str, int, nn.Module, nn.Module]]:
        """Yield every block's attention."""
        for number, block in enumerate(self.network.blocks):
            yield "joint", number, block.attn, block

    def patch(self) -> int:
        """Return the patch size, which has a name of its own."""
        return self.network.patch

    def spans(self, keys: int, image: int, text: TextRows) -> Spans:
        """Return the text first."""
        return Spans(text.count, 0)
