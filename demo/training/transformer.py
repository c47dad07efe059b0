"""The second base, a transformer, which reads what the first one's text encoder says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.ops
import torch
from torch import Generator, Tensor, nn

from ..toy.networks import TEXT_LENGTH, TRANSFORMER, UNET_PREFIX, ToyTransformer
from .data import Batch
from .diffusion import Attention
from .lesson import initialise, renamed
from .optimise import SEED

if TYPE_CHECKING:
    from .lesson import Lesson

OPEN = 0.5  # what the gates of a block's two halves let through, before tanh


def transformer() -> ToyTransformer:
    """Return the untrained network: it predicts 0, and its blocks don't know the time yet."""
    operations = comfy.ops.disable_weight_init
    network = ToyTransformer(**TRANSFORMER, dtype=torch.float32, operations=operations)
    initialise(network, Generator().manual_seed(SEED))
    nn.init.zeros_(network.final_layer.linear.weight)
    for block in (*network.noise_refiner, *network.layers):
        _open(block.adaLN_modulation[-1])
    return network


@torch.no_grad()
def _open(modulation: Any) -> None:
    modulation.weight.zero_()
    _, attention, _, feed_forward = modulation.bias.chunk(4)
    attention.fill_(OPEN)
    feed_forward.fill_(OPEN)


def train_transformer(lesson: Lesson) -> dict[str, Tensor]:
    """Train a transformer on the frozen base's text, and return its weights [...] for ComfyUI."""
    base, network = lesson.base(), transformer().to(lesson.device)

    def predict(
        batch: Batch, x: Tensor, sigma: Tensor, attention: Attention, _: Generator
    ) -> Tensor:
        options = {"optimized_attention_override": attention}
        context = base.encode(batch.tokens)
        return network(x, sigma, context, num_tokens=TEXT_LENGTH, transformer_options=options)

    return renamed(lesson.fit(network, predict), "", UNET_PREFIX)
