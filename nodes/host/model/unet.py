"""The cross-attention layers of U-Nets, and which of them are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, UNetModel, Upsample
from torch import nn

from ....realcompo_core.errors import InputError
from ....realcompo_core.sampling.attention import Layers

TARGET_CELLS = 16 * 16  # the papers read attention at 16x16


PAPERS_FACTOR = 4  # which is latent/4 at 512 pixels


KINDS = {
    Layers.ALL: ("input", "middle", "output"),
    Layers.DOWN: ("input",),
    Layers.MIDDLE: ("middle",),
    Layers.UP: ("output",),
}


@dataclass(frozen=True)
class Block:
    """One transformer block: ``key`` is (input|middle|output, number, depth); ``factor`` its downsampling."""

    key: tuple[str, int, int]
    factor: int
    layer: nn.Module


def attention_blocks(model: Any) -> list[Block]:
    """Cross-attention blocks of a model in execution order; raises for a family that has none to read."""
    unet = getattr(model, "diffusion_model", None)
    unet = getattr(unet, "_orig_mod", unet)
    if not isinstance(unet, UNetModel):
        fix = "Use a Stable Diffusion 1.x, 2.x or SDXL model."
        raise InputError(
            "attention", "a U-Net with cross-attention", f"{type(model).__name__}", fix
        )
    blocks, factor = [], 1
    for kind, modules in (
        ("input", unet.input_blocks),
        ("middle", [unet.middle_block]),
        ("output", unet.output_blocks),
    ):
        for number, layers in enumerate(modules):
            for layer in layers or ():
                factor = _rescaled(factor, layer)
                blocks += _blocks_of(layer, kind, number, factor)
    return blocks


def choose_blocks(
    blocks: list[Block], downsample: int, layers: Layers, latent: tuple[int, int]
) -> list[Block]:
    """Blocks at one downsample factor. 0 takes latent/4 where the model attends there, else the factor
    whose maps come closest to 16x16 for this ``latent`` (height, width in cells)."""
    blocks = [block for block in blocks if block.key[0] in KINDS[layers]]
    factors = sorted({block.factor for block in blocks})
    if not factors or (downsample and downsample not in factors):
        fix = "Choose one of them, or 0 for automatic, or other layers."
        raise InputError(
            "downsample", f"one of these layers' factors {factors}", str(downsample), fix
        )
    if not downsample:
        cells = {f: latent[0] * latent[1] / f**2 for f in factors}
        nearest = min(
            factors, key=lambda f: abs(torch.tensor(cells[f] / TARGET_CELLS).log().item())
        )
        downsample = PAPERS_FACTOR if PAPERS_FACTOR in factors else nearest
    return [block for block in blocks if block.factor == downsample]


def _rescaled(factor: int, layer: nn.Module) -> int:
    if isinstance(layer, Downsample):
        return factor * 2
    if isinstance(layer, Upsample):
        return factor // 2
    if isinstance(layer, ResBlock) and layer.updown:
        return factor * 2 if isinstance(layer.h_upd, Downsample) else factor // 2
    return factor


def _blocks_of(layer: nn.Module, kind: str, number: int, factor: int) -> list[Block]:
    if type(layer) is not SpatialTransformer:
        return []
    inner = enumerate(layer.transformer_blocks)
    return [
        Block((kind, number, depth), factor, layer) for depth, b in inner if b.attn2 is not None
    ]


def early_decoder(found: list[Block], latent: tuple[int, int]) -> list[Block]:
    """The middle and the first of the way up, where Layout Guidance reads; some model's middle has no attention."""
    first = max((block.factor for block in found if block.key[0] == "output"), default=0)
    return [
        b for b in found if b.key[0] == "middle" or (b.key[0] == "output" and b.factor == first)
    ]
