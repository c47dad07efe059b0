"""Lens."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from .reader import TextRows
from .transformer import Spans, Transformer


class Lens(Transformer):
    """Reads image and text. Its own patches are made before: a token is one cell of the latent."""

    def attention(self) -> Iterator[tuple[str, int, nn.Module, nn.Module]]:
        """Yield every block's attention."""
        for number, block in enumerate(self.network.transformer_blocks):
            yield "joint", number, block.attn, block

    def patch(self) -> int:
        """Return 1."""
        return 1

    def spans(self, keys: int, image: int, text: TextRows) -> Spans:
        """Return the image first."""
        return Spans(0, image)
