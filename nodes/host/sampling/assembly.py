"""A run put together: the core's method on the host's prepared models."""

from __future__ import annotations

from collections.abc import Mapping

import comfy.model_management
import torch
from torch import Tensor

from ....realcompo_core.sampling.balancer import Balancer
from ....realcompo_core.sampling.branch import Side
from ....realcompo_core.sampling.gradient_passes import GradientPasses
from ....realcompo_core.sampling.moving_frame import MovingFrame
from ....realcompo_core.sampling.run import Run
from ....realcompo_core.sampling.schedule import Schedule
from ....realcompo_core.sampling.settings import BalancerSettings
from ....realcompo_core.sampling.step import RealCompo
from ....realcompo_core.sampling.trace import Trace
from ....realcompo_core.words.grounding import OPTION, grounded
from .branch import HostBranch
from .cfg import SamplersGuidance, added_to
from .objective import composition
from .prepared_model import PreparedModel

Models = Mapping[Side, PreparedModel]


class HostRun(Run):
    """A :class:`Run` on the host's models. The first of ``models`` is the sampler's own."""

    def __init__(
        self,
        models: Models,
        settings: BalancerSettings,
        schedule: Schedule,
        seed: int,
        cfg: float,
        trace: Trace,
    ) -> None:
        self.models, self.cfg, frame = models, cfg, MovingFrame(schedule.coordinates)
        self.primary = next(iter(models.values()))
        objective, steps = composition(settings), schedule.steps
        branches = {s: HostBranch(s, model, objective, schedule) for s, model in models.items()}
        self.host_branches = list(branches.values())
        method = RealCompo(branches, settings, schedule, cfg, gradient_passes(settings))

        def start(latent: Tensor) -> Balancer:
            regions = regions_of(models[Side.SPATIAL].positive, latent)
            return Balancer(settings, regions, latent.shape[0], seed, steps)

        self.guidance = SamplersGuidance(cfg, frame)
        super().__init__(method, start, self.guidance, frame, trace)

    def answer(self, x: Tensor, sigma: Tensor, options: dict, seed: int | None) -> Tensor:
        """Return the denoised latent [B, C, H, W], of the sampler's own options for its model."""
        self._prepare(options, seed)
        beside = [m.randomness for m in self.models.values() if m.randomness is not None]
        for randomness in beside:
            randomness.follow()
        denoised = self.denoised(x, sigma)
        for randomness in beside:
            randomness.part()
        return denoised

    def _prepare(self, options: dict, seed: int | None) -> None:
        primary = self.primary
        primary.options = options
        added = added_to(primary.guider.model_options, options)
        for model in self.models.values():
            model.added, model.seed = added, seed
        conds = primary.guider.conds
        self.guidance.functions = added.functions
        self.guidance.arguments = {
            "cond": conds.get("positive"),
            "uncond": conds.get("negative"),
            "model": primary.model,
            "model_options": options,
        }

    def keep(self, mask: Tensor | None) -> None:
        """Leave the latent alone where an inpainting sampler's mask [B, C, H, W] is 0."""
        self.method.mask = mask
        for branch in self.host_branches:
            branch.mask = mask


def gradient_passes(settings: BalancerSettings) -> GradientPasses:
    """Return how a run makes gradient passes on this host."""
    weights = {
        Side.TEXT: settings.text_loss * settings.rules.text_gradient,
        Side.SPATIAL: settings.spatial_loss,
    }
    return GradientPasses(
        weights,
        settings.every,
        settings.checkpointing,
        comfy.model_management.OOM_EXCEPTION,
        comfy.model_management.soft_empty_cache,
    )


def regions_of(positive: list[dict], latent: Tensor) -> Tensor:
    """Return the regions [objects, H, W] in latent cells of conditionings processed for a run."""
    height, width = latent.shape[-2:]
    found = [cond[OPTION].objects(height, width).regions for cond in grounded(positive)]
    regions = torch.cat(found) if found else torch.zeros(1, height, width)
    return regions.to(latent)
