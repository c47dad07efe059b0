"""Tiny transformers of every family that has a reader, built by the host's own classes.

Weights are random. The host's file loader knows most of these networks at their true size only, so
they are made of the host's configurations directly. Needs ComfyUI on the path.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .tiny_family import POOLED, WIDTH, Family, is_newer_host, masked, part_masked
from .tiny_newer import newer_families

FLUX = {
    "in_channels": 16,
    "out_channels": 16,
    "context_in_dim": WIDTH,
    "hidden_size": 64,
    "mlp_ratio": 4.0,
    "num_heads": 4,
    "depth": 3,
    "depth_single_blocks": 3,
    "axes_dim": [4, 6, 6],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
}
FLUX1 = FLUX | {"image_model": "flux", "vec_in_dim": POOLED}
LUMINA = {"image_model": "lumina2", "patch_size": 2, "in_channels": 16, "cap_feat_dim": WIDTH}


def _llama(rows: int, generator: torch.Generator) -> dict[str, Tensor]:
    """As HiDream's encoder gives it: rows of its own, one set for each layer."""
    return {"conditioning_llama3": torch.randn(1, 4, rows + 3, WIDTH, generator=generator)}


FAMILIES: dict[str, Family] = {
    "sd3": Family(
        "SD3",
        {
            "in_channels": 16,
            "patch_size": 2,
            "out_channels": 16,
            "depth": 3,
            "input_size": None,
            "adm_in_channels": POOLED,
            "context_embedder_config": {
                "target": "torch.nn.Linear",
                "params": {"in_features": WIDTH, "out_features": 192},
            },
            "num_patches": 1024,
            "pos_embed_max_size": 32,
            "pos_embed_scaling_factor": None,
            "qk_norm": "rms",
            "x_block_self_attn_layers": [0, 1],  # as in SD3.5 medium
        },
    ),
    "flux": Family("Flux", FLUX1 | {"guidance_embed": True}, {"txt_ids_dims": []}),
    "schnell": Family("FluxSchnell", FLUX1 | {"guidance_embed": False}, {"txt_ids_dims": []}),
    "chroma": Family(
        "Chroma",
        FLUX
        | {
            "image_model": "chroma",
            "in_channels": 64,
            "out_channels": 64,
            "in_dim": 64,
            "out_dim": 64,
            "hidden_dim": 64,
            "n_layers": 2,
        },
        {"txt_ids_dims": [], "vec_in_dim": None},
    ),
    "flux2": Family(
        "Flux2",
        FLUX
        | {
            "image_model": "flux2",
            "in_channels": 128,
            "out_channels": 128,
            "vec_in_dim": None,
            "hidden_size": 32,
            "num_heads": 2,
            "mlp_ratio": 3.0,
            "depth": 2,
            "axes_dim": [4, 4, 4, 4],
            "theta": 2000,
            "patch_size": 1,
            "qkv_bias": False,
            "guidance_embed": True,
            "global_modulation": True,
            "mlp_silu_act": True,
            "ops_bias": False,
            "default_ref_method": "index",
            "ref_index_scale": 10.0,
        },
        {"txt_ids_dims": [3]},
        channels=128,
    ),
    "qwen image": Family(
        "QwenImage",
        {
            "image_model": "qwen_image",
            "in_channels": 64,
            "num_layers": 4,
            "attention_head_dim": 16,
            "num_attention_heads": 4,
            "joint_attention_dim": WIDTH,
            "axes_dims_rope": (4, 6, 6),
        },
        frames=True,
    ),
    "z-image": Family(
        "ZImage",
        LUMINA
        | {
            "dim": 256,  # the least that its modulation takes
            "n_layers": 4,
            "qk_norm": True,
            "n_heads": 8,
            "n_kv_heads": 8,
            "axes_dims": [8, 12, 12],
            "axes_lens": [1536, 512, 512],
            "rope_theta": 256.0,
            "ffn_dim_multiplier": 1.0,
            "z_image_modulation": True,
            "time_scale": 1000.0,
            "pad_tokens_multiple": 32,
        },
        extra=masked,
    ),
    "lumina2": Family(
        "Lumina2",
        LUMINA
        | {
            "dim": 96,
            "n_layers": 4,
            "qk_norm": True,
            "n_heads": 4,
            "n_kv_heads": 2,
            "axes_dims": [8, 8, 8],
            "axes_lens": [300, 512, 512],
            "rope_theta": 10000.0,
            "ffn_dim_multiplier": 1.0,
        },
        extra=masked,
    ),
    "auraflow": Family(
        "AuraFlow",
        {
            "max_seq": 1024,
            "cond_seq_dim": WIDTH,
            "n_double_layers": 2,
            "n_layers": 4,
            "n_heads": 4,
            "dim": 64,
        },
        channels=4,
    ),
    "hunyuan image": Family(
        "HunyuanImage21",
        {
            "image_model": "hunyuan_video",
            "in_channels": 64,
            "patch_size": [1, 1],
            "out_channels": 64,
            "vec_in_dim": None,
            "axes_dim": [8, 8],
            "meanflow": False,
            "context_in_dim": WIDTH,
            "hidden_size": 64,
            "mlp_ratio": 4.0,
            "num_heads": 4,
            "depth": 3,
            "depth_single_blocks": 3,
            "theta": 256,
            "qkv_bias": True,
            "byt5": False,
            "guidance_embed": False,
            "use_cond_type_embedding": False,
            "vision_in_dim": None,
        },
        {"meanflow_sum": False},
        channels=64,
        extra=part_masked,
    ),
    "hidream": Family(
        "HiDream",
        {
            "image_model": "hidream",
            "attention_head_dim": 16,
            "axes_dims_rope": [8, 4, 4],
            "caption_channels": [WIDTH, WIDTH],
            "max_resolution": [128, 128],
            "in_channels": 16,
            "llama_layers": [0, 1, 2, 3],
            "num_attention_heads": 4,
            "num_routed_experts": 2,
            "num_activated_experts": 2,  # all: a choice of some would make the output jump
            "num_layers": 2,
            "num_single_layers": 2,
            "out_channels": 16,
            "patch_size": 2,
            "text_emb_dim": POOLED,
        },
        extra=_llama,
    ),
    "omnigen2": Family(
        "Omnigen2",
        {
            "image_model": "omnigen2",
            "axes_dim_rope": [8, 8, 8],
            "axes_lens": [1024, 1664, 1664],
            "ffn_dim_multiplier": None,
            "hidden_size": 96,
            "in_channels": 16,
            "multiple_of": 32,
            "norm_eps": 1e-5,
            "num_attention_heads": 4,
            "num_kv_heads": 2,
            "num_layers": 4,
            "num_refiner_layers": 1,
            "out_channels": None,
            "patch_size": 2,
            "text_feat_dim": WIDTH,
            "timestep_scale": 1000.0,
        },
        extra=masked,
    ),
    "pixart": Family(
        "PixArtSigma",
        {
            "image_model": "pixart_sigma",
            "num_heads": 4,
            "patch_size": 2,
            "hidden_size": 64,
            "in_channels": 4,
            "depth": 4,
            "model_max_length": 300,
            "caption_channels": WIDTH,
            "micro_condition": False,
            "input_size": 64,
            "pe_interpolation": 1,
        },
        channels=4,
        size=(32, 36),  # of smaller ones its positions can't be reckoned
    ),
    "wan": Family(
        "WAN21_T2V",
        {
            "image_model": "wan2.1",
            "model_type": "t2v",
            "dim": 96,
            "out_dim": 16,
            "num_heads": 4,
            "ffn_dim": 128,
            "num_layers": 4,
            "patch_size": (1, 2, 2),
            "freq_dim": 256,
            "window_size": (-1, -1),
            "qk_norm": True,
            "cross_attn_norm": True,
            "eps": 1e-6,
            "in_dim": 16,
            "text_dim": WIDTH,
        },
        frames=True,
    ),
    "cosmos2": Family(
        "CosmosT2IPredict2",
        {
            "image_model": "cosmos_predict2",
            "max_img_h": 240,
            "max_img_w": 240,
            "max_frames": 128,
            "in_channels": 16,
            "out_channels": 16,
            "patch_spatial": 2,
            "patch_temporal": 1,
            "model_channels": 128,
            "concat_padding_mask": True,
            "crossattn_emb_channels": WIDTH,
            "pos_emb_cls": "rope3d",
            "pos_emb_learnable": True,
            "pos_emb_interpolation": "crop",
            "min_fps": 1,
            "max_fps": 30,
            "use_adaln_lora": True,
            "adaln_lora_dim": 32,
            "num_blocks": 4,
            "num_heads": 4,
            "extra_per_block_abs_pos_emb": False,
            "rope_h_extrapolation_ratio": 4.0,
            "rope_w_extrapolation_ratio": 4.0,
            "rope_t_extrapolation_ratio": 1.0,
            "extra_h_extrapolation_ratio": 1.0,
            "extra_w_extrapolation_ratio": 1.0,
            "extra_t_extrapolation_ratio": 1.0,
            "rope_enable_fps_modulation": False,
        },
        frames=True,
    ),
}


