"""Stable Diffusion 3 and 3.5."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from .placing import SD3 as PLACING
from .reader import TextRows
from .transformer import Spans, Transformer


class SD3(Transformer):
    """Reads text and image of every joint block; SD3.5's second attention is the image's own."""

    placing = PLACING
    gradient_memory = 2.0

    def attention(self) -> Iterator[tuple[str, int, nn.Module, nn.Module]]:
        """Yield every joint block."""
        for number, block in enumerate(self.network.joint_blocks):
            yield "joint", number, block, block

    def patch(self) -> int:
        """Return the patch size of its embedder."""
        return self.network.x_embedder.patch_size[0]

    def spans(self, keys: int, image: int, text: TextRows) -> Spans:
        """Return registers, if there are any, then the text, then the image."""
        return Spans(keys - image, keys - image - text.count)
