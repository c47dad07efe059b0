"""Transformers at their true size: the settings of their networks, by the host's own names.

They are what the host reads off the published weights, or the defaults of its classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from testkit.tiny_family import Family, is_newer_host

FLUX = {
    "in_channels": 16,
    "out_channels": 16,
    "context_in_dim": 4096,
    "hidden_size": 3072,
    "mlp_ratio": 4.0,
    "num_heads": 24,
    "depth": 19,
    "depth_single_blocks": 38,
    "axes_dim": [16, 56, 56],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
}
FLUX2 = FLUX | {
    "image_model": "flux2",
    "in_channels": 128,
    "out_channels": 128,
    "context_in_dim": 15360,
    "hidden_size": 6144,
    "num_heads": 48,
    "depth": 8,
    "depth_single_blocks": 48,
    "vec_in_dim": None,
    "mlp_ratio": 3.0,
    "axes_dim": [32, 32, 32, 32],
    "theta": 2000,
    "patch_size": 1,
    "qkv_bias": False,
    "guidance_embed": True,
    "global_modulation": True,
    "mlp_silu_act": True,
    "ops_bias": False,
    "default_ref_method": "index",
    "ref_index_scale": 10.0,
}
CHROMA = FLUX | {
    "image_model": "chroma",
    "in_channels": 64,
    "out_channels": 64,
    "in_dim": 64,
    "out_dim": 3072,
    "hidden_dim": 5120,
    "n_layers": 5,
}
HUNYUAN = FLUX | {
    "image_model": "hunyuan_video",
    "in_channels": 64,
    "out_channels": 64,
    "patch_size": [1, 1],
    "vec_in_dim": None,
    "axes_dim": [64, 64],
    "meanflow": False,
    "context_in_dim": 3584,
    "hidden_size": 3584,
    "num_heads": 28,
    "depth": 20,
    "depth_single_blocks": 40,
    "theta": 256,
    "byt5": False,
    "guidance_embed": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
}
SD35 = {
    "in_channels": 16,
    "patch_size": 2,
    "out_channels": 16,
    "input_size": None,
    "adm_in_channels": 2048,
    "pos_embed_scaling_factor": None,
    "qk_norm": "rms",
}
LUMINA = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "qk_norm": True,
}
QWEN = {
    "image_model": "qwen_image",
    "in_channels": 64,
    "num_layers": 60,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 3584,
    "axes_dims_rope": (16, 56, 56),
}
Z_IMAGE = LUMINA | {
    "dim": 3840,
    "cap_feat_dim": 2560,
    "n_layers": 30,
    "n_heads": 30,
    "n_kv_heads": 30,
    "axes_dims": [32, 48, 48],
    "axes_lens": [1536, 512, 512],
    "rope_theta": 256.0,
    "ffn_dim_multiplier": 8.0 / 3.0,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}
LUMINA2 = LUMINA | {
    "dim": 2304,
    "cap_feat_dim": 2304,
    "n_layers": 26,
    "n_heads": 24,
    "n_kv_heads": 8,
    "axes_dims": [32, 32, 32],
    "axes_lens": [300, 512, 512],
    "rope_theta": 10000.0,
    "ffn_dim_multiplier": 4.0,
}
AURA = {
    "max_seq": 9216,
    "cond_seq_dim": 2048,
    "n_double_layers": 4,
    "n_layers": 36,
    "n_heads": 12,
    "dim": 3072,
}
WAN = {
    "image_model": "wan2.1",
    "model_type": "t2v",
    "dim": 5120,
    "out_dim": 16,
    "num_heads": 40,
    "ffn_dim": 13824,
    "num_layers": 40,
    "patch_size": (1, 2, 2),
    "freq_dim": 256,
    "window_size": (-1, -1),
    "qk_norm": True,
    "cross_attn_norm": True,
    "eps": 1e-6,
    "in_dim": 16,
    "text_dim": 4096,
}


@dataclass(frozen=True)
class TrueShape:
    """A family at its true size, with so many rows of text of some width, beside others' width."""

    name: str
    family: Family
    rows: int
    width: int
    pooled: int = 768

    def conditioning(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """Return what the host's model is given of a conditioning."""
        text = torch.empty(1, self.rows, self.width, device=device, dtype=dtype)
        pooled = torch.empty(1, self.pooled, device=device, dtype=dtype)
        return {"cross_attn": text, "pooled_output": pooled} | self.family.extra(self.rows, None)


def _sd35(depth: int, side: int, dual: int) -> dict[str, Any]:
    """SD3.5 with so many blocks, the first of which have a second attention."""
    target = {"in_features": 4096, "out_features": 64 * depth}
    return SD35 | {
        "depth": depth,
        "num_patches": side**2,
        "pos_embed_max_size": side,
        "context_embedder_config": {"target": "torch.nn.Linear", "params": target},
        "x_block_self_attn_layers": list(range(dual)),
    }


def _mask(rows: int, _: Any) -> dict[str, Tensor]:
    return {"attention_mask": torch.ones(1, rows, dtype=torch.long)}


def _at_1024(
    config: str, network: dict, newer: dict | None = None, cells: int = 128, **more: Any
) -> Family:
    return Family(config, network, newer or {}, size=(cells, cells), **more)


NO_IDS = {"txt_ids_dims": []}
SHAPES = [
    TrueShape(
        "Flux.1",
        _at_1024(
            "Flux",
            FLUX | {"image_model": "flux", "vec_in_dim": 768, "guidance_embed": True},
            NO_IDS,
        ),
        256,
        4096,
    ),
    TrueShape("Chroma", _at_1024("Chroma", CHROMA, NO_IDS | {"vec_in_dim": None}), 256, 4096),
    TrueShape(
        "Flux.2",
        _at_1024("Flux2", FLUX2, {"txt_ids_dims": [3]}, 64, channels=128),
        512,
        15360,
    ),
    TrueShape("SD3.5 medium", _at_1024("SD3", _sd35(24, 384, 13)), 154, 4096, 2048),
    TrueShape("SD3.5 large", _at_1024("SD3", _sd35(38, 192, 0)), 154, 4096, 2048),
    TrueShape("Qwen-Image", _at_1024("QwenImage", QWEN, frames=True), 64, 3584),
    TrueShape("Z-Image", _at_1024("ZImage", Z_IMAGE, extra=_mask), 64, 2560),
    TrueShape("Lumina 2", _at_1024("Lumina2", LUMINA2, extra=_mask), 64, 2304),
    TrueShape("AuraFlow", _at_1024("AuraFlow", AURA, channels=4), 256, 2048),
    TrueShape(
        "HunyuanImage",
        _at_1024("HunyuanImage21", HUNYUAN, {"meanflow_sum": False}, 32, channels=64),
        64,
        3584,
    ),
    TrueShape("Wan 14B", _at_1024("WAN21_T2V", WAN, frames=True), 512, 4096),
]
if is_newer_host():  # whose classes have their true size by default
    SHAPES += [
        TrueShape("Krea 2", _at_1024("Krea2", {"image_model": "krea2"}, frames=True), 64, 30720),
        TrueShape(
            "Ernie-Image",
            _at_1024("ErnieImage", {"image_model": "ernie"}, cells=64, channels=128),
            64,
            3072,
        ),
    ]
