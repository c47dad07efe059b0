"""Small random-weight models that ComfyUI's own loaders take for SD1.5, SD2.1 and SDXL files.

They show that the whole path works and they draw noise, not pictures.
``.host/run -m testkit.random_models`` writes them.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from . import ROOT, comfyui

MODELS = ROOT / ".host" / "models"
CHECKPOINT, GLIGEN, CONTROLNET, LORA, UNET_FILE = (
    f"realcompo_small_{name}.safetensors"
    for name in ("sd15_small", "gligen", "controlnet", "lora", "unet")
)
# Of U-Nets here; one of the real width would take most of the tests' time.
WIDTH, REAL_WIDTH = 64, 320
UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "model_channels": WIDTH,
    "num_res_blocks": [1, 1, 1],
    "channel_mult": (1, 1, 1),
    "transformer_depth": [1, 1, 1],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1],
    "num_heads": 8,
    "context_dim": 768,
    "use_spatial_transformer": True,
    "dims": 2,
    "legacy": False,
}
# One resolution, one transformer on each side of the middle: for what does not depend on size.
SMALL_UNET = UNET | {
    "num_res_blocks": [1],
    "channel_mult": (1,),
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
}
TEXT_WIDTH = 768  # fixed by ComfyUI for SD1.5


@dataclass(frozen=True)
class Encoder:
    """A text encoder of a checkpoint: ComfyUI's ``name`` and ``config`` file for it.

    ``prefix`` is where a checkpoint keeps it. ``layers`` are fewer than the real one's, whose
    hundreds of megabytes would take most of the tests' time.
    """

    name: str
    config: str
    prefix: str
    layers: int = 3


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint: its file, its U-Net and its text encoders, and what goes with it."""

    checkpoint: str
    controlnet: str
    unet: dict[str, Any]
    encoders: tuple[Encoder, ...]
    gligen: str = GLIGEN


