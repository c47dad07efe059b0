"""Separate-and-Enhance at test time: how a latent is moved so that objects draw attention of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import check_losses, check_ranges
from .attention import Layers


@dataclass(frozen=True)
class SeparationSettings:
    """Weights of both losses, and when and how far a latent is moved. Raises :class:`InputError`."""

    separate: float = 1.0
    enhance: float = 0.5
    scale: float = 20.0  # factor on the gradient times sigma squared
    iterations: int = 1  # moves at one step
    start: float = 0.0  # share of the steps before the first that is guided, 0..1
    end: float = 0.5  # share of the steps before the first that is guided no more, 0..1
    downsample: int = 0  # downsample factor of the attention layers that are read; 0 chooses one
    layers: Layers = Layers.ALL  # which of the attention layers at that factor are read

    RANGES: ClassVar = {
        "separate": (0, 100),
        "enhance": (0, 100),
        "scale": (0, 1e6),
        "iterations": (1, 100),
        "start": (0, 1),
        "end": (0, 1),
        "downsample": (0, 64),
    }

    def __post_init__(self) -> None:
        check_ranges(self)
        check_losses(self.separate, self.enhance)
