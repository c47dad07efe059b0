"""Trains the toy world's models, each on top of the base.

``python -m demo.training.train base|control|gligen|style|transformer`` runs on CPU or GPU, resumes
from its last checkpoint, and gives the same weights for the same seed on one machine. A finished
stage writes its weights to ``demo/weights``.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import Any

from .lesson import ROOT, WEIGHTS, Base, Lesson, Stage, fit_autoencoder, initialise, renamed, zero

# isort: split
import comfy.model_management
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Generator, Tensor, nn
from torch.nn.utils import parametrize

from ..toy.captions import NAMES
from ..toy.networks import (
    TEXT_PREFIX,
    TEXT_WIDTH,
    UNET,
    UNET_PREFIX,
    VAE_PREFIX,
    ToyControlNet,
    gligen_parts,
    gligen_state,
)
from ..toy.paint import hints
from ..toy.picture import PAIRS
from .data import Batch, Words, boxes_of
from .diffusion import Attention, Flow, FuserAttention
from .optimise import SEED
from .transformer import train_transformer


def train_base(lesson: Lesson) -> dict[str, Tensor]:
    """Train text encoder and U-Net, and return weights [...] for ComfyUI, the autoencoder's too."""
    base = Base(lesson.words).to(lesson.device)

    def predict(batch: Batch, x: Tensor, t: Tensor, attention: Attention, _: Generator) -> Tensor:
        return base.denoise(x, t, base.encode(batch.tokens), attention)

    average = lesson.fit(base, predict)
    state = base.state_dict() | average
    text, unet = renamed(state, "text.", TEXT_PREFIX), renamed(state, "unet.", UNET_PREFIX)
    return text | unet | renamed(lesson.autoencoder.state_dict(), "", VAE_PREFIX)


def train_control(lesson: Lesson) -> dict[str, Tensor]:
    """Train a ControlNet that starts as a copy of the base's encoder, and return weights [...].

    Hints are painted boxes or outlines.
    """
    base, control = lesson.base(), ToyControlNet(**UNET, hint_channels=3, dtype=torch.float32)
    initialise(control, Generator().manual_seed(SEED))
    control.load_state_dict(base.unet.state_dict(), strict=False)
    zero(control.zero_convs, control.middle_block_out)
    control.to(lesson.device)

    def kept(h: Tensor, _: object) -> Tensor:
        return h.clone()  # residuals are added in place

    def predict(
        batch: Batch, x: Tensor, t: Tensor, attention: Attention, generator: Generator
    ) -> Tensor:
        boxes = torch.rand(len(x), generator=generator) < 0.6
        hint = hints(batch.scenes, boxes.tolist()).to(x.device)
        context = base.encode(batch.tokens)
        residuals = control(x, F.interpolate(hint, scale_factor=2), t, context)
        patches = {"input_block_patch_after_skip": [kept]}
        return base.denoise(x, t, context, attention, control=residuals, patches=patches)

    return control.state_dict() | lesson.fit(control, predict)


def train_gligen(lesson: Lesson) -> dict[str, Tensor]:
    """Train fusers and a position net on the frozen base, and return GLIGEN's weights [...].

    Cells are taught to read their box.
    """
    base, gligen = lesson.base(), gligen_parts()
    initialise(gligen, Generator().manual_seed(SEED))
    for fuser in gligen.module_list:
        zero(fuser.attn.to_out, fuser.ff.net[2])
        nn.init.ones_(fuser.alpha_attn)
        nn.init.ones_(fuser.alpha_dense)
    gligen.to(lesson.device)
    phrases = {kind: _phrases(lesson, base, *kind) for kind in PAIRS}
    fused = FuserAttention(gligen.max_objs)
    _watch(gligen, fused)

    def predict(
        batch: Batch, x: Tensor, t: Tensor, attention: Attention, generator: Generator
    ) -> Tensor:
        fused.maps.clear()
        positions = _positions(batch, phrases, gligen.max_objs, generator, x.device)
        patches = {"middle_patch": [gligen._set_position(*positions)]}
        v = base.denoise(x, t, base.encode(batch.tokens), attention, patches=patches)
        boxes = torch.stack([boxes_of(scene) for scene in batch.scenes]).to(x.device)
        attention.extra = fused.share_outside(boxes) + fused.unread(boxes)
        return v

    average = lesson.fit(gligen, predict)
    gligen.load_state_dict(gligen.state_dict() | average)
    return gligen_state(gligen)


