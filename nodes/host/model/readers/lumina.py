"""Lumina 2 and Z-Image."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import nn

from .reader import TextRows
from .transformer import Spans, Transformer


class Lumina(Transformer):
    """Reads text and image, each with the padding that Z-Image puts behind it."""

    gradient_memory = 2.0

    def attention(self) -> Iterator[tuple[str, int, nn.Module, nn.Module]]:
        """Yield every joint layer's attention."""
        for number, block in enumerate(self.network.layers):
            yield "joint", number, block.attention, block

    def blocks(self) -> list[nn.Module]:
        """Return those that refine text and image, each alone, and the joint ones."""
        network = self.network
        return [*network.context_refiner, *network.noise_refiner, *network.layers]

    def spans(self, keys: int, image: int, text: TextRows) -> Spans:
        """Return the text first, padded to a multiple."""
        multiple = getattr(self.network, "pad_tokens_multiple", None) or 1
        return Spans(math.ceil(text.count / multiple) * multiple, 0)
