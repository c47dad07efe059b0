"""What must hold of models and conditionings before anything is loaded."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher

from ....realcompo_core.errors import InputError, within
from ....realcompo_core.sampling.attention import Layers
from ....realcompo_core.words.grounding import grounded
from ..model.unet import attention_blocks, choose_blocks


def check_patcher(name: str, patcher: ModelPatcher, downsample: int, layers: Layers) -> None:
    """Raise :class:`InputError`, before anything is loaded, for a model whose attention can't be read so."""
    with within(f"{name} model"):
        choose_blocks(attention_blocks(patcher.model), downsample, layers, latent=(1, 1))


def check_layout(name: str, positive: list[dict]) -> None:
    """Raise :class:`InputError` for conditionings, as options or as processed for a run, of which none has a layout."""
    if not grounded(positive):
        fix = "Connect the RealCompo Layout Conditioning node, or sample without guidance and in the mode fixed."
        raise InputError(f"{name} positive", "a conditioning with a layout", "one without", fix)
