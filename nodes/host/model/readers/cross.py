"""Families whose image attends to the text alone: PixArt, Wan, Cosmos-Predict2, Anima."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from .reader import TextRows
from .transformer import Spans, Transformer

WAN_TEXT_TO_IMAGE = "WanT2VCrossAttention"


class CrossAttention(Transformer):
    """Queries are the image, keys the text."""

    def attention(self) -> Iterator[tuple[str, int, nn.Module, nn.Module]]:
        """Yield every block's cross-attention."""
        for number, block in enumerate(self.network.blocks):
            yield "cross", number, block.cross_attn, block

    def spans(self, keys: int, image: int, text: TextRows) -> Spans:
        """Return both from the start."""
        return Spans(0, 0)


class PixArt(CrossAttention):
    """Its attention is called without the transformer options."""

    hears_override = False


class Wan(CrossAttention):
    """Reads the text-to-image models; the others attend to a picture first."""

    def attention(self) -> Iterator[tuple[str, int, nn.Module, nn.Module]]:
        """Yield every block's cross-attention, if it hears text alone."""
        for found in super().attention():
            if type(found[2]).__name__ == WAN_TEXT_TO_IMAGE:
                yield found


class Cosmos2(CrossAttention):
    """Reads Cosmos-Predict2 and Anima, whose patch size has a name of its own."""

    def patch(self) -> int:
        """Return the patch size of its pictures."""
        return self.network.patch_spatial
