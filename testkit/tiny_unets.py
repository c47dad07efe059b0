"""Tiny U-Nets of SD1.5, SD2 and SDXL, built by the host's own classes: for what needs no files.

Weights are random. Their width is a tenth of the true one, which the host's file loader insists on.
Needs ComfyUI on the path.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .random_models import SMALL_UNET, random_weights, shapes_of

TOKENS, WIDTH = 77, 32  # of the text
TINY: dict[str, Any] = SMALL_UNET | {
    "model_channels": 32,
    "num_heads": 4,
    "context_dim": WIDTH,
    "adm_in_channels": None,
}
TWO_SIZES = TINY | {
    "num_res_blocks": [1, 1],
    "channel_mult": (1, 1),
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
}
SDXL = TWO_SIZES | {"num_classes": "sequential", "adm_in_channels": 2816}


@dataclass(frozen=True)
class Unet:
    """A kind of U-Net: its class among the host's configurations, its settings, its prediction."""

    config: str
    network: dict[str, Any]
    prediction: str = "EPS"


UNETS: dict[str, Unet] = {
    "sd1": Unet("SD15", TINY),
    "sd2 v": Unet("SD20", TINY | {"use_linear_in_transformer": True}, "V_PREDICTION"),
    "sdxl": Unet("SDXL", SDXL | {"use_linear_in_transformer": True}),
}


@cache
def patcher(name: str) -> Any:
    """Return a model, loaded as the host's executor loads one: in inference mode."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models

    unet = UNETS[name]
    config = getattr(comfy.supported_models, unet.config)(dict(unet.network))
    config.unet_config |= {"out_channels": 4, "num_heads": 4, "num_head_channels": -1}
    config.set_inference_dtype(torch.float32, None)
    config.model_type = lambda *_: getattr(comfy.model_base.ModelType, unet.prediction)
    cpu = torch.device("cpu")
    with torch.inference_mode():
        model = config.get_model({}, "", device=cpu)
        network = model.diffusion_model
        network.load_state_dict(random_weights(shapes_of(network), 5))
        model.eval()
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def conditioning(name: str, seed: int) -> list:
    """Return a conditioning of one chunk of text."""
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        text = torch.randn(1, TOKENS, WIDTH, generator=generator)
        return [[text, {"pooled_output": torch.randn(1, 1280, generator=generator)}]]


def latent(width: int, height: int, batch: int) -> Tensor:
    """Return an empty latent [B, 4, H, W] for a picture of so many pixels."""
    return torch.zeros(batch, 4, height // 8, width // 8)


@cache
def controlnet(name: str) -> Any:
    """Return a ControlNet of the host's own class."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    network_of = {
        key: value
        for key, value in UNETS[name].network.items()
        if key not in ("transformer_depth_output", "legacy")
    }
    cpu = torch.device("cpu")
    with torch.inference_mode():
        network = comfy.cldm.cldm.ControlNet(
            **network_of, hint_channels=3, operations=comfy.ops.disable_weight_init, device=cpu
        )
        network.load_state_dict(random_weights(shapes_of(network), 6))
        network.eval()
    return comfy.controlnet.ControlNet(network, load_device=cpu)
