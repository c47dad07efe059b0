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
from ....realcompo_core.sampling.schedule import Schedule
from ..model.gradients import differentiable_patcher, reserve_gradient_memory
from .branch import Branch
from .checks import check_layout
from .objective import Objective

KEY = "realcompo_latent_guidance"


@dataclass(frozen=True)
class LatentGuidance:
    """Before a step's first evaluation, gradient steps on the latent while the objective is above a threshold."""

    settings: GuidanceSettings
    objective: Objective
    node: str  # named in errors

    def attach(self, model: ModelPatcher) -> ModelPatcher:
        """A clone of the model that any sampler runs guided, after what it is already guided by."""
        clone = differentiable_patcher(model).clone()
        clone.set_attachments(KEY, (*guidances_of(clone), self))
        wrap_sampling(clone, _sample_guided)
        reserve_gradient_memory(clone)
        return clone

    def moved(self, branch: Branch, latent: Tensor, sigma: Tensor, mask: Tensor | float) -> Tensor:
        """The latent [B, C, H, W] after at most ``iterations`` moves; where ``mask`` is 0 it stays as it is."""
        for _ in range(self.settings.iterations):
            with naming(self.node):
                pull = branch.pull(latent, sigma, self.objective, gradient=True)
            finite = pull.gradient.isfinite().all(dim=(1, 2, 3))
            moves = ((pull.losses > self.settings.threshold) & finite).view(-1, 1, 1, 1)
            if not moves.any():
                break
            latent = torch.where(
                moves, descend(latent, pull.gradient * mask, sigma, self.settings.scale), latent
            )
        return latent


def guidances_of(model: ModelPatcher) -> tuple[LatentGuidance, ...]:
    """What a model is guided by, in the order in which it acts."""
    return model.get_attachment(KEY) or ()


def wrap_sampling(model: ModelPatcher, wrapper: Callable | None) -> None:
    """Let ``wrapper``, or nothing, run a model's samplers in place of what it is guided by."""
    model.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, KEY)
    if wrapper is not None:
        model.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, wrapper)


def guided(
    branch: Branch, latent: Tensor, sigma: Tensor, mask: Tensor | float, step: int, steps: int
) -> Tensor:
    """The latent [B, C, H, W] at which a branch is evaluated at this step; the same object if nothing guides it.

    ``mask`` is 0 where the latent must stay (:func:`movable`).
    """
    for guidance in guidances_of(branch.guider.model_patcher):
        if guidance.settings.guides(step, steps):
            latent = guidance.moved(branch, latent, sigma, mask)
    return latent


class GuidedRun:
    """One sampling run in coordinates that move with the latent.

    A sampler keeps its latent to itself: what is done to the model's input alone would be undone by its next step.
    So the guided latent is the sampler's latent x plus an ``offset``, the sum of all moves so far. The model is
    evaluated at ``x + offset`` and the sampler is told ``denoised - offset``: its noise estimate is then that of the
    guided latent, ``((x + offset) - denoised) / sigma``, and since a sampler's step adds fractions of latents and
    predictions that sum to one, and noise, ``x + offset`` goes where a step from the guided latent leads. The offset
    is added to what the sampler returns and reports.

    This is exact for samplers of one step, of whatever order and however random, and for those that remember noise
    estimates. One that remembers denoised predictions (dpmpp_2m, uni_pc) weighs the last one negatively, and so counts
    a move once more with that weight: about ``(1 - r) / 2`` for a ratio r of neighbouring sigmas. One that looks ahead
    to the next step's sigma (heun) is moved at that look already.
    """

    def __init__(self, branch: Branch, sigmas: Tensor, mask: Tensor | None) -> None:
        self.branch, self.schedule = branch, Schedule(sigmas.tolist())
        self.mask = movable(mask)
        self.offset: Tensor | float = 0.0
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
        """As the host's ``calc_cond_batch``, in the sampler's coordinates."""
        latent = x + self.offset
        step = self.schedule.step(float(timestep.max()))
        if step > self.last_step:
            self.last_step = step
            moved = guided(self.branch, latent, timestep, self.mask, step, self.schedule.steps)
            self.offset, latent = self.offset + (moved - latent), moved
        return [out - self.offset for out in executor(model, conds, latent, timestep, options)]


def movable(mask: Tensor | None) -> Tensor | float:
    """1 where an inpainting sampler's mask [B, C, H, W] lets the latent move: where that mixes the original in, an
    offset could not be taken back whole."""
    return 1.0 if mask is None else (mask >= 1).to(mask)


def reporting(callback: Callable | None, run: Any) -> Callable | None:
    """The host's callback for each step, told the latents and predictions where ``run.offset`` leads."""
    if callback is None:
        return None
    return lambda step, denoised, x, total: callback(
        step, denoised + run.offset, x + run.offset, total
    )


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
    branch = Branch("guided", guider, Counter())
    branch.options = extra_args["model_options"]
    with naming(guidances_of(guider.model_patcher)[0].node):
        check_layout(branch.name, branch.positive)
    run = GuidedRun(branch, sigmas, mask)
    options = comfy.model_patcher.create_model_options_clone(branch.options)
    add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, run.predict, options, True)
    extra_args = extra_args | {"model_options": options}
    samples = executor(
        guider, sigmas, extra_args, reporting(callback, run), noise, latent_image, mask, *rest
    )
    return samples + run.offset
