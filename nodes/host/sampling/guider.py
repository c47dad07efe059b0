"""The two-branch guider: a stock run of the spatial model holds it ready, a stock run of the text model samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.samplers import CFGGuider
from torch import Tensor

from ....realcompo_core.errors import InputError, naming
from ....realcompo_core.sampling.schedule import Schedule
from ....realcompo_core.sampling.settings import BalancerSettings, Mode
from ....realcompo_core.sampling.trace import Trace
from ....realcompo_core.words.grounding import OPTION
from ..model.gradients import differentiable_patcher, reserve_gradient_memory
from ..model.shared_checkpoint import give_own_hooks, may_share, own_copy
from .branch import Branch
from .checks import check_layout, check_patcher
from .holding import HoldingSampler
from .latent_guidance import guidances_of, reporting, wrap_sampling
from .run import Run

ADDITIONAL = "realcompo_spatial"
ONE_SIDED = (Mode.TEXT_ONLY, Mode.SPATIAL_ONLY)


@dataclass(frozen=True)
class BranchInputs:
    """What the user connects for one branch."""

    patcher: ModelPatcher
    positive: list
    negative: list


class RealCompoGuider(CFGGuider):
    """Samples with a text branch and a spatial branch, and balances them.

    Works with every sampler, since it answers one question: what is the denoised latent here? Models that are guided
    (:class:`LatentGuidance`) move the latent that both share, each as far as its weight goes.
    Raises :class:`InputError`, naming ``node``, before anything is loaded, for branches that don't fit.
    """

    def __init__(
        self,
        text: BranchInputs,
        spatial: BranchInputs,
        cfg: float,
        settings: BalancerSettings,
        trace: Trace,
        node: str,
    ) -> None:
        self.text, self.spatial, self.settings, self.trace, self.node = (
            text,
            spatial,
            settings,
            trace,
            node,
        )
        self.primary = spatial if settings.mode is Mode.SPATIAL_ONLY else text
        super().__init__(self._patcher(self.primary).clone())
        wrap_sampling(self.model_patcher, self._sample_moved)
        if settings.mode is Mode.DYNAMIC:
            reserve_gradient_memory(self.model_patcher)
        self.set_conds(self.primary.positive, self.primary.negative)
        self.set_cfg(cfg)
        self.run: Run | None = None
        self.holder: CFGGuider | None = None
        with naming(node):
            self._check()

    def sample(
        self,
        noise: Tensor,
        latent_image: Tensor,
        sampler: Any,
        sigmas: Tensor,
        denoise_mask: Tensor | None = None,
        callback: Any = None,
        disable_pbar: bool = False,
        seed: int | None = None,
    ) -> Tensor:
        """As :meth:`CFGGuider.sample`."""
        self.trace.restart()
        if len(sigmas) == 0:  # denoise 0
            return latent_image

        def stock() -> Tensor:
            return super(RealCompoGuider, self).sample(
                noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed
            )

        try:
            with naming(self.node):
                schedule = _schedule(sigmas, self.settings)
                self.trace.begin(self.settings, self._layout(), schedule)
                if self.settings.mode in ONE_SIDED:
                    self.run = self._run(None, schedule, seed)
                    return stock()
                holder = self._spatial_guider()
                held = HoldingSampler(
                    lambda options: self._sample_beside(holder, options, schedule, seed, stock)
                )
                holder.sample(noise, latent_image, held, sigmas, denoise_mask, None, True, seed)
                return held.result
        finally:
            self.run = self.holder = None
            self.model_patcher.remove_additional_models(ADDITIONAL)

    def _sample_beside(
        self,
        holder: CFGGuider,
        options: dict,
        schedule: Schedule,
        seed: int | None,
        stock: Callable[[], Tensor],
    ) -> Tensor:
        """The text branch's stock run, while ``holder`` holds the spatial branch ready with its ``options``."""
        spatial = Branch("spatial", holder, self.trace.rows)
        spatial.options = options
        options.pop("multigpu_clones", None)  # the host's work units are the text branch's
        self.holder, self.run = holder, self._run(spatial, schedule, seed)
        self._keep_loaded(holder)
        return stock()

    def inner_sample(self, *args: Any, **kwargs: Any) -> Tensor:
        """As :meth:`CFGGuider.inner_sample`, once both branches' models are loaded."""
        if (
            self.holder is not None
        ):  # loading a shared module again has moved the spatial branch's patches away
            patcher = self.holder.model_patcher
            patcher.model_patches_to(patcher.load_device)
            patcher.model_patches_to(patcher.model_dtype())
        return super().inner_sample(*args, **kwargs)

    def _sample_moved(
        self,
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
        """The sampler runs beside the latent that guided branches move, as in :class:`GuidedRun`."""
        self.run.mask = mask
        told = reporting(callback, self.run)
        samples = executor(guider, sigmas, extra_args, told, noise, latent_image, mask, *rest)
        self.run.settle(sigmas[-1:].to(samples.device))
        return samples + self.run.offset

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict = {}, seed: int | None = None
    ) -> Tensor:  # noqa: B006 (the host's signature)
        """The denoised latent [B, C, H, W] at ``x`` and sigma ``timestep`` [B]."""
        return self.run.denoised(x, timestep, model_options)

    def _run(self, spatial: Branch | None, schedule: Schedule, seed: int | None) -> Run:
        """A run on this guider's own branch and the spatial one beside it, if there is one."""
        own = Branch(
            "spatial" if self.settings.mode is Mode.SPATIAL_ONLY else "text", self, self.trace.rows
        )
        branches = (None, own) if self.settings.mode is Mode.SPATIAL_ONLY else (own, spatial)
        return Run(*branches, self.settings, schedule, seed or 0, self.cfg, self.trace)

    def _spatial_guider(self) -> CFGGuider:
        patcher = self._patcher(self.spatial)
        shared = patcher.is_clone(self.model_patcher)
        own = shared and not may_share(self.model_patcher, patcher, self._hooked())
        guider = CFGGuider(own_copy(patcher) if own else patcher.clone())
        wrap_sampling(guider.model_patcher, None)  # its moves are shared with the text branch
        guider.set_conds(self.spatial.positive, self.spatial.negative)
        guider.set_cfg(self.cfg)
        give_own_hooks(guider.original_conds)
        return guider

    def _patcher(self, branch: BranchInputs) -> ModelPatcher:
        return (
            differentiable_patcher(branch.patcher)
            if self.settings.mode is Mode.DYNAMIC
            else branch.patcher
        )

    def _keep_loaded(self, holder: CFGGuider) -> None:
        """Let the text branch's one load call keep the spatial branch's models beside its own."""
        patcher, module = holder.model_patcher, self.model_patcher.model
        models = [patcher, *holder.loaded_models, *patcher.model_patches_models()]
        foreign = [m for m in models if not getattr(m, "is_multigpu_base_clone", False)]
        kept = [m for m in foreign if getattr(m, "model", None) is not module]
        self.model_patcher.set_additional_models(ADDITIONAL, kept)

    def _hooked(self) -> bool:
        conds = [
            cond
            for branch in (self.text, self.spatial)
            for cond in (*branch.positive, *branch.negative)
        ]
        controls = [options["control"] for _, options in conds if "control" in options]
        return any("hooks" in options for _, options in conds) or any(
            c.get_extra_hooks() for c in controls
        )

    def _layout(self) -> Any:
        found = [
            options[OPTION].layout for _, options in self.primary.positive if OPTION in options
        ]
        return found[0] if found else None

    def _check(self) -> None:
        settings, branches = self.settings, {"text": self.text, "spatial": self.spatial}
        if settings.mode in ONE_SIDED:
            branches = {settings.mode.value: self.primary}
        else:
            _check_pair(self.text.patcher, self.spatial.patcher)
        for name, branch in branches.items():
            if settings.mode is Mode.DYNAMIC:
                check_patcher(name, branch.patcher, settings.downsample, settings.layers)
                for options in (options for _, options in branch.positive if OPTION in options):
                    settings.check_objects(len(options[OPTION].layout.objects))
            if settings.mode is Mode.DYNAMIC or guidances_of(branch.patcher):
                check_layout(name, [options for _, options in branch.positive])


