"""What a gradient pass reads of a model's attention, and what it minimises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ....realcompo_core.sampling.attention import Keys
from ....realcompo_core.sampling.losses import joint_loss
from ....realcompo_core.sampling.settings import BalancerSettings
from ..model.capture import Capture
from ..model.readers.reader import Layer, Reader


@dataclass(frozen=True)
class Objective:
    """What a gradient pass minimises.

    ``layers`` chooses what is read of a model for a latent of (height, width) cells. ``loss`` is
    that of what a capture saw [B]. ``name`` tells its evaluations apart from others where they are
    counted. ``way_out`` is what a user can do where a model has no gradient. ``keys`` are what a
    transformer's attention is shared out among.
    """

    name: str
    layers: Callable[[Reader, tuple[int, int]], list[Layer]]
    loss: Callable[[Capture], Tensor]
    way_out: str
    checkpointing: bool = False
    keys: Keys = Keys.ALL


def composition(settings: BalancerSettings) -> Objective:
    """Return RealCompo's loss (eq. 6) on the layers that the settings name, and what they add."""

    def layers(reader: Reader, latent: tuple[int, int]) -> list[Layer]:
        return reader.chosen(settings.downsample, settings.layers, latent)

    def loss(capture: Capture) -> Tensor:
        first, *others = capture.pooled()
        total = joint_loss(first[1], first[0], settings)
        for objects, maps in others:
            total = total + joint_loss(maps, objects, settings)
        return total

    return Objective("attention", layers, loss, "set the mode to fixed", keys=settings.keys)
