"""A model that a stock run has prepared: its conditionings, its own options, its evaluations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import comfy.model_management
import comfy.samplers
import torch
from comfy.patcher_extension import (
    WrappersMP,
    add_wrapper_with_key,
    get_wrappers_with_key,
)
from comfy.samplers import CFGGuider
from comfy_api.torch_helpers.torch_compile import COMPILE_KEY
from torch import Tensor, nn

from ....realcompo_core.errors import InputError
from ....realcompo_core.sampling.pull import Pull
from ....realcompo_core.words.grounding import (
    OPTION,
    distinct_layouts,
    first_number,
    grounded,
)
from ..model.attention_calls import OVERRIDE
from ..model.capture import EARLY_EXIT, GRAPH_END, Capture, watch
from ..model.compiling import uncompiled
from ..model.gradients import (
    differentiable,
    explaining_missing_backward,
    loss_scale,
)
from ..model.patch_state import unchanged_patches
from ..model.readers.families import reader_of
from ..model.recomputation import recomputed
from ..model.repairs import differentiable_options
from ..model.rows import Watched
from ..model.unreadable import EVALUATING
from .cfg import CALC_COND_BATCH, CFG, POST_CFG, Added, lent
from .folding import flat, whole
from .objective import Objective
from .randomness import OwnRandomness, apart
from .readings import pull_of, readings_of
from .recorder import KEY as RECORDER
from .regional_attention import KEY as REGIONAL

COUNTER = "realcompo_rows"
# Wrappers that decide themselves whether a model is evaluated; a reading needs its evaluation.
CACHES = ("easycache", "lazycache")
# Keys of wrappers that treat each row of a batch by itself.
ROW_BY_ROW = (COUNTER, RECORDER, REGIONAL, COMPILE_KEY)


@dataclass(frozen=True)
class Denoised:
    """What a model says at a latent: denoised [B, C, H, W], each.

    Of the positive and of the negative conditioning, and what the model's ``own`` functions make
    of the two; None where it has none.
    """

    cond: Tensor
    uncond: Tensor
    own: Tensor | None


class PreparedModel:
    """A model inside a stock run: the guider that prepared it, and the options it prepared.

    ``rows`` counts its evaluations under ``name``. ``options`` are one object for a run, in which
    functions of other packs may keep their state; ``added`` is what the sampler adds to them.
    ``randomness`` is this branch's own where another one's run is the sampler's, and ``cfg`` that
    run's scale of guidance.
    """

    def __init__(
        self,
        name: str,
        guider: CFGGuider,
        rows: Counter[str],
        randomness: OwnRandomness | None = None,
        cfg: float | None = None,
    ) -> None:
        self.name, self.guider, self.rows = name, guider, rows
        self.randomness, self.cfg = randomness, guider.cfg if cfg is None else cfg
        self.options: dict = {}
        self.added = Added()
        self.seed: int | None = None
        self.last: tuple[Tensor, Tensor] | None = None  # what guidance last had to guide

    @property
    def model(self) -> Any:
        """The host's model, on its device."""
        return self.guider.inner_model

    @property
    def positive(self) -> list[dict]:
        """The positive conditionings, as processed for this run."""
        return self.guider.conds["positive"]

    def predict(self, latent: Tensor, sigma: Tensor) -> Denoised:
        """Return what the stock sampler gets of this model at a latent [B, C, H, W], sigma [B].

        Raises :class:`InputError` for predictions that are not finite.
        """
        return self._guided(latent, sigma, {})

    def predict_and_pull(
        self, latent: Tensor, sigma: Tensor, objective: Objective, *, gradient: bool
    ) -> tuple[Denoised, Pull]:
        """Do :meth:`predict` and :meth:`pull` by one evaluation of each conditioning.

        ``latent`` is [B, C, H, W], ``sigma`` [B]. They are evaluated twice where no single graph of
        all positive conditionings can be had, and where a patch may look from one conditioning of a
        batch to another.
        """
        if self._evaluates_apart():
            denoised = self.predict(latent, sigma)
            return denoised, self.pull(latent, sigma, objective, gradient=gradient)
        pulls = []

        def evaluate(args: dict) -> list[Tensor]:
            out, pull = self._read_both(args, objective, gradient)
            pulls.append(pull)
            return out

        denoised = self._guided(latent, sigma, {CALC_COND_BATCH: evaluate})
        if not pulls:  # a cache has answered without an evaluation
            pulls.append(self.pull(latent, sigma, objective, gradient=gradient))
        return denoised, pulls[0]

    def _guided(self, latent: Tensor, sigma: Tensor, entries: dict[str, Any]) -> Denoised:
        """Let the host evaluate and guide, with these entries in the options."""
        self._count_rows()
        functions = self._own_functions()
        entries = self.added.entries | entries | {POST_CFG: [self._note, *functions]}
        arguments = whole(latent, self.model), sigma, self.options, self.seed
        with self._as_current_patcher(), self._own_randomness(), lent(self.options, entries):
            guided = flat(CFGGuider.outer_predict_noise(self.guider, *arguments))
        cond, uncond = self.last or (guided, guided)
        own = guided if functions or self._guides() else None
        return self._checked(Denoised(cond, uncond, own), latent, sigma)

    def _note(self, args: dict) -> Tensor:
        """Keep what is guided, as the first function after guidance."""
        self.last = flat(args["cond_denoised"]), flat(args["uncond_denoised"])
        return args["denoised"]

    def _own_functions(self) -> list[Callable]:
        found = self.options.get(POST_CFG, ())
        return [function for function in found if function not in self.added.functions]

    def _guides(self) -> bool:
        """Whether more than the run's plain guidance happens to what the model predicts."""
        if self.guider.cfg != self.cfg:
            return True
        if CFG in self.options or CFG in self.added.entries:
            return True
        transformer = self.guider.model_options.get("transformer_options", {})
        around = transformer.get("wrappers", {}).get(WrappersMP.PREDICT_NOISE, {})
        return any(functions for key, functions in around.items() if key != RECORDER)

    def _read_both(
        self, args: dict, objective: Objective, gradient: bool
    ) -> tuple[list[Tensor], Pull]:
        """Evaluate the positive with its graph, then the negative alone."""
        positive, negative = args["conds"]
        latent, sigma, plain = args["input"], args["sigma"], args["model_options"]
        capture = self._capture(positive, latent, objective)
        watched = capture.install(plain, GRAPH_END if gradient else None)
        cond, pull = self._read(capture, objective, positive, latent, sigma, watched, gradient)
        alone = [[], negative]  # empty, not None: wrappers may look at the positive
        _, uncond = comfy.samplers.calc_cond_batch(self.model, alone, latent, sigma, plain)
        return [cond, uncond], pull

    def pull(self, latent: Tensor, sigma: Tensor, objective: Objective, *, gradient: bool) -> Pull:
        """Return an objective and its gradient at a latent [B, C, H, W] and sigma [B].

        Evaluates the positive conditionings alone, up to the last layer that is read.
        """
        pulls, latent = [], whole(latent, self.model)
        for conds in _by_hooks(grounded(self.positive)):
            capture = self._capture(conds, latent, objective)
            options = capture.install(self.options, EARLY_EXIT)
            self._make_reading(options, f"{self.name} {objective.name}")
            kept = unchanged_patches(self.options)
            with self._as_current_patcher(), self._no_randomness(), uncompiled(), kept:
                _, pull = self._read(capture, objective, conds, latent, sigma, options, gradient)
                pulls.append(pull)
        return sum(pulls[1:], pulls[0]) if pulls else Pull.none(flat(latent))

    def _capture(self, conds: list[dict], latent: Tensor, objective: Objective) -> Capture:
        size, reader = (latent.shape[-2], latent.shape[-1]), reader_of(self.model)
        layers, keys = objective.layers(reader, size), objective.keys
        return Capture(self._watched(conds, size), reader, layers, latent, keys)

    def _watched(self, conds: list[dict], size: tuple[int, int]) -> dict[UUID, Watched]:
        """What to read; the objects of several layouts are numbered on from one to the next."""
        layouts = distinct_layouts([cond[OPTION] for cond in grounded(self.positive)])
        found = watch(conds, size)
        for cond in grounded(conds):
            watched, first = found[cond["uuid"]], first_number(cond[OPTION].layout, layouts)
            if first:
                objects = watched.objects.numbered_from(first)
                found[cond["uuid"]] = replace(watched, objects=objects)
        return found

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
        """Evaluate with a capture installed; the prediction is as the host makes it."""
        options.pop("multigpu_clones", None)  # the host's other devices work without gradients
        if gradient:
            return self._differentiate(capture, objective, conds, latent, sigma, options)
        (out,) = comfy.samplers.calc_cond_batch(self.model, [conds], latent, sigma, options)
        return out, pull_of(capture, objective, flat(latent))

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
            if capture.idle:  # none of these conditionings is active at this sigma
                return out.detach(), Pull.none(flat(latent))
            losses = objective.loss(capture)
            scale = loss_scale(self.model)
            (gradient,) = torch.autograd.grad(losses.sum() * scale, leaf)
            gradient = flat(gradient) / scale
            return out.detach(), Pull(losses.detach(), gradient, readings_of(capture))

    def _recomputed(self, capture: Capture, objective: Objective) -> Any:
        if not (objective.checkpointing or capture.reader.checkpoints):
            return nullcontext()
        return recomputed(capture.reader.recomputable(capture.read))

    def _checked(self, denoised: Denoised, latent: Tensor, sigma: Tensor) -> Denoised:
        """The prediction, once it is known to be finite."""
        found = (denoised.cond, denoised.uncond, denoised.own)
        self._check_finite([part for part in found if part is not None], latent, sigma)
        return denoised

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
        """Whether the positive conditionings need another evaluation than the stock sampler's.

        The host or another pack changes weights, or decides what is evaluated, between
        conditionings; or a patch may look from one row of a batch to another.
        """
        if CALC_COND_BATCH in self.options or len(_by_hooks(self.positive)) > 1:
            return True
        return _is_patched(self.options) or any("default" in cond for cond in self.positive)

    def _modules(self) -> list[nn.Module]:
        """Every module that the positive conditioning runs through."""
        patcher = self.guider.model_patcher
        patchers = [patcher, *self.guider.loaded_models, *patcher.model_patches_models()]
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

    def _count_rows(self) -> None:
        """Count the rows of a run's evaluations, in the options of that run."""
        kind = WrappersMP.APPLY_MODEL
        if not get_wrappers_with_key(kind, COUNTER, self.options, is_model_options=True):
            add_wrapper_with_key(kind, COUNTER, self._counting(self.name), self.options, True)

    def _make_reading(self, options: dict, name: str) -> None:
        """Make a copy of the options those of a reading, whose rows count under a name."""
        wrappers = options["transformer_options"].setdefault("wrappers", {})
        for found in wrappers.values():
            for key in (COUNTER, *CACHES):
                found.pop(key, None)
        wrappers.setdefault(WrappersMP.APPLY_MODEL, {})[COUNTER] = [self._counting(name)]

    def _counting(self, name: str) -> Callable:
        rows = self.rows  # not this object: it holds the options, which will hold the function

        def count(executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            rows[name] += x.shape[0]
            return executor(x, *args, **kwargs)

        return count

    def _own_randomness(self) -> AbstractContextManager:
        return nullcontext() if self.randomness is None else self.randomness.current()

    @contextmanager
    def _no_randomness(self) -> Generator[None]:
        """A reading draws as the branch's next evaluation would, and leaves no trace."""
        with self._own_randomness(), apart(self.guider.model_patcher.load_device):
            yield


def _is_patched(options: dict) -> bool:
    """Say whether other packs change what happens to a batch inside the model."""
    if "model_function_wrapper" in options or "context_handler" in options:
        return True
    transformer = options.get("transformer_options", {})
    kinds = [transformer.get("wrappers", {}).get(kind, {}) for kind in EVALUATING]
    if any(key not in ROW_BY_ROW for found in kinds for key, value in found.items() if value):
        return True
    return any(transformer.get(name) for name in ("patches", "patches_replace", OVERRIDE))


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
