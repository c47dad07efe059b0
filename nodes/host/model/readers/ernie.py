"""Ernie-Image."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from .reader import TextRows
from .transformer import Spans, Transformer


class Ernie(Transformer):
    """Reads image and text; its attention is called without the transformer options."""

    hears_override = False

    def attention(self) -> Iterator[tuple[str, int, nn.Module, nn.Module]]:
        """Yield every layer's attention."""
        for number, block in enumerate(self.network.layers):
            yield "joint", number, block.self_attention, block

    def spans(self, keys: int, image: int, text: TextRows) -> Spans:
        """Return the image first."""
        return Spans(0, image)
