"""The toy world's trained weights as ComfyUI's own objects.

MODEL, CLIP, VAE, CONTROL_NET and GLIGEN.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import comfy.controlnet
import comfy.gligen
import comfy.latent_formats
import comfy.model_base
import comfy.model_management as management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import torch
from torch import Tensor

from ....demo.toy.networks import (
    DECODER,
    LATENT_CHANNELS,
    TEXT,
    TEXT_LENGTH,
    TEXT_PREFIX,
    TRANSFORMER,
    UNET,
    UNET_PREFIX,
    VAE_PREFIX,
    PatchAutoencoder,
    ToyControlNet,
    ToyTextModel,
    ToyUNet,
)
from ....realcompo_core.errors import InputError

WEIGHTS = Path(__file__).resolve().parents[3] / "demo" / "weights"
SHIFT = 1.5  # of the transformer's sigmas: with it its steps go down as Stable Diffusion 1.5's do


class ToyLatent(comfy.latent_formats.LatentFormat):
    """16 channels, an eighth of the picture's size.

    The preview shows a cell in the autoencoder's own mean colour.
    """

    latent_channels = LATENT_CHANNELS

    def preview_with(self, weights: Mapping[str, Tensor]) -> None:
        """Take the decoder's weights [3 * pixels, channels] and biases for previews."""
        factors = weights["decoder.weight"].float().reshape(3, -1, LATENT_CHANNELS).mean(1)
        self.latent_rgb_factors = factors.T.tolist()
        biases = weights["decoder.bias"].float().reshape(3, -1).mean(1)
        self.latent_rgb_factors_bias = biases.tolist()


class ToyConfig(comfy.supported_models_base.BASE):
    """What ComfyUI knows of a family of models."""

    latent_format = ToyLatent
    memory_usage_factor = 0.1

    def get_model(
        self, state_dict: Any, prefix: str = "", device: Any = None
    ) -> comfy.model_base.BaseModel:
        """Return the untrained network inside ComfyUI's own model."""
        kind = comfy.model_base.ModelType.V_PREDICTION
        return comfy.model_base.BaseModel(self, model_type=kind, device=device, unet_model=ToyUNet)


class ToyTransformer(comfy.model_base.Lumina2):
    """ComfyUI's Lumina 2, which would leave out what is made for a U-Net without a word."""

    def extra_conds(self, **options: Any) -> dict[str, Any]:
        """Return a conditioning's inputs. Raises :class:`InputError` where a U-Net is needed."""
        for name, got in {"control": "a ControlNet", "gligen": "GLIGEN boxes"}.items():
            if options.get(name) is not None:
                expected = "a conditioning without a ControlNet and without GLIGEN"
                fix = (
                    "Place with RealCompo Regional Attention or RealCompo Layout Guidance, or use "
                    "the demo's style photo."
                )
                raise InputError("photo (transformer)", expected, got, fix)
        return super().extra_conds(**options)


class ToyTransformerConfig(comfy.supported_models.Lumina2):
    """What ComfyUI knows of the transformer."""

    latent_format = ToyLatent
    memory_usage_factor = 0.1
    sampling_settings: ClassVar = {"multiplier": 1.0, "shift": SHIFT}

    def get_model(
        self, state_dict: Any, prefix: str = "", device: Any = None
    ) -> comfy.model_base.BaseModel:
        """Return the untrained network inside ComfyUI's own model."""
        model = ToyTransformer(self, device=device)
        model.diffusion_model._modules.pop("norm_final", None)  # older ones hold it, none uses it
        return model


