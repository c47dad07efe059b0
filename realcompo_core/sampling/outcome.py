"""What a step's evaluation came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from .branch import Prediction, Side
from .nudge import Nudge
from .pull import Pull


@dataclass(frozen=True)
class Fork:
    """Where each branch alone leads a step: latents [B, C, H, W]."""

    step: int
    text: Tensor
    spatial: Tensor


@dataclass(frozen=True)
class Taken:
    """What an evaluation came to: a blended prediction, and what was read of attention.

    ``fork`` is there where the balance catches up at the next step, ``nudge`` where attention
    moves the latent before it.
    """

    prediction: Prediction
    pulls: Mapping[Side, Pull] = field(default_factory=dict)
    fork: Fork | None = None
    nudge: Nudge | None = None
