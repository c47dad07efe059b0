"""The two-branch guider: a stock run of the spatial model holds it ready, a stock run of the text model samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.samplers
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...realcompo_core.balancer import BalancerSettings, Mode
from ...realcompo_core.errors import InputError, naming
from ...realcompo_core.grounding import Grounding
from ...realcompo_core.schedule import Schedule
from ...realcompo_core.trace import Trace
from .branch import Branch, Nested, check_patcher
from .capture import OPTION
from .isolation import may_share, own_copy
from .run import Run

ADDITIONAL = "realcompo_spatial"


@dataclass(frozen=True)
class BranchInputs:
    """What the user connects for one branch."""

    patcher: ModelPatcher
    positive: list
    negative: list


class RealCompoGuider(comfy.samplers.CFGGuider):
    """Samples with a text branch and a spatial branch, and balances them.

    Works with every sampler, since it answers one question: what is the denoised latent here?
    Raises :class:`InputError`, naming ``node``, before anything is loaded, for branches that don't fit.
    """

    def __init__(
        self, text: BranchInputs, spatial: BranchInputs, cfg: float, settings: BalancerSettings, trace: Trace, node: str
    ) -> None:
        self.text, self.spatial, self.settings, self.trace, self.node = text, spatial, settings, trace, node
        self.primary = spatial if settings.mode is Mode.SPATIAL_ONLY else text
        super().__init__(self.primary.patcher.clone())
        self.set_conds(self.primary.positive, self.primary.negative)
        self.set_cfg(cfg)
        self.run: Run | None = None
        with naming(node):
            self._check()

    def sample(
        self, noise: Tensor, latent_image: Tensor, sampler: Any, sigmas: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        """As :meth:`CFGGuider.sample`."""
        if len(sigmas) == 0:  # denoise 0
            return latent_image
        self.trace.restart()
        self.trace.settings, self.trace.layout = self.settings, self._layout()
        schedule = Schedule(sigmas.tolist(), self.settings.warmup_steps(len(sigmas) - 1), self.settings.every)
        self.trace.total_steps, self.trace.warmup_steps = schedule.steps, schedule.warmup
        primary = Branch("spatial" if self.primary is self.spatial else "text", self, self.trace.rows)
        try:
            with naming(self.node):
                if self.settings.mode in (Mode.TEXT_ONLY, Mode.SPATIAL_ONLY):
                    branches = (None, primary) if self.primary is self.spatial else (primary, None)
                    self.run = self._run(*branches, schedule, kwargs)
                    return super().sample(noise, latent_image, sampler, sigmas, *args, **kwargs)
                return self._sample_both(primary, schedule, noise, latent_image, sampler, sigmas, *args, **kwargs)
        finally:
            self.run = None

    def _sample_both(
        self, text: Branch, schedule: Schedule, noise: Tensor, latent_image: Tensor, sampler: Any, sigmas: Tensor,
        denoise_mask: Tensor | None = None, callback: Any = None, disable_pbar: bool = False, seed: int | None = None,
    ) -> Tensor:  # fmt: skip
        holder = self._spatial_guider()
        spatial = Branch("spatial", holder, self.trace.rows)

        def body(options: dict) -> Tensor:
            spatial.options = options
            self._keep_loaded(holder)
            self.run = self._run(text, spatial, schedule, {"seed": seed})
            stock = super(RealCompoGuider, self).sample
            return stock(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed)

        nested = Nested(body)
        try:
            holder.sample(noise, latent_image, nested, sigmas, denoise_mask, None, True, seed)
        finally:
            self.model_patcher.remove_additional_models(ADDITIONAL)
        return nested.result

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: dict = {}, seed: int | None = None) -> Tensor:  # noqa: B006 (the host's signature)
        """The denoised latent [B, C, H, W] at ``x`` and sigma ``timestep`` [B]."""
        return self.run.denoised(x, timestep, model_options)

    def _run(self, text: Branch | None, spatial: Branch | None, schedule: Schedule, options: dict) -> Run:
        seed = options.get("seed") or 0
        return Run(text, spatial, self.settings, schedule, seed, self.cfg, self.trace)

    def _spatial_guider(self) -> comfy.samplers.CFGGuider:
        patcher = self.spatial.patcher
        shared = patcher.is_clone(self.text.patcher)
        if shared and not may_share(self.text.patcher, patcher, self._hooked()):
            patcher = own_copy(patcher)
        guider = comfy.samplers.CFGGuider(patcher.clone() if patcher is self.spatial.patcher else patcher)
        guider.set_conds(self.spatial.positive, self.spatial.negative)
        guider.set_cfg(self.cfg)
        return guider

    def _keep_loaded(self, holder: comfy.samplers.CFGGuider) -> None:
        """Let the text branch's one load call keep the spatial branch's models beside its own."""
        module = self.model_patcher.model
        models = [holder.model_patcher, *holder.loaded_models]
        self.model_patcher.set_additional_models(
            ADDITIONAL, [m for m in models if getattr(m, "model", None) is not module]
        )

    def _hooked(self) -> bool:
        conds = [*self.text.positive, *self.text.negative, *self.spatial.positive, *self.spatial.negative]
        controls = [options["control"] for _, options in conds if "control" in options]
        return any("hooks" in options for _, options in conds) or any(c.get_extra_hooks() for c in controls)

    def _layout(self) -> Any:
        found = [options[OPTION].layout for _, options in self.primary.positive if OPTION in options]
        return found[0] if found else None

    def _check(self) -> None:
        if self.settings.mode in (Mode.TEXT_ONLY, Mode.SPATIAL_ONLY):
            return
        _check_pair(self.text.patcher, self.spatial.patcher)
        if self.settings.mode is Mode.DYNAMIC:
            for name, branch in (("text", self.text), ("spatial", self.spatial)):
                check_patcher(name, branch.patcher)
                _check_layout(name, branch.positive)


def _check_pair(text: ModelPatcher, spatial: ModelPatcher) -> None:
    """Blending needs latents that mean the same, and sigmas that mean the same."""
    formats = [patcher.get_model_object("latent_format") for patcher in (text, spatial)]
    if type(formats[0]) is not type(formats[1]) or formats[0].scale_factor != formats[1].scale_factor:
        got = " and ".join(type(f).__name__ for f in formats)
        raise InputError("spatial model", "the text model's latent format", got, "Use two models of one family.")
    samplings = [type(patcher.get_model_object("model_sampling")) for patcher in (text, spatial)]
    if samplings[0].noise_scaling is not samplings[1].noise_scaling:
        names = " and ".join(_bases(s) for s in samplings)
        raise InputError(
            "spatial model", "the text model's sampling type", names, "Don't mix flow and diffusion models."
        )


def _bases(sampling: type) -> str:
    return "+".join(base.__name__ for base in sampling.__bases__)


def _check_layout(name: str, positive: list) -> None:
    if not any(isinstance(options.get(OPTION), Grounding) for _, options in positive):
        fix = "Connect the RealCompo Layout Conditioning node, or set the balancer's mode to fixed."
        raise InputError(f"{name} positive", "a conditioning with a layout", "one without", fix)