if is_newer_host():
    FAMILIES |= newer_families(FAMILIES["cosmos2"])


def patcher(name: str, seed: int = 0) -> Any:
    """Return a model of a family, loaded as the host's executor loads one: in inference mode."""
    import comfy.model_patcher
    import comfy.supported_models

    family = FAMILIES[name]
    config = getattr(comfy.supported_models, family.config)(family.settings())
    config.unet_config.update(family.settings())  # some classes set their true size themselves
    config.set_inference_dtype(torch.float32, None)
    device = torch.device("cpu")
    with torch.inference_mode():
        model = config.get_model({}, "", device=device)
        family.small(model.diffusion_model)
        randomise(model, seed)
        model.eval()
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=device)


def conditioning(name: str, seed: int, rows: int = 9) -> list:
    """Return a conditioning for a family, of so many rows of text."""
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        text = torch.randn(1, rows, WIDTH, generator=generator)
        pooled = torch.randn(1, POOLED, generator=generator)
        options = {"pooled_output": pooled} | FAMILIES[name].extra(rows, generator)
    return [[text, options]]


def empty_latent(name: str, batch: int = 1) -> Tensor:
    """Return an empty latent of a family, [B, C, H, W] or [B, C, 1, H, W]."""
    family = FAMILIES[name]
    frames = (1,) if family.frames else ()
    return torch.zeros(batch, family.channels, *frames, *family.size)


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Make weights that keep activations near unit scale, but for what the network computes."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in [*model.named_parameters(), *model.named_buffers()]:
        computed = name.startswith("model_sampling") or "pos_embedder" in name or "freq" in name
        if weight.dtype.is_floating_point and not computed:
            weight.data.copy_(_random(name, weight, generator))


def _random(name: str, weight: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(weight.shape, generator=generator)
    if weight.ndim >= 2:
        return noise * weight[0].numel() ** -0.5
    offset = 1.0 if name.endswith(("scale", "weight")) else 0.0
    return offset + 0.1 * noise
