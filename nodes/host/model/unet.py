"""The cross-attention layers of U-Nets, and which of them are read."""

from __future__ import annotations

from collections.abc import Iterator
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
    """One transformer block: ``key`` is (input|middle|output, number, depth).

    ``factor`` is how much smaller its maps are than the latent.
    """

    key: tuple[str, int, int]
    factor: int
    layer: nn.Module


def attention_blocks(model: Any) -> list[Block]:
    """Return a model's cross-attention blocks, in execution order.

    Raises :class:`InputError` for a family that has none to read.
    """
    unet = getattr(model, "diffusion_model", None)
    unet = getattr(unet, "_orig_mod", unet)
    if not isinstance(unet, UNetModel):
        fix = "Use a Stable Diffusion 1.x, 2.x or SDXL model."
        raise InputError("attention", "a U-Net with cross-attention", type(model).__name__, fix)
    blocks, factor = [], 1
    for kind, number, layer in _layers_of(unet):
        factor = _rescaled(factor, layer)
        blocks += _blocks_of(layer, kind, number, factor)
    return blocks


def choose_blocks(
    blocks: list[Block], downsample: int, layers: Layers, latent: tuple[int, int]
) -> list[Block]:
    """Return the blocks at one downsample factor, of some layers.

    0 takes latent/4 where the model attends there, else the factor whose maps come closest to
    16x16 for this ``latent`` (height, width in cells). Raises :class:`InputError` for a factor at
    which the model has no attention.
    """
    blocks = [block for block in blocks if block.key[0] in KINDS[layers]]
    factors = sorted({block.factor for block in blocks})
    if not factors or (downsample and downsample not in factors):
        expected = f"one of these layers' factors {factors}"
        fix = "Choose one of them, or 0 for automatic, or other layers."
        raise InputError("downsample", expected, str(downsample), fix)
    chosen = downsample or _automatic(factors, latent)
    return [block for block in blocks if block.factor == chosen]


def early_decoder(found: list[Block], latent: tuple[int, int]) -> list[Block]:
    """Return the middle and the first of the way up, where Layout Guidance reads.

    Some models' middle has no attention.
    """
    up = [block for block in found if block.key[0] == "output"]
    first = max((block.factor for block in up), default=0)
    middle = [block for block in found if block.key[0] == "middle"]
    return middle + [block for block in up if block.factor == first]


def _automatic(factors: list[int], latent: tuple[int, int]) -> int:
    def distance(factor: int) -> float:
        cells = latent[0] * latent[1] / factor**2
        return abs(torch.tensor(cells / TARGET_CELLS).log().item())

    return PAPERS_FACTOR if PAPERS_FACTOR in factors else min(factors, key=distance)


def _layers_of(unet: UNetModel) -> Iterator[tuple[str, int, nn.Module]]:
    """Every layer in execution order, with the part of the network and its number there."""
    parts = {
        "input": unet.input_blocks,
        "middle": [unet.middle_block],
        "output": unet.output_blocks,
    }
    for kind, modules in parts.items():
        for number, layers in enumerate(modules):
            for layer in layers or ():
                yield kind, number, layer


def _rescaled(factor: int, layer: nn.Module) -> int:
    if isinstance(layer, Downsample):
        return factor * 2
    if isinstance(layer, Upsample):
        return factor // 2
    if isinstance(layer, ResBlock) and layer.updown:
        return factor * 2 if isinstance(layer.h_upd, Downsample) else factor // 2
    return factor


def _blocks_of(layer: Any, kind: str, number: int, factor: int) -> list[Block]:
    if type(layer) is not SpatialTransformer:
        return []
    blocks = []
    for depth, inner in enumerate(layer.transformer_blocks):
        if inner.attn2 is not None:
            blocks.append(Block((kind, number, depth), factor, layer))
    return blocks
