"""Qwen-Image."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from .reader import TextRows
from .transformer import Spans, Transformer


class QwenImage(Transformer):
    """Reads text, image, and reference latents behind."""

    gradient_memory = 2.0

    def attention(self) -> Iterator[tuple[str, int, nn.Module, nn.Module]]:
        """Yield every block's attention."""
        for number, block in enumerate(self.network.transformer_blocks):
            yield "joint", number, block.attn, block

    def spans(self, keys: int, image: int, text: TextRows) -> Spans:
        """Return the text first."""
        return Spans(text.count, 0)