def _watch(gligen: nn.Module, fused: FuserAttention) -> None:
    """Have the fusers' attention, which is given no options, computed by ``fused``."""
    options = {"transformer_options": {"optimized_attention_override": fused}}

    def add(_: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return args, kwargs | options

    fusers: Any = gligen.module_list
    for fuser in fusers:
        fuser.attn.register_forward_pre_hook(add, with_kwargs=True)


def _phrases(lesson: Lesson, base: Base, colour: str, shape: str) -> Tensor:
    """Return the text encoder's summary of every way to name a kind of object: [N, width]."""
    texts = product(sorted(set(NAMES[colour])), NAMES[shape])
    tokens = torch.stack([lesson.words.encode(list(text)) for text in texts]).to(lesson.device)
    return base.encode(tokens)[:, 3]  # the end of a text of two words


def _positions(
    batch: Batch,
    phrases: dict[tuple[str, str], Tensor],
    slots: int,
    generator: Generator,
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes [B, N, 4], which slots are used [B, N], and their phrases [B, N, width]."""
    rows = len(batch.scenes)
    boxes, used = torch.zeros(rows, slots, 4), torch.zeros(rows, slots)
    texts = torch.zeros(rows, slots, TEXT_WIDTH)
    for row, scene in enumerate(batch.scenes):
        for slot, thing in enumerate(scene.things):
            choices = phrases[thing.kind]
            boxes[row, slot] = torch.tensor(thing.box)
            drawn = int(torch.randint(len(choices), (), generator=generator))
            texts[row, slot] = choices[drawn].cpu()
        used[row, : len(scene.things)] = 1
    return boxes.to(device), used.to(device), texts.to(device)


class LowRank(nn.Module):
    """A weight [out, ...] plus a product of two thin matrices, the second zero at the start."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(weight.flatten(1).new_empty(rank, weight[0].numel()))
        self.up = nn.Parameter(weight.new_zeros(len(weight), rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the sum."""
        return weight + (self.up @ self.down).view_as(weight)


def train_style(lesson: Lesson, rank: int = 8) -> dict[str, Tensor]:
    """Train a LoRA on the U-Net's matrices and convolutions, and return kohya's weights [...]."""
    base = lesson.base()
    generator = Generator().manual_seed(SEED)
    modules = base.unet.named_modules()
    layers = {name: layer for name, layer in modules if isinstance(layer, nn.Linear | nn.Conv2d)}
    for layer in layers.values():
        addition = LowRank(layer.weight, min(rank, *layer.weight.flatten(1).shape))
        down = addition.down
        down.data.copy_(torch.randn(down.shape, generator=generator) * down.shape[1] ** -0.5)
        parametrize.register_parametrization(layer, "weight", addition)

    def predict(batch: Batch, x: Tensor, t: Tensor, attention: Attention, _: Generator) -> Tensor:
        return base.denoise(x, t, base.encode(batch.tokens), attention)

    average = lesson.fit(base, predict)
    weights: dict[str, Tensor] = {}
    for name, layer in layers.items():
        weights |= _kohya(name, layer, average)
    return weights


def _kohya(name: str, layer: Any, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    up, down = (weights[f"unet.{name}.parametrizations.weight.0.{half}"] for half in ("up", "down"))
    key, shape = "lora_unet_" + name.replace(".", "_"), layer.weight.shape
    if len(shape) == 4:
        up, down = up[:, :, None, None], down.view(-1, *shape[1:])
    return {
        f"{key}.lora_up.weight": up,
        f"{key}.lora_down.weight": down,
        f"{key}.alpha": torch.tensor(float(len(down))),
    }


STAGES = {
    "base": Stage("photo", steps=1900, rate=2e-3, bias=0.75, attention=0.1, train=train_base),
    "control": Stage("flat", steps=700, rate=1e-3, bias=0.6, attention=0.1, train=train_control),
    "gligen": Stage("flat", steps=1000, rate=1e-3, bias=0.5, attention=0.5, train=train_gligen),
    "style": Stage("neon", steps=300, rate=1e-3, bias=0.75, attention=0.1, train=train_style),
    "transformer": Stage(
        "photo",
        steps=1500,
        rate=2e-3,
        bias=0.75,
        attention=0.1,
        train=train_transformer,
        noise=Flow,
        batch=32,
    ),
}
FILES = {
    "base": "base",
    "control": "controlnet",
    "gligen": "gligen",
    "style": "neon_lora",
    "transformer": "transformer",
}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    folder = ROOT / "output" / "train"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=[*STAGES, "all"])
    parser.add_argument("--steps", type=int, help="instead of the stage's own number")
    parser.add_argument("--device", type=torch.device, default=device)
    parser.add_argument("--folder", type=Path, default=folder, help="for checkpoints")
    return parser.parse_args()


def main() -> None:
    """Train the stages that were asked for, and write their weights."""
    args = arguments()
    comfy.model_management.in_training = True  # newer ComfyUIs' fused kernels have no backward
    args.folder.mkdir(parents=True, exist_ok=True)
    words, autoencoder = Words(), fit_autoencoder()
    names = list(STAGES) if args.stage == "all" else [args.stage]
    for name in names:
        stage = STAGES[name]
        steps = args.steps or stage.steps
        lesson = Lesson(name, stage, args.device, args.folder, steps, words, autoencoder)
        weights = {key: _compact(tensor) for key, tensor in stage.train(lesson).items()}
        WEIGHTS.mkdir(exist_ok=True)
        save_file(weights, WEIGHTS / f"{FILES[name]}.safetensors")
    for name in names:  # so that the next training begins anew
        (args.folder / f"{name}.safetensors").unlink()


def _compact(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    return (tensor.half() if tensor.is_floating_point() else tensor).contiguous()


if __name__ == "__main__":
    main()
