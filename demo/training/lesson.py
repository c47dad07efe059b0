"""What every stage of training is given, and the base that they all stand on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from testkit import comfyui

comfyui.put_on_path()
import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = True  # ComfyUI is only asked for its classes; tensors are moved here

import comfy.ops  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from comfy.ldm.modules.attention import attention_pytorch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import Generator, Tensor, nn  # noqa: E402

from ..toy.networks import (  # noqa: E402
    DECODER,
    TEXT_PREFIX,
    UNET,
    UNET_PREFIX,
    PatchAutoencoder,
    ToyTextModel,
    ToyUNet,
)
from ..toy.paint import paint  # noqa: E402
from ..toy.picture import random_scene  # noqa: E402
from .data import Batch, Words, batches  # noqa: E402
from .diffusion import Attention, Diffusion, Flow  # noqa: E402
from .optimise import SEED, Run  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "demo" / "weights"


@dataclass(frozen=True)
class Stage:
    """How one model is trained.

    ``bias`` below 1 draws more deep noise, ``attention`` weighs the attention loss.
    """

    look: str
    steps: int
    rate: float
    bias: float
    attention: float
    train: Callable[[Lesson], dict[str, Tensor]]
    noise: type[Diffusion | Flow] = Diffusion
    batch: int = 64


def initialise(module: nn.Module, generator: Generator) -> None:
    """Draw normal weights of 1 / sqrt(fan in), with unit norms and zero biases."""
    for name, tensor in module.named_parameters():
        with torch.no_grad():
            if tensor.ndim < 2:
                tensor.fill_(1.0 if name.endswith("weight") else 0.0)
            else:
                spread = 0.3 if "embedding" in name else tensor[0].numel() ** -0.5
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * spread)


def zero(*modules: nn.Module) -> None:
    """Set all weights of modules to 0."""
    for module in modules:
        for parameter in module.parameters():
            nn.init.zeros_(parameter)


def fit_autoencoder() -> PatchAutoencoder:
    """Fit an autoencoder to all three looks, photo counted twice."""
    random, autoencoder = Random(SEED), PatchAutoencoder()
    scenes = [random_scene(random) for _ in range(512)]
    looks = ("photo", "photo", "flat", "neon")
    parts = [paint(scenes, look, Generator().manual_seed(SEED + i)) for i, look in enumerate(looks)]
    autoencoder.fit(torch.cat(parts) * 2 - 1)
    return autoencoder.requires_grad_(False)


def encode_small(autoencoder: PatchAutoencoder) -> Callable[[Tensor], Tensor]:
    """Return what makes latents [B, 16, 16, 16] of pictures [B, 3, 64, 64] in -1..1.

    It spares the detour over the autoencoder's pictures, which are twice as large.
    """
    return lambda picture: autoencoder.encoder(F.pixel_unshuffle(picture, 4))


class Base(nn.Module):
    """Text encoder and U-Net, trained together."""

    def __init__(self, words: Words) -> None:
        super().__init__()
        operations = comfy.ops.disable_weight_init
        table = words.table
        self.text = ToyTextModel({"words": len(table)}, torch.float32, None, operations)
        self.unet = ToyUNet(**UNET, **DECODER, dtype=torch.float32, operations=operations)
        initialise(self, Generator().manual_seed(SEED))
        self.text.get_input_embeddings().tokens.copy_(table)
        self.text.text_projection.requires_grad_(False)
        nn.init.eye_(self.text.text_projection.weight)
        zero(self.unet.out[-1])
        for name, module in self.unet.named_modules():
            if name.endswith(("out_layers.3", "proj_out")):
                zero(module)

    def encode(self, tokens: Tensor) -> Tensor:
        """Return token ids [B, T] encoded [B, T, width].

        The text model's own forward does the same in place, which has no gradient.
        """
        model = self.text.text_model
        x = model.embeddings(tokens)
        mask = torch.full((x.shape[1], x.shape[1]), float("-inf"), device=x.device).triu_(1)
        for layer in model.encoder.layers:
            x = x + layer.self_attn(layer.layer_norm1(x), mask, attention_pytorch)
            x = x + layer.mlp(layer.layer_norm2(x))
        return model.final_layer_norm(x)

    def denoise(
        self, x: Tensor, t: Tensor, context: Tensor, attention: Attention, **options: object
    ) -> Tensor:
        """Return v [B, 16, H, W] of noised latents ``x`` at timesteps ``t`` [B]."""
        control = options.pop("control", None)
        transformer = {"optimized_attention_override": attention, **options}
        return self.unet(x, t, context, control=control, transformer_options=transformer)


@dataclass
class Lesson:
    """What every stage is given."""

    name: str
    stage: Stage
    device: torch.device
    folder: Path
    steps: int
    words: Words
    autoencoder: PatchAutoencoder

    def fit(self, module: nn.Module, predict: Callable[..., Tensor]) -> dict[str, Tensor]:
        """Train ``module``, and return the averaged weights, of any shapes [...], by name.

        ``predict(batch, x, t, attention, generator)`` returns v [B, 16, H, W].
        """
        run = Run(self.name, module, self.folder, self.steps, self.stage.rate)
        noise = self.stage.noise(self.device, self.stage.bias)

        def loss(batch: Batch, generator: Generator) -> Tensor:
            def predict_v(*inputs: object) -> Tensor:
                return predict(batch, *inputs, generator)

            denoising, attention = noise(batch, generator, predict_v)
            run.note(denoising=denoising, attention=attention)
            return denoising + self.stage.attention * attention

        encode, stage = encode_small(self.autoencoder), self.stage
        run.fit(batches(self.words, encode, stage.look, SEED, run.step, stage.batch), loss)
        return run.average

    def base(self) -> Base:
        """Return the trained base, frozen, on this lesson's device."""
        weights, base = load_file(WEIGHTS / "base.safetensors"), Base(self.words)
        text = renamed(weights, TEXT_PREFIX, "text.")
        base.load_state_dict(text | renamed(weights, UNET_PREFIX, "unet."))
        return base.requires_grad_(False).to(self.device)


def renamed(weights: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    """Return the weights [...] whose names begin with ``old``, with ``new`` in its place."""
    names = [name for name in weights if name.startswith(old)]
    return {new + name.removeprefix(old): weights[name] for name in names}
