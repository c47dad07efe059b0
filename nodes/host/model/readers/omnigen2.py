"""OmniGen 2, and Boogu, which has double blocks before the joint layers."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from .reader import TextRows
from .transformer import Spans, Transformer


class OmniGen2(Transformer):
    """Reads text, reference latents and image."""

    def attention(self) -> Iterator[tuple[str, int, nn.Module, nn.Module]]:
        """Yield every joint layer's attention."""
        for number, block in enumerate(self.network.layers):
            yield "joint", number, block.attn, block

    def blocks(self) -> list[nn.Module]:
        """Return those that refine text and image, each alone, and the others."""
        network = self.network
        alone = (network.context_refiner, network.noise_refiner, network.ref_image_refiner)
        refiners = [block for blocks in alone for block in blocks]
        return [*refiners, *super().blocks()]

    def spans(self, keys: int, image: int, text: TextRows) -> Spans:
        """Return the text first and the image last."""
        return Spans(keys - image, 0)


class Boogu(OmniGen2):
    """Reads its double blocks too; their second attention is the image's own."""

    def attention(self) -> Iterator[tuple[str, int, nn.Module, nn.Module]]:
        """Yield every double block's joint attention, then every single block's."""
        for number, block in enumerate(self.network.double_stream_layers):
            yield "double", number, block.img_instruct_attn, block
        for number, block in enumerate(self.network.single_stream_layers):
            yield "single", number, block.attn, block