CLIP_L, CLIP_G = "sd1_clip_config.json", "clip_config_bigg.json"
SD15 = Family(
    CHECKPOINT, CONTROLNET, UNET, (Encoder("clip_l", CLIP_L, "cond_stage_model.transformer."),)
)
SD21 = Family(
    "realcompo_small_sd21.safetensors",
    "realcompo_small_sd21_controlnet.safetensors",
    UNET
    | {
        "context_dim": 1024,
        "use_linear_in_transformer": True,
        "num_heads": -1,
        "num_head_channels": 64,
    },
    (
        Encoder(
            "clip_h", "text_encoders/sd2_clip_config.json", "cond_stage_model.model.transformer."
        ),
    ),
)
SDXL = Family(  # with the depths of Segmind Vega, the smallest that ComfyUI knows
    "realcompo_small_sdxl.safetensors",
    "realcompo_small_sdxl_controlnet.safetensors",
    SD21.unet
    | {
        "context_dim": 2048,
        "num_res_blocks": [2, 2, 2],
        "num_classes": "sequential",
        "adm_in_channels": 2816,
        "transformer_depth": [0, 0, 1, 1, 2, 2],
        "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    },
    (
        Encoder("clip_l", CLIP_L, "conditioner.embedders.0.transformer."),
        Encoder("clip_g", CLIP_G, "conditioner.embedders.1.model.transformer."),
    ),
)
WIDE = replace(  # for times: of narrow networks most of the time is not the network's
    SD15,
    checkpoint="realcompo_wide_sd15.safetensors",
    gligen="realcompo_wide_gligen.safetensors",
    unet=UNET | {"model_channels": REAL_WIDTH},
)
FAMILIES = (SD15, SD21, SDXL, WIDE)


def random_weights(shapes: Mapping[str, torch.Size], seed: int) -> dict[str, Tensor]:
    """Weights that keep activations near unit scale.

    Norms are 1, biases 0, and the rest is normal / sqrt(fan in).
    """
    generator = torch.Generator().manual_seed(seed)
    return {name: random_weight(name, shape, generator) for name, shape in shapes.items()}


def random_weight(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if name.endswith("position_ids"):
        return torch.arange(shape[-1]).expand(shape)
    if name.endswith(("alpha_attn", "alpha_dense")):  # GLIGEN's gates, closed at 0
        return torch.full(shape, 0.5)
    if len(shape) < 2:
        return torch.ones(shape) if name.endswith(("weight", "scale")) else torch.zeros(shape)
    fan_in = math.prod(shape[1:])
    return torch.randn(shape, generator=generator) * (0.02 if "embedding" in name else fan_in**-0.5)


def shapes_of(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def unet_weights(seed: int, config: Mapping[str, Any] = UNET) -> dict[str, Tensor]:
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    return random_weights(shapes_of(UNetModel(**config, out_channels=4, device="meta")), seed)


@cache
def small_model() -> Any:
    """The host's model of the smallest U-Net that it takes for SD1.5's."""
    import comfy.sd

    return comfy.sd.load_diffusion_model_state_dict(unet_weights(5, SMALL_UNET))


def other_unet(seed: int) -> dict[str, Tensor]:
    """A second model for the other branch, in fp16."""
    return {name: tensor.half() for name, tensor in unet_weights(seed).items()}


def text_encoder_weights(seed: int, encoder: Encoder) -> dict[str, Tensor]:
    import comfy.ops
    from comfy import sd1_clip
    from comfy.clip_model import CLIPTextModel

    config = json.loads((Path(sd1_clip.__file__).parent / encoder.config).read_text())
    config["num_hidden_layers"] = encoder.layers
    model = CLIPTextModel(config, torch.float32, "meta", comfy.ops.manual_cast)
    projected = encoder.name != "clip_l"  # whose checkpoints have no projection
    shapes = {
        n: shape
        for n, shape in shapes_of(model).items()
        if projected or not n.startswith("text_projection")
    }
    return random_weights(shapes, seed)


def vae_weights(seed: int) -> dict[str, Tensor]:
    from comfy.taesd.taesd import TAESD

    return random_weights(shapes_of(TAESD()), seed)


def checkpoint(seed: int, family: Family = SD15) -> dict[str, Tensor]:
    """A whole checkpoint in fp16, in the key layout of its family."""
    parts = {
        "model.diffusion_model.": unet_weights(seed, family.unet),
        **{encoder.prefix: text_encoder_weights(seed + 1, encoder) for encoder in family.encoders},
        "first_stage_model.": vae_weights(seed + 2),
    }
    return {
        prefix + name: tensor.half()
        for prefix, part in parts.items()
        for name, tensor in part.items()
    }


def gligen(seed: int, family: Family = SD15) -> dict[str, Tensor]:
    """Fusers for every transformer of the U-Net and a position network, in GLIGEN's key layout."""
    from comfy.gligen import GatedSelfAttentionDense, PositionNet

    width = family.unet["model_channels"]
    fuser = shapes_of(GatedSelfAttentionDense(width, TEXT_WIDTH, 8, width // 8))
    blocks = sorted(
        {name.split(".1.transformer_blocks")[0] for name in unet_weights(0) if ".attn2." in name}
    )
    names = {
        f"{block}.1.transformer_blocks.0.fuser.{name}": shape
        for block in blocks
        for name, shape in fuser.items()
    }
    position = {
        f"position_net.{name}": shape
        for name, shape in shapes_of(PositionNet(TEXT_WIDTH, TEXT_WIDTH)).items()
    }
    return random_weights(names | position, seed)


def controlnet(seed: int, family: Family = SD15) -> dict[str, Tensor]:
    from comfy.cldm.cldm import ControlNet

    config = {
        key: value for key, value in family.unet.items() if key not in ("transformer_depth_output",)
    }
    return random_weights(shapes_of(ControlNet(**config, hint_channels=3, device="meta")), seed)


def lora(seed: int, rank: int = 4) -> dict[str, Tensor]:
    """A LoRA on every cross-attention value and output of the U-Net, in kohya's key layout."""
    generator, out = torch.Generator().manual_seed(seed), {}
    for name, weight in unet_weights(0).items():
        if ".attn2.to_v.weight" in name or ".attn2.to_out.0.weight" in name:
            key = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            out[f"{key}.lora_up.weight"] = torch.randn(weight.shape[0], rank, generator=generator)
            out[f"{key}.lora_down.weight"] = (
                torch.randn(rank, weight.shape[1], generator=generator) * 0.1
            )
            out[f"{key}.alpha"] = torch.tensor(float(rank))
    return out


def layout_overrides(pixels: int, steps: int) -> dict[str, dict[str, Any]]:
    """What differs from the GLIGEN layout workflow as an artist opens it.

    These models, a small picture and few steps.
    """
    size = {"width": pixels, "height": pixels}
    return {
        "CheckpointLoaderSimple": {"ckpt_name": CHECKPOINT},
        "GLIGENLoader": {"gligen_name": GLIGEN},
        "EmptyLatentImage": size,
        "RealCompoLayoutPreview": size,
        "RealCompoKSampler": {"steps": steps},
    }


def know_small_models() -> None:
    """Teach this process's ComfyUI the sizes in these files: it knows the real ones only."""
    know_small_unets()
    load_small_text_encoders()


def know_small_unets() -> None:
    """Let ComfyUI find its families in narrower U-Nets too."""
    from comfy import supported_models

    for family in list(supported_models.models):
        if family.unet_config.get("model_channels") == REAL_WIDTH:
            config = {"unet_config": family.unet_config | {"model_channels": WIDTH}}
            supported_models.models.append(type(f"Small{family.__name__}", (family,), config))


def load_small_text_encoders() -> None:
    """Build the text encoders of these files, not the real ones."""
    import comfy.sd

    load = comfy.sd.load_checkpoint_guess_config
    encoders = {family.checkpoint: family.encoders for family in FAMILIES}

    def load_small(path: str, *args: Any, **options: Any) -> Any:
        sizes = {
            f"{encoder.name}_model_config": {"num_hidden_layers": encoder.layers}
            for encoder in encoders.get(Path(path).name, ())
        }
        return load(path, *args, **{"te_model_options": sizes} | options)

    comfy.sd.load_checkpoint_guess_config = load_small


def files(families: Sequence[Family] = ()) -> dict[str, Callable[[], dict[str, Tensor]]]:
    """How to make each file of a models folder: SD1.5's, and those of other ``families``."""
    makers: dict[str, Callable[[int], dict[str, Tensor]]] = {
        f"checkpoints/{CHECKPOINT}": checkpoint,
        f"gligen/{GLIGEN}": gligen,
        f"controlnet/{CONTROLNET}": controlnet,
        f"loras/{LORA}": lora,
        f"diffusion_models/{UNET_FILE}": other_unet,
    }
    wanted = set(makers)
    for family in (SD21, SDXL, WIDE):
        own = {f"checkpoints/{family.checkpoint}": checkpoint}
        if family is WIDE:
            own[f"gligen/{family.gligen}"] = gligen
        else:
            own[f"controlnet/{family.controlnet}"] = controlnet
        makers |= {path: partial(make, family=family) for path, make in own.items()}
        if family in families:
            wanted.update(own)
    seeded = enumerate(makers.items())
    return {path: partial(make, 10 * place) for place, (path, make) in seeded if path in wanted}


def write(models: Path, families: Sequence[Family] = ()) -> None:
    """Put every file of :func:`files` that is not there yet into a models folder."""
    for name, make in files(families).items():
        path = models / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = Path(f"{path}.{os.getpid()}.part")  # another process may be at it too
            save_file({name: tensor.contiguous() for name, tensor in make().items()}, part)
            part.rename(path)


def write_apart(*families: Family) -> None:
    """Do the same for :data:`MODELS` in another process: ComfyUI's classes stay out of this one."""
    if all((MODELS / name).exists() for name in files(families)):
        return
    names = [family.checkpoint for family in families]
    subprocess.run([sys.executable, "-m", "testkit.random_models", *names], cwd=ROOT, check=True)


if __name__ == "__main__":
    comfyui.put_on_path()
    import comfy.cli_args

    comfy.cli_args.args.cpu = True  # before anything asks which device there is
    write(MODELS, [family for family in FAMILIES if family.checkpoint in sys.argv[1:]])
