"""Separate-and-Enhance at test time (arXiv 2312.06712): both losses move the latent.

No weight is trained.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ....realcompo_core.errors import InputError
from ....realcompo_core.sampling.latent_guidance import GuidanceSettings
from ....realcompo_core.sampling.losses import enhance_loss, separate_loss
from ....realcompo_core.sampling.sepen_guidance import SeparationSettings
from ..model.capture import Capture
from ..model.readers.reader import Layer, Reader
from .latent_guidance import LatentGuidance
from .objective import Objective


def sepen_guidance(settings: SeparationSettings, node: str) -> LatentGuidance:
    """Return guidance by the objects in the positive conditioning, wherever they stand."""

    def layers(reader: Reader, latent: tuple[int, int]) -> list[Layer]:
        return reader.chosen(settings.downsample, settings.layers, latent)

    def loss(capture: Capture) -> Tensor:
        return torch.stack([_loss(maps, settings) for _, maps in capture.pooled()]).mean(dim=0)

    moves = GuidanceSettings(settings.scale, 0.0, settings.iterations, settings.start, settings.end)
    objective = Objective("separation", layers, loss, "sample without the guidance")
    return LatentGuidance(moves, objective, node)


def _loss(maps: Tensor, settings: SeparationSettings) -> Tensor:
    """The weighted sum of both losses [B] of maps [B, objects, h, w]."""
    if maps.shape[1] < 2:
        fix = (
            "Name two objects or more in SepEn Conditioning or in the layout, "
            "each by words of its own."
        )
        raise InputError("positive", "two objects or more", str(maps.shape[1]), fix)
    return settings.separate * separate_loss(maps) + settings.enhance * enhance_loss(maps)
