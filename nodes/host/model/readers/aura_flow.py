"""AuraFlow."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from .reader import TextRows
from .transformer import Spans, Transformer


class AuraFlow(Transformer):
    """Reads registers, text and image, in double layers and then joined in single ones."""

    gradient_memory = 1.3

    def attention(self) -> Iterator[tuple[str, int, nn.Module, nn.Module]]:
        """Yield every layer's attention."""
        for number, block in enumerate(self.network.double_layers):
            yield "double", number, block.attn, block
        for number, block in enumerate(self.network.single_layers):
            yield "single", number, block.attn, block

    def spans(self, keys: int, image: int, text: TextRows) -> Spans:
        """Return the image last, the text before it."""
        return Spans(keys - image, keys - image - text.count)