class ToyVAE(comfy.sd.VAE):
    """ComfyUI's VAE around the linear autoencoder, which its constructor has no name for."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        with _quiet():  # it warns that an empty file holds no VAE
            super().__init__(sd={})
        self.first_stage_model = PatchAutoencoder().eval()
        self.first_stage_model.load_state_dict(weights)
        self.latent_channels = LATENT_CHANNELS
        self.memory_used_encode = self.memory_used_decode = lambda shape, dtype: (
            4096 * shape[2] * shape[3]
        )
        self.device, offload = management.vae_device(), management.vae_offload_device()
        self.vae_dtype, self.output_device = torch.float32, management.intermediate_device()
        self.patcher = comfy.model_patcher.ModelPatcher(
            self.first_stage_model, load_device=self.device, offload_device=offload
        )


def read(name: str) -> dict[str, Tensor]:
    """Return the tensors [...] of a file of the demo's weights, by name; never a pickle."""
    return comfy.utils.load_torch_file(str(WEIGHTS / f"{name}.safetensors"), safe_load=True)


def load_base() -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """Return the text-to-image model, in fp32 on a CPU and in what ComfyUI prefers elsewhere."""
    weights = read("base")
    vae = ToyVAE(_part(weights, VAE_PREFIX))
    config = ToyConfig({**UNET, **DECODER})
    return _model(config, weights, weights), _clip(_part(weights, TEXT_PREFIX)), vae


def load_transformer() -> comfy.model_patcher.ModelPatcher:
    """Return the other text-to-image model, which needs the first one's CLIP and VAE."""
    return _model(ToyTransformerConfig({**TRANSFORMER}), read("transformer"), read("base"))


def load_controlnet() -> comfy.controlnet.ControlNet:
    """Return the painted-box branch.

    Its hint is a picture of boxes or outlines filled with the objects' colours.
    """
    weights = read("controlnet")
    device, dtype = management.get_torch_device(), _dtype(weights)
    cast = management.unet_manual_cast(dtype, device)
    operations = comfy.ops.manual_cast if cast is not None else comfy.ops.disable_weight_init
    network = ToyControlNet(**UNET, hint_channels=3, dtype=dtype, operations=operations)
    network.load_state_dict(weights)
    return comfy.controlnet.ControlNet(network.eval(), load_device=device, manual_cast_dtype=cast)


def load_gligen() -> comfy.model_patcher.ModelPatcher:
    """Return the box branch, by ComfyUI's own loader."""
    model = comfy.gligen.load_gligen(read("gligen")).float().eval()
    device, offload = management.get_torch_device(), management.unet_offload_device()
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)


def _model(
    config: Any, weights: dict[str, Tensor], base: Mapping[str, Tensor]
) -> comfy.model_patcher.ModelPatcher:
    config.latent_format.preview_with(_part(base, VAE_PREFIX))
    device = management.get_torch_device()
    dtype = _dtype(weights)
    config.set_inference_dtype(
        dtype, management.unet_manual_cast(dtype, device, config.supported_inference_dtypes)
    )
    offload = management.unet_offload_device()
    model = config.get_model(weights, UNET_PREFIX, device=offload)
    model.load_model_weights(dict(weights), UNET_PREFIX)
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)


def _clip(weights: dict[str, Tensor]) -> comfy.sd.CLIP:
    def encoder(**options: Any) -> comfy.sd1_clip.SD1ClipModel:
        words = len(weights["text_model.embeddings.token_embedding.weight"])
        text = {**TEXT, "words": words}
        return comfy.sd1_clip.SD1ClipModel(
            **options,
            clip_model=comfy.sd1_clip.SDClipModel,
            model_class=ToyTextModel,
            textmodel_json_config=text,
            max_length=TEXT_LENGTH,
        )

    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, encoder)
    lengths = {"clip_l_max_length": TEXT_LENGTH}
    clip = comfy.sd.CLIP(
        target, tokenizer_data=lengths, parameters=comfy.utils.calculate_parameters(weights)
    )
    clip.cond_stage_model.clip_l.transformer.load_state_dict(weights)
    return clip


def _part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix)
    }


def _dtype(weights: Mapping[str, Tensor]) -> torch.dtype:
    return management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(weights), weight_dtype=torch.float16
    )


@contextmanager
def _quiet() -> Any:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
