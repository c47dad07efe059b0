"""A run put together: the core's method on the host's prepared models."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import comfy.model_management
import torch
from torch import Tensor

from ....realcompo_core.sampling.balancer import Balancer
from ....realcompo_core.sampling.branch import Branch, Side
from ....realcompo_core.sampling.bridge import BridgedBranch
from ....realcompo_core.sampling.coordinates import Coordinates
from ....realcompo_core.sampling.gradient_passes import GradientPasses
from ....realcompo_core.sampling.moving_frame import MovingFrame
from ....realcompo_core.sampling.run import Run
from ....realcompo_core.sampling.schedule import Schedule
from ....realcompo_core.sampling.settings import BalancerSettings
from ....realcompo_core.sampling.step import RealCompo
from ....realcompo_core.sampling.trace import Trace
from ....realcompo_core.words.grounding import OPTION, grounded
from .branch import HostBranch, Original
from .cfg import SamplersGuidance, added_to
from .folding import flat, reporting, whole
from .noising import bridge_of
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
        self.host_branches = []
        branches: dict[Side, Branch] = {}
        for side, model in models.items():
            branch = HostBranch(side, model, objective, schedule)
            self.host_branches.append(branch)
            branches[side] = _bridged(branch, schedule.coordinates)
        method = RealCompo(branches, settings, schedule, cfg, gradient_passes(settings))

        def start(latent: Tensor) -> Balancer:
            regions = regions_of(models[Side.SPATIAL].positive, latent)
            return Balancer(settings, regions, latent.shape[0], seed, steps)

        self.guidance = SamplersGuidance(cfg, frame)
        super().__init__(method, start, self.guidance, frame, trace)

    def answer(self, x: Tensor, sigma: Tensor, options: dict, seed: int | None) -> Tensor:
        """Return the denoised latent, as the host has it, of the sampler's options for its model.

        ``x`` is [B, C, H, W], or has a time; ``sigma`` is [B].
        """
        self._prepare(options, seed)
        beside = [m.randomness for m in self.models.values() if m.randomness is not None]
        for randomness in beside:
            randomness.follow()
        denoised = self.denoised(flat(x), sigma)
        for randomness in beside:
            randomness.part()
        return whole(denoised, self.primary.model)

    def reporting(self, callback: Callable | None) -> Callable | None:
        """Return a sampler's callback (step, denoised, latent, total), told what the models see."""
        return reporting(callback, self.frame, self.primary.model)

    def ended(self, samples: Tensor, sigma: Tensor) -> Tensor:
        """Return the latent [B, C, ...] that the run ends with at sigma [1], of its sampler's.

        Makes the move that is pending.
        """
        self.make_pending_move(sigma)
        return whole(self.frame.pictured(flat(samples)), self.primary.model)

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

    def keep(self, mask: Tensor | None, picture: Tensor, noise: Tensor) -> None:
        """Leave the latent alone where an inpainting sampler's mask is 0.

        The ``picture`` and the ``noise`` for it stand there. All three are [B, C, ...].
        """
        if mask is None:
            return
        self.method.mask, original = flat(mask), Original(flat(picture), flat(noise))
        own = type(self.primary.model).scale_latent_inpaint
        for branch in self.host_branches:
            branch.mask = flat(mask)
            differs = type(branch.model.model).scale_latent_inpaint is not own
            branch.original = original if differs else None


def _bridged(branch: HostBranch, coordinates: Coordinates) -> Branch:
    """The branch in the coordinates of a run."""
    bridge = bridge_of(branch.model.guider.model_patcher, coordinates)
    return branch if bridge is None else BridgedBranch(branch, bridge)


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
