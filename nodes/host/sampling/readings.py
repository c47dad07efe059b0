"""What a capture has seen, as the core takes it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ....realcompo_core.sampling.losses import region_loss
from ....realcompo_core.sampling.pull import Pull
from ....realcompo_core.sampling.trace import Reading
from ....realcompo_core.words.grounding import Objects
from ..model.capture import Capture
from .objective import Objective


def readings_of(capture: Capture) -> tuple[Reading, ...]:
    """Return a reading for each conditioning that ran, on the CPU."""
    return tuple(_reading(objects, maps.detach()) for objects, maps in capture.pooled())


def pull_of(capture: Capture, objective: Objective, latent: Tensor) -> Pull:
    """Return what a pass without a gradient has read, at a latent [B, C, H, W]."""
    if capture.idle:
        return Pull.none(latent)
    return Pull(objective.loss(capture), torch.zeros_like(latent), readings_of(capture))


def _reading(objects: Objects, attention: Tensor) -> Reading:
    losses = region_loss(attention, objects.regions).cpu()
    kept = replace(objects, parts=tuple(part.float().cpu() for part in objects.parts))
    return Reading(attention.float().cpu(), kept, losses)
