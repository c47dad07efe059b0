"""A model that a stock run has prepared: its conditionings, its own options, its evaluations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.samplers
import torch
from torch import Tensor, nn

from ....realcompo_core.errors import InputError
from ....realcompo_core.sampling.pull import Pull
from ....realcompo_core.words.grounding import grounded
from ..model.capture import EARLY_EXIT, GRAPH_END, Capture, watch
from ..model.compiling import uncompiled
from ..model.gradients import (
    differentiable,
    explaining_missing_backward,
    loss_scale,
)
from ..model.readers.families import reader_of
from ..model.recomputation import recomputed
from ..model.repairs import differentiable_options
from .objective import Objective
from .readings import pull_of, readings_of

Denoised = tuple[Tensor, Tensor]  # of the positive and the negative conditioning [B, C, H, W]


class PreparedModel:
    """A model inside a stock run: the guider that prepared it, and the options it prepared.

    ``rows`` counts its evaluations under ``name``. ``uncond`` says whether guidance needs the
    negative conditioning; where it does not (cfg 1), its prediction is zero.
    """

    def __init__(self, name: str, guider: comfy.samplers.CFGGuider, rows: Counter[str]) -> None:
        self.name, self.guider, self.rows = name, guider, rows
        self.options: dict = {}
        self.uncond = True

    @property
    def model(self) -> Any:
        """The host's model, on its device."""
        return self.guider.inner_model

    @property
    def positive(self) -> list[dict]:
        """The positive conditionings, as processed for this run."""
        return self.guider.conds["positive"]

    @property
    def negative(self) -> list[dict] | None:
        """The negative conditionings, where guidance needs them."""
        return self.guider.conds.get("negative") if self.uncond else None

    def predict(self, latent: Tensor, sigma: Tensor) -> Denoised:
        """Evaluate both conditionings at a latent [B, C, H, W] and sigma [B], as stock does.

        Raises :class:`InputError` for predictions that are not finite.
        """
        conds = [self.positive, self.negative]
        options = self._counted(self.options, self.name)
        with self._as_current_patcher():
            out = self._evaluate(conds, latent, sigma, options)
        return self._checked(out, conds, latent, sigma, options)

    def predict_and_pull(
        self, latent: Tensor, sigma: Tensor, objective: Objective, *, gradient: bool
    ) -> tuple[Denoised, Pull]:
        """Do :meth:`predict` and :meth:`pull` by one evaluation of each conditioning.

        Where no single graph of all positive conditionings can be had, they are evaluated twice.
        """
        if self._evaluates_apart():
            denoised = self.predict(latent, sigma)
            return denoised, self.pull(latent, sigma, objective, gradient=gradient)
        conds = [self.positive, self.negative]
        capture = self._capture(self.positive, latent, objective)
        plain = self._counted(self.options, self.name)
        watched = capture.install(self.options, GRAPH_END if gradient else None)
        watched = self._counted(watched, self.name)
        with self._as_current_patcher():
            cond, pull = self._read(
                capture, objective, self.positive, latent, sigma, watched, gradient
            )
            alone = [[], conds[1]]  # empty, not None: wrappers may look at the positive
            _, uncond = comfy.samplers.calc_cond_batch(self.model, alone, latent, sigma, plain)
        return self._checked([cond, uncond], conds, latent, sigma, plain), pull

    def pull(self, latent: Tensor, sigma: Tensor, objective: Objective, *, gradient: bool) -> Pull:
        """Return an objective and its gradient at a latent [B, C, H, W] and sigma [B].

        Evaluates the positive conditionings alone, up to the last layer that is read.
        """
        pulls = []
        for conds in _by_hooks(grounded(self.positive)):
            capture = self._capture(conds, latent, objective)
            options = capture.install(self.options, EARLY_EXIT)
            options = self._counted(options, f"{self.name} {objective.name}")
            with self._as_current_patcher(), uncompiled():
                _, pull = self._read(capture, objective, conds, latent, sigma, options, gradient)
                pulls.append(pull)
        return sum(pulls[1:], pulls[0]) if pulls else Pull.none(latent)

    def _capture(self, conds: list[dict], latent: Tensor, objective: Objective) -> Capture:
        size, reader = tuple(latent.shape[-2:]), reader_of(self.model)
        return Capture(watch(conds, size), reader, objective.layers(reader, size))

    def _evaluate(self, conds: list, latent: Tensor, sigma: Tensor, options: dict) -> list[Tensor]:
        """As the stock sampler does, with another pack's function in its place if there is one."""
        custom = options.get("sampler_calc_cond_batch_function")
        if not custom:
            return comfy.samplers.calc_cond_batch(self.model, conds, latent, sigma, options)
        return custom(
            {
                "conds": conds,
                "input": latent,
                "sigma": sigma,
                "model": self.model,
                "model_options": options,
            }
        )

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
        """Evaluate with a capture installed; the prediction is [B, C, H, W]."""
        options.pop("multigpu_clones", None)  # the host's other devices work without gradients
        if gradient:
            return self._differentiate(capture, objective, conds, latent, sigma, options)
        (out,) = comfy.samplers.calc_cond_batch(self.model, [conds], latent, sigma, options)
        return out, pull_of(capture, objective, latent)

    def _differentiate(
        self,
        capture: Capture,
        objective: Objective,
        conds: list[dict],
        latent: Tensor,
        sigma: Tensor,
        options: dict,
    ) -> tuple[Tensor, Pull]:
        explained = explaining_missing_backward(f"{self.name} model", objective.way_out)
        with differentiable(self._modules()), self._recomputed(capture, objective), explained:
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

    def _recomputed(self, capture: Capture, objective: Objective) -> Any:
        if not (objective.checkpointing or capture.reader.checkpoints):
            return nullcontext()
        return recomputed(capture.reader.recomputable(capture.read))

    def _checked(
        self, out: list[Tensor], conds: list, latent: Tensor, sigma: Tensor, options: dict
    ) -> Denoised:
        """What the model said, after other packs' functions that come before guidance."""
        args = {
            "conds": conds,
            "input": latent,
            "sigma": sigma,
            "model": self.model,
            "model_options": options,
            "cond_scale": self.guider.cfg,
            "timestep": sigma,
        }
        with self._as_current_patcher():
            for function in options.get("sampler_pre_cfg_function", []):
                out = function(args | {"conds_out": out})
        self._check_finite(out, latent, sigma)
        return out[0], out[1]

    def _check_finite(self, out: list[Tensor], latent: Tensor, sigma: Tensor) -> None:
        if all(torch.isfinite(prediction).all() for prediction in out):
            return
        got = f"NaN or infinity at sigma {float(sigma.max()):.3g}"
        if not torch.isfinite(latent).all():
            fix = "Check the latent's source, or lower the cfg."
            raise InputError("latent_image", "a finite latent", got, fix)
        fix = (
            "Try fp32 or bf16 weights for that model, a lower cfg, or the attention upcast option."
        )
        raise InputError(f"{self.name} model", "finite predictions", got, fix)

    def _evaluates_apart(self) -> bool:
        """Whether the host or another pack changes weights, or decides what is evaluated, between
        conditionings."""
        if "sampler_calc_cond_batch_function" in self.options or len(_by_hooks(self.positive)) > 1:
            return True
        return any("default" in cond for cond in self.positive)

    def _modules(self) -> list[nn.Module]:
        """Every module that the positive conditioning runs through."""
        patchers = [self.guider.model_patcher, *self.guider.loaded_models]
        found = [getattr(patcher, "model", None) for patcher in patchers]
        for control in _controls(self.positive):
            found += [getattr(control, "control_model", None), getattr(control, "t2i_model", None)]
        return list({id(part): part for part in found if isinstance(part, nn.Module)}.values())

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


def _by_hooks(conds: list[dict]) -> list[list[dict]]:
    """Conditionings with the same weight hooks: the host changes weights in place between such
    groups, so no graph may span two."""
    groups: dict[Any, list[dict]] = {}
    for cond in conds:
        groups.setdefault(cond.get("hooks"), []).append(cond)
    return list(groups.values())


def _controls(conds: list[dict]) -> list[Any]:
    """Every ControlNet of the conditionings, chained ones too; not all are loaded as models."""
    found, pending = [], [cond.get("control") for cond in conds]
    while pending:
        control = pending.pop()
        if control is not None:
            found.append(control)
            pending.append(control.previous_controlnet)
    return found
