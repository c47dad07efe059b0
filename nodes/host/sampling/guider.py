"""The two-branch guider: a stock run holds the spatial branch ready, a stock run samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakMethod

from comfy.model_patcher import ModelPatcher
from comfy.samplers import CFGGuider
from torch import Tensor

from ....realcompo_core.errors import naming
from ....realcompo_core.layout.model import Layout
from ....realcompo_core.sampling.branch import Side
from ....realcompo_core.sampling.schedule import Schedule
from ....realcompo_core.sampling.settings import BalancerSettings, Mode
from ....realcompo_core.sampling.trace import Trace
from ....realcompo_core.words.grounding import OPTION, Grounding, distinct_layouts, together
from ..model.gradients import differentiable_patcher, reserve_gradient_memory
from ..model.shared_checkpoint import give_own_hooks, may_share, own_copy
from ..text.gligen import place_in_areas
from .assembly import HostRun
from .checks import (
    check_latent,
    check_layout,
    check_masks,
    check_pair,
    check_patcher,
    schedule_of,
)
from .fitting import check_conditionings
from .folding import check_still
from .holding import HoldingSampler
from .latent_guidance import guidances_of, wrap_sampling
from .noising import bridge_of, coordinates_of
from .own_functions import give_own_functions
from .prepared_model import PreparedModel
from .randomness import OwnRandomness, restore, state_of
from .regional_attention import regional_of

ADDITIONAL = "realcompo_spatial"
ONE_SIDED = {Mode.TEXT_ONLY: Side.TEXT, Mode.SPATIAL_ONLY: Side.SPATIAL}


def place_boxes(guider: CFGGuider, noise: Tensor) -> None:
    """Let GLIGEN's boxes in a guider's conditionings stand where the layout has them.

    ``noise`` [B, C, H, W] tells the latent's size.
    """
    for conds in guider.conds.values():
        place_in_areas(conds, *noise.shape[-2:])


def _weakly(method: Callable) -> Callable:
    """A method of an object that the function does not keep alive.

    A guider holds the patcher that holds this function. In a cycle they would wait for a garbage
    collection, and the user's models with them; and where it finds both at once, the host's list of
    loaded models loses them.
    """
    found = WeakMethod(method)

    def called(*args: Any, **kwargs: Any) -> Any:
        still = found()
        if still is None:
            raise RuntimeError("this model's guider is gone")
        return still(*args, **kwargs)

    return called


@dataclass(frozen=True)
class BranchInputs:
    """What the user connects for one branch.

    ``cfg`` guides it by its prompt; None stands for the run's own.
    """

    patcher: ModelPatcher
    positive: list
    negative: list
    cfg: float | None = None

    @property
    def groundings(self) -> list[Grounding]:
        """The layouts in the positive conditionings."""
        return [options[OPTION] for _, options in self.positive if OPTION in options]


class RealCompoGuider(CFGGuider):
    """Samples with a text branch and a spatial branch, and balances them.

    Works with every sampler, since it answers one question: what is the denoised latent here?
    Models that are guided (:class:`LatentGuidance`) move the latent that both share, each as far
    as its weight goes. Raises :class:`InputError`, naming ``node``, before anything is loaded, for
    branches that don't fit.
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
        self.inputs = {Side.TEXT: text, Side.SPATIAL: spatial}
        self.settings, self.trace, self.node = settings, trace, node
        self.side = ONE_SIDED.get(settings.mode, Side.TEXT)  # whose stock run samples
        own = self.inputs[self.side]
        super().__init__(self._patcher(own).clone())
        wrap_sampling(self.model_patcher, _weakly(self._sample_in_frame))
        if settings.mode is Mode.DYNAMIC:
            reserve_gradient_memory(self.model_patcher)
        self.set_conds(own.positive, own.negative)
        self.set_cfg(cfg if own.cfg is None else own.cfg)
        self.run: HostRun | None = None
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
        """As :meth:`CFGGuider.sample`: returns the latent [B, C, H, W] that the run ends with."""
        self.trace.restart()
        if len(sigmas) == 0:  # denoise 0
            return latent_image

        def stock() -> Tensor:
            return super(RealCompoGuider, self).sample(
                noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed
            )

        with naming(self.node):
            check_latent(self.model_patcher, latent_image)
            self._check_mask(denoise_mask)
            if self.settings.mode not in ONE_SIDED:
                check_still(latent_image, "use one of the modes text only and spatial only")
            schedule = schedule_of(sigmas, self.settings, coordinates_of(self.model_patcher))
            self.trace.begin(self.settings, self._layout(), schedule)
            try:
                if self.settings.mode in ONE_SIDED:
                    self.run = self._run({self.side: self._own_model()}, schedule, seed)
                    samples = stock()
                else:
                    held = noise, latent_image, sigmas, denoise_mask, seed
                    samples = self._sample_beside(held, schedule, stock)
            finally:
                self.run = self.holder = None
                self.model_patcher.remove_additional_models(ADDITIONAL)
        self.trace.end(samples)
        return samples

    def _sample_beside(
        self, held: tuple, schedule: Schedule, stock: Callable[[], Tensor]
    ) -> Tensor:
        """The text branch's stock run, while another one holds the spatial branch ready."""
        noise, latent_image, sigmas, denoise_mask, seed = held
        holder, device = self._spatial_guider(), self.model_patcher.load_device
        start = state_of(device)
        bridge = bridge_of(holder.model_patcher, schedule.coordinates)
        own_sigmas = sigmas if bridge is None else bridge.sigma(sigmas)

        def beside(options: dict) -> Tensor:
            models = {Side.TEXT: self._own_model(), Side.SPATIAL: self._held(holder, options)}
            self.holder, self.run = holder, self._run(models, schedule, seed)
            self._keep_loaded(holder)
            place_boxes(holder, noise)
            restore(device, start)  # what the holder's run has drawn is its own
            return stock()

        holding = HoldingSampler(beside)
        holder.sample(noise, latent_image, holding, own_sigmas, denoise_mask, None, True, seed)
        return holding.result

    def inner_sample(self, *args: Any, **kwargs: Any) -> Tensor:
        """As :meth:`CFGGuider.inner_sample`, once both branches' models are loaded.

        Returns the latent [B, C, H, W].
        """
        if self.holder is not None:
            # Loading a shared module again has moved the spatial branch's patches away.
            patcher = self.holder.model_patcher
            patcher.model_patches_to(patcher.load_device)
            patcher.model_patches_to(patcher.model_dtype())
        return super().inner_sample(*args, **kwargs)

    def outer_predict_noise(
        self,
        x: Tensor,
        timestep: Tensor,
        model_options: dict = {},  # noqa: B006 (the host's signature)
        seed: int | None = None,
    ) -> Tensor:
        """Return the denoised latent [B, C, H, W] at ``x`` and sigma ``timestep`` [B].

        The wrappers of this branch's model are around its own prediction, not around the blend.
        """
        return self.run.answer(x, timestep, model_options, seed)

    def _sample_in_frame(
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
        """The sampler runs beside the latent that attention moves."""
        run = self.run
        run.keep(mask, latent_image, noise)
        place_boxes(self, noise)
        told = run.reporting(callback)
        samples = executor(guider, sigmas, extra_args, told, noise, latent_image, mask, *rest)
        return run.ended(samples, sigmas[-1:].to(samples.device))

    def _own_model(self) -> PreparedModel:
        return PreparedModel(self.side.value, self, self.trace.rows)

    def _held(self, holder: CFGGuider, options: dict) -> PreparedModel:
        """The spatial branch's model, ready in its own stock run with these options."""
        randomness = OwnRandomness(holder.model_patcher.load_device)
        model = PreparedModel(Side.SPATIAL.value, holder, self.trace.rows, randomness, self.cfg)
        options.pop("multigpu_clones", None)  # the host's work units are the text branch's
        model.options = options
        return model

    def _run(
        self, models: dict[Side, PreparedModel], schedule: Schedule, seed: int | None
    ) -> HostRun:
        return HostRun(models, self.settings, schedule, seed or 0, self.cfg, self.trace)

    def _spatial_guider(self) -> CFGGuider:
        spatial = self.inputs[Side.SPATIAL]
        patcher = self._patcher(spatial)
        shared = patcher.is_clone(self.model_patcher)
        own = shared and not may_share(self.model_patcher, patcher, self._hooked())
        patcher = own_copy(patcher) if own else patcher.clone()
        give_own_functions(patcher, self.model_patcher)
        guider = CFGGuider(patcher)
        wrap_sampling(guider.model_patcher, None)  # its moves are shared with the text branch
        guider.set_conds(spatial.positive, spatial.negative)
        guider.set_cfg(self.cfg if spatial.cfg is None else spatial.cfg)
        give_own_hooks(guider.original_conds)
        return guider

    def _patcher(self, branch: BranchInputs) -> ModelPatcher:
        dynamic = self.settings.mode is Mode.DYNAMIC
        return differentiable_patcher(branch.patcher) if dynamic else branch.patcher

    def _keep_loaded(self, holder: CFGGuider) -> None:
        """Let the text branch's one load call keep the spatial branch's models beside its own."""
        patcher, module = holder.model_patcher, self.model_patcher.model
        models = [patcher, *holder.loaded_models, *patcher.model_patches_models()]
        foreign = [m for m in models if not getattr(m, "is_multigpu_base_clone", False)]
        kept = [m for m in foreign if getattr(m, "model", None) is not module]
        self.model_patcher.set_additional_models(ADDITIONAL, kept)

    def _hooked(self) -> bool:
        """Whether any conditioning, or a ControlNet of one, brings weight hooks."""
        for branch in self.inputs.values():
            for _, options in (*branch.positive, *branch.negative):
                control = options.get("control")
                if "hooks" in options or (control is not None and control.get_extra_hooks()):
                    return True
        return False

    def _layout(self) -> Layout | None:
        return together(distinct_layouts(self.inputs[self.side].groundings))

    def _check(self) -> None:
        if self.settings.mode in ONE_SIDED:
            self._check_branch(self.settings.mode.value, self.inputs[self.side])
            return
        check_pair(self.inputs[Side.TEXT].patcher, self.inputs[Side.SPATIAL].patcher)
        for side, branch in self.inputs.items():
            self._check_branch(side.value, branch)

    def _check_mask(self, mask: Tensor | None) -> None:
        if self.settings.mode not in ONE_SIDED:
            check_masks(self.model_patcher, self.inputs[Side.SPATIAL].patcher, mask)

    def _check_branch(self, name: str, branch: BranchInputs) -> None:
        settings, dynamic = self.settings, self.settings.mode is Mode.DYNAMIC
        if dynamic:
            check_patcher(name, branch.patcher, settings.downsample, settings.layers)
            layouts = distinct_layouts(branch.groundings)
            settings.check_objects(sum(len(layout.objects) for layout in layouts))
        if dynamic or guidances_of(branch.patcher) or regional_of(branch.patcher):
            check_layout(name, [options for _, options in branch.positive])
        check_conditionings(branch.patcher, f"{name} positive", branch.positive)
        text = self.inputs[Side.TEXT]
        lent = branch is not text and branch.negative is text.negative
        check_conditionings(branch.patcher, f"{name} negative", branch.negative, lent)
