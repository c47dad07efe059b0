"""Ideogram 4."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from .reader import TextRows
from .transformer import Spans, Transformer


class Ideogram4(Transformer):
    """Reads text and image. Its own patches are made before: a token is one cell of the latent."""

    def attention(self) -> Iterator[tuple[str, int, nn.Module, nn.Module]]:
        """Yield every layer's attention."""
        for number, block in enumerate(self.network.layers):
            yield "joint", number, block.attention, block

    def patch(self) -> int:
        """Return 1."""
        return 1

    def spans(self, keys: int, image: int, text: TextRows) -> Spans:
        """Return the text first."""
        return Spans(text.count, 0)
