"""Layout Guidance (arXiv 2304.03373): a model's own attention pulls each object into its region."""

from __future__ import annotations

import torch
from torch import Tensor

from ....realcompo_core.sampling.latent_guidance import GuidanceSettings
from ....realcompo_core.sampling.losses import layout_guidance_loss
from ..model.capture import Capture
from ..model.readers.reader import Layer, Reader
from .latent_guidance import LatentGuidance
from .objective import Objective


def layout_guidance(settings: GuidanceSettings, node: str) -> LatentGuidance:
    """Return guidance by the layout in the positive conditioning.

    Heads are averaged before the loss is taken.
    """
    objective = Objective("guidance", _layers, _loss, "sample without the guidance")
    return LatentGuidance(settings, objective, node)


def _layers(reader: Reader, latent: tuple[int, int]) -> list[Layer]:
    return reader.guiding(latent)


def _loss(capture: Capture) -> Tensor:
    """The mean over conditionings [B]."""
    found = []
    for objects, maps in capture.layers():
        tokens = [len(positions) for positions in objects.tokens]
        found.append(layout_guidance_loss(maps, objects.regions, tokens))
    return torch.stack(found).mean(dim=0)
