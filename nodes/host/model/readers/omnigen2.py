"""OmniGen 2."""

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
        """Return those that refine text and image, each alone, and the joint ones."""
        network = self.network
        alone = (network.context_refiner, network.noise_refiner, network.ref_image_refiner)
        return [block for blocks in (*alone, network.layers) for block in blocks]

    def spans(self, keys: int, image: int, text: TextRows) -> Spans:
        """Return the text first and the image last."""
        return Spans(keys - image, 0)
