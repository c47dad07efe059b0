"""Stand-ins for loaders of transformers' files: tiny models of the same families.

ComfyUI's file loaders know most of these families at their true size only. Texts are as wide as the
real ones. ``testkit`` must be on the server's path; see ``testkit.server``.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import torch

# What a network takes of its texts, by family.
TEXTS: dict[str, dict] = {
    "flux": {"context_in_dim": 4096, "vec_in_dim": 768},
    "chroma": {"context_in_dim": 4096},
    "qwen image": {"joint_attention_dim": 3584},
    "z-image": {"cap_feat_dim": 2560},
    "sd3": {
        "adm_in_channels": 2048,
        "context_embedder_config": {
            "target": "torch.nn.Linear",
            "params": {"in_features": 4096, "out_features": 192},
        },
    },
    "auraflow": {"cond_seq_dim": 2048},
}
CONTROLS = {"flux": "flux union", "qwen image": "qwen instantx", "sd3": "sd3.5"}


class Loader:
    """Loads one part of a family."""

    FUNCTION, CATEGORY = "load", "test"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {"family": (list(TEXTS),)}}


class TinyModel(Loader):
    """A model of random weights."""

    RETURN_TYPES = ("MODEL",)

    def load(self, family: str) -> tuple:
        return (model_of(family),)


class TinyClip(Loader):
    """The host's tokenizers and text models, with networks that mix nothing."""

    RETURN_TYPES = ("CLIP",)

    def load(self, family: str) -> tuple:
        return (clip_of(family),)


class TinyVae(Loader):
    """Shows three channels of a latent."""

    RETURN_TYPES = ("VAE",)

    def load(self, family: str) -> tuple:
        return (vae_of(family),)


class TinyControl(Loader):
    """A ControlNet of random weights."""

    RETURN_TYPES = ("CONTROL_NET",)

    def load(self, family: str) -> tuple:
        from testkit import tiny_controls

        model = model_of(family)
        with torch.inference_mode():
            _, control = tiny_controls.controlled(CONTROLS[family], model)
        control.latent_format = model.model.latent_format
        control.preprocess_image = lambda image: image
        return (control,)


class TinyCheckpoint(Loader):
    """All three in one, as checkpoints have them."""

    RETURN_TYPES = ("MODEL", "CLIP", "VAE")

    def load(self, family: str) -> tuple:
        return model_of(family), clip_of(family), vae_of(family)


@cache
def model_of(family: str) -> Any:
    from testkit import tiny_transformers as tiny

    known = tiny.FAMILIES[family]
    tiny.FAMILIES[family] = replace(known, network=known.network | TEXTS[family])
    return tiny.patcher(family)


def clip_of(family: str) -> Any:
    from testkit import text_encoders

    return text_encoders.clip_of(family)


@cache
def vae_of(family: str) -> Any:
    from testkit.tiny_controls import Vae
    from testkit.tiny_transformers import FAMILIES

    return Vae(frames=FAMILIES[family].frames)


NODE_CLASS_MAPPINGS = {
    kind.__name__: kind for kind in (TinyModel, TinyClip, TinyVae, TinyControl, TinyCheckpoint)
}
