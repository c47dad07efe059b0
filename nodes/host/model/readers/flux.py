"""Flux.1, Flux.2 and Chroma: text and image in double blocks, then joined in single ones."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from .placing import FLUX
from .reader import Layer, TextRows
from .transformer import Spans, Transformer


class FluxBlocks(Transformer):
    """Double blocks, then single blocks. Each attends by itself."""

    def attention(self) -> Iterator[tuple[str, int, nn.Module, nn.Module]]:
        """Yield every double and every single block."""
        for number, block in enumerate(self.network.double_blocks):
            yield "double", number, block, block
        for number, block in enumerate(self.network.single_blocks):
            yield "single", number, block, block


class Flux(FluxBlocks):
    """Reads Flux.1, Flux.2 and Chroma: text, image, and reference latents behind."""

    gradient_memory = 1.1  # the host reckons amply here

    def spans(self, keys: int, image: int, text: TextRows) -> Spans:
        """Return the text first."""
        return Spans(text.count, 0)

    def usual(self) -> list[Layer]:
        """Return most double blocks; of Flux.2, which has few, the second quarter of all."""
        if getattr(self.network.params, "global_modulation", False):
            return super().usual()
        return FLUX.of([layer for layer in self.layers() if layer.key[0] == "double"])
