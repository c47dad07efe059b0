"""Separate-and-Enhance while sampling: the settings of what keeps objects apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import check_losses
from .attention import Layers
from .fields import check_ranges, downsample_setting, layers_setting, setting
from .latent_guidance import END, START, START_MORE


def separate_setting() -> Any:
    """Return the field of the separate loss's weight, in guidance and in finetuning."""
    return setting(
        1.0,
        "How much it counts that objects are kept apart. Higher helps where two objects melt into "
        "one.",
        low=0,
        high=100,
        step=0.05,
        more="It is the weight of the separate loss: the strongest overlap of the objects' "
        "attention.",
    )


def enhance_setting() -> Any:
    """Return the field of the enhance loss's weight, in guidance and in finetuning."""
    return setting(
        0.5,
        "How much it counts that no object is forgotten. Higher helps where an object is missing.",
        low=0,
        high=100,
        step=0.05,
        more="It is the weight of the enhance loss: how weak the weakest object's attention is.",
    )


@dataclass(frozen=True)
class SeparationSettings:
    """Say what moves a latent, when and how far. Raises :class:`InputError` for bad values."""

    separate: float = separate_setting()
    enhance: float = enhance_setting()
    scale: float = setting(
        20.0,
        "How far each move goes. Higher keeps objects apart more surely; too high damages the "
        "image.",
        low=0,
        high=1e6,
        more="It is the factor on the gradient times the noise level squared.",
    )
    iterations: int = setting(
        1,
        "Moves at one step. Each costs about as much time as one evaluation of the model.",
        low=1,
        high=100,
    )
    start: float = setting(0.0, START, low=0, high=1, step=0.05, more=START_MORE)
    end: float = setting(0.5, END, low=0, high=1, step=0.05)
    downsample: int = downsample_setting()
    layers: Layers = layers_setting()

    def __post_init__(self) -> None:
        check_ranges(self)
        check_losses(self.separate, self.enhance)
