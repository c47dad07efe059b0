"""One model of the two: its conditionings, its own options, its predictions and its attention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import torch
from torch import Tensor, nn

from ....realcompo_core.errors import InputError
from ....realcompo_core.sampling.branch import Prediction, Pull
from ....realcompo_core.sampling.losses import region_loss
from ....realcompo_core.sampling.trace import Reading
from ....realcompo_core.words.grounding import Objects, grounded
from ..model.capture import EARLY_EXIT, GRAPH_END, Capture, watch
from ..model.compiling import uncompiled
from ..model.gradients import (
    differentiable,
    differentiable_options,
    explaining_missing_backward,
    loss_scale,
    recomputed,
)
from ..model.unet import attention_blocks
from .objective import Objective


class Branch:
    """A model inside a stock run: the guider that prepared it, and the options it was prepared with."""

    def __init__(self, name: str, guider: comfy.samplers.CFGGuider, rows: Counter[str]) -> None:
        self.name, self.guider, self.rows = name, guider, rows
        self.options: dict = {}

    @property
    def model(self) -> Any:
        return self.guider.inner_model

    @property
    def positive(self) -> list[dict]:
        return self.guider.conds["positive"]

    def predict(self, latent: Tensor, sigma: Tensor, *, uncond: bool) -> Prediction:
        """Both conditionings at a latent, with the branch's own options, as the stock sampler does."""
        conds = [self.positive, self._negative(uncond)]
        options = self._counted(self.options, self.name)
        with self._as_current_patcher():
            custom = options.get("sampler_calc_cond_batch_function")
            args = {
                "conds": conds,
                "input": latent,
                "sigma": sigma,
                "model": self.model,
                "model_options": options,
            }
            out = (
                custom(args)
                if custom
                else comfy.samplers.calc_cond_batch(self.model, conds, latent, sigma, options)
            )
        return self._prediction(out, conds, latent, sigma, options)

    def predict_and_pull(
        self, latent: Tensor, sigma: Tensor, objective: Objective, *, uncond: bool, gradient: bool
    ) -> tuple[Prediction, Pull]:
        """:meth:`predict` and :meth:`pull` at one latent, by one evaluation of each conditioning.

        Where a graph of all positive conditionings can't be had at once, they are evaluated twice.
        """
        if self._evaluates_apart():
            prediction = self.predict(latent, sigma, uncond=uncond)
            return prediction, self.pull(latent, sigma, objective, gradient=gradient)
        size = tuple(latent.shape[-2:])
        capture = Capture(
            watch(self.positive, size), objective.blocks(attention_blocks(self.model), size)
        )
        conds = [self.positive, self._negative(uncond)]
        plain = self._counted(self.options, self.name)
        watched = self._counted(
            capture.install(self.options, GRAPH_END if gradient else None), self.name
        )
        with self._as_current_patcher():
            cond, pull = self._read(
                capture, objective, self.positive, latent, sigma, watched, gradient
            )
            alone = [[], conds[1]]  # empty, not None: wrappers may look at the positive
            _, negative = comfy.samplers.calc_cond_batch(self.model, alone, latent, sigma, plain)
        return self._prediction([cond, negative], conds, latent, sigma, plain), pull

    def pull(self, latent: Tensor, sigma: Tensor, objective: Objective, *, gradient: bool) -> Pull:
        """An objective and its gradient at a latent, positive conditioning only, by early-exit passes."""
        size = tuple(latent.shape[-2:])
        blocks = objective.blocks(attention_blocks(self.model), size)
        pulls = []
        for conds in _by_hooks(grounded(self.positive)):
            capture = Capture(watch(conds, size), blocks)
            options = self._counted(
                capture.install(self.options, EARLY_EXIT), f"{self.name} {objective.name}"
            )
            with self._as_current_patcher(), uncompiled():
                pulls.append(
                    self._read(capture, objective, conds, latent, sigma, options, gradient)[1]
                )
        return sum(pulls[1:], pulls[0]) if pulls else Pull.none(latent)

    def _read(
        self,
        capture: Capture,
        objective: Objective,
        conds: list[dict],
        latent: Tensor,
        sigma: Tensor,
        options: dict,
        gradient: bool,
    ) -> tuple[Tensor, Pull]:
        """What the model predicts [B, C, H, W] with a capture installed, and what the capture asks for."""
        options.pop("multigpu_clones", None)  # the host's other devices work without gradients
        if gradient:
            return self._differentiate(capture, objective, conds, latent, sigma, options)
        (out,) = comfy.samplers.calc_cond_batch(self.model, [conds], latent, sigma, options)
        return out, _pull_of(capture, objective, latent)

    def _differentiate(
        self,
        capture: Capture,
        objective: Objective,
        conds: list[dict],
        latent: Tensor,
        sigma: Tensor,
        options: dict,
    ) -> tuple[Tensor, Pull]:
        kept = [block.layer for block in capture.blocks]
        recomputing = (
            recomputed(self.model.diffusion_model, kept)
            if objective.checkpointing
            else nullcontext()
        )
        explained = explaining_missing_backward(f"{self.name} model", objective.way_out)
        with differentiable(self._modules()), recomputing, explained:
            leaf = latent.clone().requires_grad_()
            options = differentiable_options(options)
            (out,) = comfy.samplers.calc_cond_batch(
                self.model, [conds], leaf, sigma.clone(), options
            )
            if not capture.maps:  # none of these conditionings is active at this sigma
                return out.detach(), Pull.none(latent)
            losses = objective.loss(capture)
            scale = loss_scale(self.model)
            (gradient,) = torch.autograd.grad(losses.sum() * scale, leaf)
            return out.detach(), Pull(losses.detach(), gradient / scale, readings_of(capture))

    def _prediction(
        self, out: list[Tensor], conds: list, latent: Tensor, sigma: Tensor, options: dict
    ) -> Prediction:
        """What the model said, after other packs' functions that come before guidance."""
        args = {
            "conds": conds,
            "input": latent,
            "sigma": sigma,
            "model": self.model,
            "model_options": options,
        }
        with self._as_current_patcher():
            for function in options.get("sampler_pre_cfg_function", []):
                out = function(
                    args | {"conds_out": out, "cond_scale": self.guider.cfg, "timestep": sigma}
                )
        self._check(out, latent, sigma)
        return Prediction(out[0], out[1], latent.new_zeros(1, 1, 1, 1))

    def _negative(self, wanted: bool) -> list[dict] | None:
        return self.guider.conds.get("negative") if wanted else None

    def _evaluates_apart(self) -> bool:
        """Whether the host or another pack changes weights, or decides what is evaluated, between conditionings."""
        custom = "sampler_calc_cond_batch_function" in self.options
        return (
            custom
            or len(_by_hooks(self.positive)) > 1
            or any("default" in cond for cond in self.positive)
        )

    def _modules(self) -> list[nn.Module]:
        """Every module that the positive conditioning runs through."""
        patchers = [self.guider.model_patcher, *self.guider.loaded_models]
        found = [getattr(patcher, "model", None) for patcher in patchers]
        controls = _controls(self.positive)
        found += [
            getattr(control, name, None)
            for control in controls
            for name in ("control_model", "t2i_model")
        ]
        return list(
            {id(module): module for module in found if isinstance(module, nn.Module)}.values()
        )

    @contextmanager
    def _as_current_patcher(self) -> Generator[None]:
        """Two branches may share a module, which knows only one current patcher."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        before, self.model.current_patcher = self.model.current_patcher, self.guider.model_patcher
        try:
            yield
        finally:
            self.model.current_patcher = before

    def _counted(self, options: dict, name: str) -> dict:
        """A copy of the options that counts evaluated rows under a name."""

        def count(executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            self.rows[name] += x.shape[0]
            return executor(x, *args, **kwargs)

        kind = comfy.patcher_extension.WrappersMP.APPLY_MODEL
        options = comfy.model_patcher.create_model_options_clone(options)
        comfy.patcher_extension.add_wrapper_with_key(kind, "realcompo_rows", count, options, True)
        return options

    def _check(self, out: list[Tensor], latent: Tensor, sigma: Tensor) -> None:
        if all(torch.isfinite(prediction).all() for prediction in out):
            return
        got = f"NaN or infinity at sigma {float(sigma.max()):.3g}"
        if not torch.isfinite(latent).all():
            raise InputError(
                "latent_image",
                "a finite latent",
                got,
                "Check the latent's source, or lower the cfg.",
            )
        fix = (
            "Try fp32 or bf16 weights for that model, a lower cfg, or the attention upcast option."
        )
        raise InputError(f"{self.name} model", "finite predictions", got, fix)


def _pull_of(capture: Capture, objective: Objective, latent: Tensor) -> Pull:
    """What a pass without a gradient has read."""
    if not capture.maps:
        return Pull.none(latent)
    return Pull(objective.loss(capture), torch.zeros_like(latent), readings_of(capture))


def _by_hooks(conds: list[dict]) -> list[list[dict]]:
    """Conditionings with the same weight hooks: the host changes weights in place between such groups,
    so no graph may span two."""
    groups: dict[Any, list[dict]] = {}
    for cond in conds:
        groups.setdefault(cond.get("hooks"), []).append(cond)
    return list(groups.values())


def _controls(conds: list[dict]) -> list[Any]:
    """Every ControlNet of the conditionings, chained ones too; not all of them are loaded as models."""
    found, pending = [], [cond.get("control") for cond in conds]
    while pending:
        control = pending.pop()
        if control is not None:
            found.append(control)
            pending.append(control.previous_controlnet)
    return found


def readings_of(capture: Capture) -> tuple[Reading, ...]:
    """What a capture has seen, for the trace."""
    return tuple(_reading(objects, attention.detach()) for objects, attention in capture.pooled())


def _reading(objects: Objects, attention: Tensor) -> Reading:
    losses = region_loss(attention, objects.regions).cpu()
    kept = replace(objects, parts=tuple(part.float().cpu() for part in objects.parts))
    return Reading(attention.float().cpu(), kept, losses)
