"""The second base, a transformer, which reads what the first one's text encoder says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.ops
import torch
from comfy.ldm.lumina.model import NextDiT
from torch import Generator, Tensor, nn

from ..toy.networks import TEXT_LENGTH, TRANSFORMER, UNET_PREFIX
from .data import Batch
from .diffusion import Attention
from .lesson import initialise, renamed
from .optimise import SEED

if TYPE_CHECKING:
    from .lesson import Lesson

OPEN = 0.5  # what the gates of a block's two halves let through, before tanh
EPS = torch.finfo(torch.float32).eps  # a norm's own where it has none


class RootMeanSquareNorm(torch.autograd.Function):
    """PyTorch's, which has no fused kernel on CPUs, in half of its time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = x.float()
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = size.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        unit = x * scale
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, scale, weight = ctx.saved_tensors
        along = gradients[0] * unit
        mean = (along @ weight).div_(-unit.shape[-1])[..., None]
        at_x = torch.addcmul(gradients[0] * weight, unit, mean).mul_(scale)
        return at_x, along.flatten(0, -2).sum(0), None


class Operations(comfy.ops.disable_weight_init):
    """ComfyUI's layers, with that norm."""

    class RMSNorm(comfy.ops.disable_weight_init.RMSNorm):
        def forward(self, x: Tensor) -> Tensor:
            return RootMeanSquareNorm.apply(x, self.weight, self.eps or EPS)


def transformer() -> NextDiT:
    """Return the untrained network: it predicts 0, and its blocks don't know the time yet."""
    network = NextDiT(**TRANSFORMER, dtype=torch.float32, operations=Operations)
    vars(network)["_modules"].pop("norm_final", None)  # older ComfyUIs hold one and never use it
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
