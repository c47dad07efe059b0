"""Tiny transformers of the families that only newer hosts have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .tiny_family import WIDTH, Family, masked, part_masked


def newer_families(cosmos: Family) -> dict[str, Family]:
    """Return the families; one of them is built as ``cosmos`` is."""
    anima = {"image_model": "anima"}
    return {
        "anima": Family(
            "Anima",
            cosmos.network | anima,
            frames=True,
            extra=_t5_ids,
            small=_small_adapter,
        ),
        "krea2": Family(
            "Krea2",
            {
                "image_model": "krea2",
                "features": 64,
                "channels": 16,
                "patch": 2,
                "layers": 4,
                "heads": 4,
                "kvheads": 2,
                "txtlayers": 2,
                "txtdim": WIDTH // 2,
                "tdim": 64,
                "txtheads": 2,
                "txtkvheads": 2,
            },
            frames=True,
        ),
        "ernie": Family(
            "ErnieImage",
            {
                "image_model": "ernie",
                "hidden_size": 64,
                "num_attention_heads": 4,
                "num_layers": 4,
                "ffn_hidden_size": 128,
                "text_in_dim": WIDTH,
                "rope_axes_dim": (4, 6, 6),
            },
            channels=128,
        ),
        "boogu": Family(
            "Boogu",
            {
                "image_model": "boogu",
                "hidden_size": 96,
                "in_channels": 16,
                "num_layers": 2,
                "num_double_stream_layers": 2,
                "num_refiner_layers": 1,
                "num_attention_heads": 4,
                "num_kv_heads": 2,
                "multiple_of": 32,
                "axes_dim_rope": (8, 8, 8),
                "axes_lens": (1024, 1664, 1664),
                "instruction_feat_dim": WIDTH,
            },
            extra=masked,
        ),
        "lens": Family(
            "Lens",
            {
                "image_model": "lens",
                "num_layers": 4,
                "attention_head_dim": 16,
                "num_attention_heads": 4,
                "enc_hidden_dim": WIDTH // 4,
                "axes_dims_rope": (4, 6, 6),
            },
            channels=128,
            extra=part_masked,
        ),
        "ideogram4": Family(
            "Ideogram4",
            {
                "image_model": "ideogram4",
                "in_channels": 128,
                "num_layers": 4,
                "num_attention_heads": 4,
                "attention_head_dim": 32,
                "intermediate_size": 128,
                "adaln_dim": 32,
                "llm_features_dim": WIDTH,
                "mrope_section": (6, 5, 5),
            },
            channels=128,
            extra=part_masked,
        ),
    }


def _t5_ids(rows: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Return the ids that Anima's network makes its rows of, more than its encoder has rows."""
    return {
        "t5xxl_ids": torch.randint(2, 99, (rows + 3,), generator=generator),
        "t5xxl_weights": torch.ones(rows + 3),
    }


def _small_adapter(network: Any) -> None:
    """Give Anima a small adapter in place of one of 136 million weights."""
    import comfy.ops
    from comfy.ldm.anima.model import LLMAdapter

    sizes = {"source_dim": WIDTH, "target_dim": WIDTH, "model_dim": WIDTH, "num_heads": 4}
    made = {"operations": comfy.ops.manual_cast, "dtype": torch.float32}
    network.llm_adapter = LLMAdapter(num_layers=1, **sizes, **made)
