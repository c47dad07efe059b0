"""What a gradient pass reads of a model's attention, and what it minimises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...realcompo_core.balancer import BalancerSettings
from ...realcompo_core.grounding import Objects
from ...realcompo_core.losses import enhance_loss, region_loss, separate_loss
from ...realcompo_core.trace import Reading
from .capture import Block, Capture, choose_blocks


@dataclass(frozen=True)
class Objective:
    """``blocks`` chooses what is read for a latent of (height, width) cells; ``loss`` [B] of what a capture saw.

    ``name`` tells its evaluations apart from others where they are counted; ``way_out`` is what a user can do where a
    model has no gradient.
    """

    name: str
    blocks: Callable[[list[Block], tuple[int, int]], list[Block]]
    loss: Callable[[Capture], Tensor]
    way_out: str
    checkpointing: bool = False


def composition(settings: BalancerSettings) -> Objective:
    """RealCompo eq. 6 on the layers that the settings name, its weighted sum over objects, and what they add to it."""

    def blocks(found: list[Block], latent: tuple[int, int]) -> list[Block]:
        return choose_blocks(found, settings.downsample, settings.layers, latent)

    def loss(capture: Capture) -> Tensor:
        return sum(joint_loss(attention, objects, settings) for objects, attention in capture.pooled())

    return Objective("attention", blocks, loss, "set the mode to fixed", settings.checkpointing)


def joint_loss(attention: Tensor, objects: Objects, settings: BalancerSettings) -> Tensor:
    """The region loss and the settings' share of the separate and enhance losses [B]; attention [B, objects, h, w]."""
    losses = region_loss(attention, objects.regions)
    if settings.object_weights:
        losses = losses * objects.weights(settings.object_weights).to(losses)
    total = losses.sum(dim=1)
    if settings.separate and attention.shape[1] > 1:
        total = total + settings.separate * separate_loss(attention)
    return total + settings.enhance * enhance_loss(attention) if settings.enhance else total


def share_outside(readings: Sequence[Reading], weights: Sequence[float]) -> Tensor:
    """The share of attention outside its region [B], the mean over objects, weighted as their losses are."""
    scales = [r.objects.weights(weights) if weights else torch.ones(len(r.objects.phrases)) for r in readings]
    losses = torch.cat([reading.losses for reading in readings], dim=1)
    scale = torch.cat(scales).to(losses)
    return (losses * scale).sum(dim=1) / scale.sum()


def early_decoder(found: list[Block], latent: tuple[int, int]) -> list[Block]:
    """The middle and the first of the way up, where Layout Guidance reads; some model's middle has no attention."""
    first = max((block.factor for block in found if block.key[0] == "output"), default=0)
    return [b for b in found if b.key[0] == "middle" or (b.key[0] == "output" and b.factor == first)]
