"""HunyuanImage 2.1."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from .flux import FluxBlocks
from .reader import TextRows
from .transformer import Spans


class HunyuanImage(FluxBlocks):
    """Reads image and text; glyphs that are to be written have rows behind the text's."""

    gradient_memory = 3.0

    def attention(self) -> Iterator[tuple[str, int, nn.Module, nn.Module]]:
        """Yield every block; none of the video models, whose patches have a time."""
        if len(self.network.patch_size) == 2:
            yield from super().attention()

    def spans(self, keys: int, image: int, text: TextRows) -> Spans:
        """Return the image first, or on newer hosts last."""
        if getattr(self.network.double_blocks[0], "flipped_img_txt", False):
            return Spans(0, image)
        return Spans(keys - image, 0)
