"""Moving the latent down an objective before a model is evaluated, under any sampler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ....realcompo_core.errors import naming
from ....realcompo_core.sampling.latent_guidance import GuidanceSettings, descend
from ....realcompo_core.sampling.moving_frame import MovingFrame, movable
from ....realcompo_core.sampling.schedule import Schedule
from ..model.gradients import differentiable_patcher, reserve_gradient_memory
from .checks import check_layout
from .folding import check_still, flat, reporting, whole
from .noising import coordinates_of
from .objective import Objective
from .prepared_model import PreparedModel

KEY = "realcompo_latent_guidance"


@dataclass(frozen=True)
class LatentGuidance:
    """Gradient steps on the latent before a step's first evaluation.

    They go on while the ``objective`` is above the settings' threshold. Errors name ``node``.
    """

    settings: GuidanceSettings
    objective: Objective
    node: str

    def attach(self, model: ModelPatcher) -> ModelPatcher:
        """Return a clone that any sampler runs guided, after what it is already guided by."""
        clone = differentiable_patcher(model).clone()
        clone.set_attachments(KEY, (*guidances_of(clone), self))
        wrap_sampling(clone, _sample_guided)
        reserve_gradient_memory(clone)
        return clone

    def moved(
        self, model: PreparedModel, latent: Tensor, sigma: Tensor, mask: Tensor | float
    ) -> Tensor:
        """Return the latent [B, C, H, W] after at most ``iterations`` moves.

        Where ``mask`` is 0 it stays as it is.
        """
        for _ in range(self.settings.iterations):
            with naming(self.node):
                pull = model.pull(latent, sigma, self.objective, gradient=True)
            finite = pull.gradient.isfinite().all(dim=(1, 2, 3))
            moves = ((pull.losses > self.settings.threshold) & finite).view(-1, 1, 1, 1)
            if not moves.any():
                break
            lower = descend(latent, pull.gradient * mask, sigma, self.settings.scale)
            latent = torch.where(moves, lower, latent)
        return latent


def guidances_of(model: ModelPatcher) -> tuple[LatentGuidance, ...]:
    """Return what a model is guided by, in the order in which it acts."""
    return model.get_attachment(KEY) or ()


def wrap_sampling(model: ModelPatcher, wrapper: Callable | None) -> None:
    """Let ``wrapper``, or nothing, run a model's samplers in place of what it is guided by."""
    model.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, KEY)
    if wrapper is not None:
        model.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, wrapper)


def guided(
    model: PreparedModel,
    latent: Tensor,
    sigma: Tensor,
    mask: Tensor | float,
    step: int,
    schedule: Schedule,
) -> Tensor:
    """Return the latent [B, C, H, W] at which a model is evaluated at this step.

    It is the same object if nothing guides the model. ``mask`` is 0 where the latent must stay.
    """
    for guidance in guidances_of(model.guider.model_patcher):
        if guidance.settings.guides(step, schedule):
            latent = guidance.moved(model, latent, sigma, mask)
    return latent


class GuidedRun:
    """One sampling run of a guided model, in a frame that moves with the latent."""

    def __init__(self, model: PreparedModel, sigmas: Tensor, mask: Tensor | None) -> None:
        coordinates = coordinates_of(model.guider.model_patcher)
        self.model, self.mask = model, movable(None if mask is None else flat(mask))
        self.schedule = Schedule(sigmas.tolist(), coordinates=coordinates)
        self.frame = MovingFrame(coordinates)
        self.last_step = -1

    def predict(
        self,
        executor: Callable,
        model: Any,
        conds: list,
        x: Tensor,
        timestep: Tensor,
        options: dict,
    ) -> list[Tensor]:
        """As the host's ``calc_cond_batch``, at the sampler's latent ``x`` [B, C, ...]."""
        latent, step = self.frame.seen(flat(x), timestep), self.schedule.step(float(timestep.max()))
        if step > self.last_step:
            self.last_step = step
            latent = self._moved(latent, timestep, step)
        found = executor(model, conds, whole(latent, model), timestep, options)
        return [whole(self.frame.told(flat(out)), model) for out in found]

    def _moved(self, latent: Tensor, sigma: Tensor, step: int) -> Tensor:
        moved = guided(self.model, latent, sigma, self.mask, step, self.schedule)
        self.frame.move(moved - latent, sigma)
        return moved


def _sample_guided(
    executor: Callable,
    guider: Any,
    sigmas: Tensor,
    extra_args: dict,
    callback: Callable | None,
    noise: Tensor,
    latent_image: Tensor,
    mask: Tensor | None,
    *rest: Any,
) -> Tensor:
    """A stock run of a guided model."""
    model = PreparedModel("guided", guider, Counter())
    model.options = extra_args["model_options"]
    with naming(guidances_of(guider.model_patcher)[0].node):
        check_still(noise, "sample without the guidance")
        check_layout(model.name, model.positive)
    run = GuidedRun(model, sigmas, mask)
    options = comfy.model_patcher.create_model_options_clone(model.options)
    add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, run.predict, options, True)
    extra_args = extra_args | {"model_options": options}
    told = reporting(callback, run.frame, model.model)
    samples = executor(guider, sigmas, extra_args, told, noise, latent_image, mask, *rest)
    return whole(run.frame.pictured(flat(samples)), model.model)
