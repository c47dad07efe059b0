"""How the host's models mix a picture and noise, as the core takes it."""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import CONST

from ....realcompo_core.sampling.coordinates import Coordinates


def coordinates_of(patcher: ModelPatcher) -> Coordinates:
    """Return what a model's sigmas mean."""
    sampling: Any = patcher.get_model_object("model_sampling")
    flows = type(sampling).noise_scaling is CONST.noise_scaling
    return Coordinates.FLOW if flows else Coordinates.VE