def _schedule(sigmas: Tensor, settings: BalancerSettings) -> Schedule:
    values = sigmas.tolist()
    if any(later > earlier for earlier, later in pairwise(values)):
        fix = "Use a scheduler's sigmas as they are, and sample each descent by itself."
        raise InputError("sigmas", "noise levels that descend", "some that ascend", fix)
    return Schedule(values, settings.warmup_steps(len(values) - 1), settings.every)


def _check_pair(text: ModelPatcher, spatial: ModelPatcher) -> None:
    """Blending needs latents that mean the same, and sigmas that mean the same."""
    formats = [patcher.get_model_object("latent_format") for patcher in (text, spatial)]
    if (
        type(formats[0]) is not type(formats[1])
        or formats[0].scale_factor != formats[1].scale_factor
    ):
        got = " and ".join(type(f).__name__ for f in formats)
        raise InputError(
            "spatial model", "the text model's latent format", got, "Use two models of one family."
        )
    samplings = [type(patcher.get_model_object("model_sampling")) for patcher in (text, spatial)]
    if samplings[0].noise_scaling is not samplings[1].noise_scaling:
        names = " and ".join(_bases(s) for s in samplings)
        raise InputError(
            "spatial model",
            "the text model's sampling type",
            names,
            "Don't mix flow and diffusion models.",
        )


def _bases(sampling: type) -> str:
    return "+".join(base.__name__ for base in sampling.__bases__)
