"""HiDream I1."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from .reader import TextRows
from .transformer import Spans, Transformer


class HiDream(Transformer):
    """Reads image and T5's text; what Llama makes of the same words stands behind."""

    def attention(self) -> Iterator[tuple[str, int, nn.Module, nn.Module]]:
        """Yield every block's attention."""
        for number, block in enumerate(self.network.double_stream_blocks):
            yield "double", number, block.block.attn1, block
        for number, block in enumerate(self.network.single_stream_blocks):
            yield "single", number, block.block.attn1, block

    def spans(self, keys: int, image: int, text: TextRows) -> Spans:
        """Return the image first, then T5's rows."""
        return Spans(0, image)
