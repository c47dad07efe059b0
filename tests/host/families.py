"""Small random-weight models of families beyond SD1.x: the host's own classes, with thin layers."""

from __future__ import annotations

from typing import Any

import torch

from demo.random_models import random_weights, shapes_of

WIDTH = 64  # of each text encoder
TEXT = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": WIDTH}
UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 64, "num_res_blocks": [1, 1, 1],
    "channel_mult": (1, 1, 1), "use_spatial_transformer": True, "use_linear_in_transformer": True, "dims": 2,
    "legacy": False, "use_temporal_attention": False, "dtype": torch.float32,
}  # fmt: skip
SDXL_DEPTHS = {
    "transformer_depth": [0, 2, 3], "transformer_depth_middle": 3, "transformer_depth_output": [0, 0, 2, 2, 3, 3],
}  # fmt: skip
SD2_DEPTHS = {
    "transformer_depth": [1, 1, 0], "transformer_depth_middle": 1, "transformer_depth_output": [1, 1, 1, 1, 0, 0],
}  # fmt: skip
SDXL_SIZES = 6 * 256  # of the picture, embedded beside the pooled text
V_PREDICTION_KEY = "output_blocks.11.1.transformer_blocks.0.norm1.bias"  # where the host looks for SD2's kind


def sd2() -> tuple[Any, Any]:
    """MODEL (v-prediction) and CLIP of an SD2.x in small."""
    from comfy.supported_models import SD20
    from comfy.text_encoders.sd2_clip import SD2ClipModel, SD2Tokenizer

    config = SD20({**UNET, **SD2_DEPTHS, "context_dim": WIDTH, "adm_in_channels": None})
    wide = {V_PREDICTION_KEY: torch.linspace(-1, 1, 9)}
    return _model(config, wide), _clip(SD2Tokenizer, SD2ClipModel, "clip_h")


def sdxl() -> tuple[Any, Any]:
    """MODEL and CLIP of an SDXL in small: no attention at full size, deep transformers, two encoders."""
    from comfy.sdxl_clip import SDXLClipModel, SDXLTokenizer
    from comfy.supported_models import SDXL

    extra = {"context_dim": 2 * WIDTH, "adm_in_channels": WIDTH + SDXL_SIZES, "num_classes": "sequential"}
    return _model(SDXL({**UNET, **SDXL_DEPTHS, **extra}), {}), _clip(SDXLTokenizer, SDXLClipModel, "clip_l", "clip_g")


def _model(config: Any, state: dict) -> Any:
    import comfy.model_patcher

    cpu = torch.device("cpu")
    model = config.get_model(state, "", device=cpu)
    model.diffusion_model.load_state_dict(random_weights(shapes_of(model.diffusion_model), seed=5))
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def _clip(tokenizer: type, encoder: type, *names: str) -> Any:
    import comfy.sd
    import comfy.supported_models_base

    options = {"model_name": names[0], **{f"{name}_model_config": TEXT for name in names}}
    target = comfy.supported_models_base.ClipTarget(tokenizer, encoder)
    clip = comfy.sd.CLIP(target, model_options=options)
    clip.cond_stage_model.load_state_dict(random_weights(shapes_of(clip.cond_stage_model), seed=6))
    return clip
