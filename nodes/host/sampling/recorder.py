"""Recording attention while any sampler runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....realcompo_core.errors import naming
from ....realcompo_core.sampling.attention import Keys, Layers
from ....realcompo_core.sampling.schedule import Schedule
from ....realcompo_core.sampling.trace import Step, Trace
from ....realcompo_core.words.grounding import OPTION, Grounding, grounded
from ..model.capture import Capture, reads_only, watch
from ..model.readers.families import reader_of
from ..model.rows import Watched
from .folding import check_still
from .readings import readings_of

KEY = "realcompo_recorder"


class Recorder:
    """Fills a trace with the attention of some groundings, once a step, in every run of a model.

    Errors name ``node``.
    """

    def __init__(
        self,
        groundings: list[Grounding],
        downsample: int,
        layers: Layers,
        trace: Trace,
        node: str,
        keys: Keys = Keys.ALL,
    ) -> None:
        self.groundings, self.trace, self.node = groundings, trace, node
        self.downsample, self.layers, self.keys = downsample, layers, keys
        self.schedule = Schedule([0.0])
        self.guider: Any = None
        self.latent: Tensor | None = None  # at which the guider asks for a prediction
        self.capture: Capture | None = None  # what is read of this prediction

    def attach(self, model: ModelPatcher) -> ModelPatcher:
        """Return a clone of the model that records; its images are bit-equal to the model's."""
        clone = model.clone()
        clone.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, self._sample)
        clone.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, self._predict)
        clone.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, self._evaluate)
        return clone

    def _sample(
        self,
        executor: Callable,
        guider: Any,
        sigmas: Tensor,
        extra_args: dict,
        callback: Callable | None,
        noise: Tensor,
        *rest: Any,
    ) -> Tensor:
        check_still(noise, "sample without RealCompo Attention Capture")
        self.trace.restart()
        self.guider, self.schedule = guider, Schedule(sigmas.tolist())
        self.trace.total_steps, self.trace.layout = self.schedule.steps, self.groundings[0].layout
        samples = executor(guider, sigmas, extra_args, callback, noise, *rest)
        self.trace.end(guider.inner_model.process_latent_out(samples.float()))
        return samples

    def _predict(
        self, executor: Callable, x: Tensor, timestep: Tensor, *rest: Any, **kwargs: Any
    ) -> Tensor:
        """One reading a step: multi-stage samplers predict more than once in one."""
        self.latent, self.capture = x, None
        out = executor(x, timestep, *rest, **kwargs)
        if self.capture is not None and not self.capture.idle and self._due(timestep):
            self._keep(self.capture, timestep)
        return out

    def _evaluate(
        self,
        executor: Callable,
        model: Any,
        conds: list,
        x: Tensor,
        timestep: Tensor,
        options: dict,
    ) -> list[Tensor]:
        """Read an evaluation, or each of those of windows of the latent.

        What functions evaluate besides comes later, and is not read.
        """
        if reads_only(options) or not self._due(timestep):
            return executor(model, conds, x, timestep, options)
        capture = self._capture_of(model, conds, x)
        with naming(self.node):
            out = executor(model, conds, x, timestep, capture.install(options))
        if capture.whole:
            self._keep(capture, timestep)
        return out

    def _due(self, timestep: Tensor) -> bool:
        steps = self.trace.steps
        return not steps or self.schedule.step(float(timestep.max())) > steps[-1].index

    def _keep(self, capture: Capture, timestep: Tensor) -> None:
        sigma = float(timestep.max())
        with naming(self.node):
            readings = {"model": readings_of(capture)}
        self.trace.steps.append(Step(self.schedule.step(sigma), sigma, None, readings))

    def _capture_of(self, model: Any, conds: list, x: Tensor) -> Capture:
        """This prediction's capture; of windows all share one."""
        if self.capture is None:
            latent = x if self.latent is None or x.shape == self.latent.shape else self.latent
            size = (latent.shape[-2], latent.shape[-1])
            reader = reader_of(model)
            layers = reader.chosen(self.downsample, self.layers, size)
            watched = self._watched(conds, size)
            self.capture = Capture(watched, reader, layers, latent, self.keys)
        return self.capture

    def _watched(self, conds: list, size: tuple[int, int]) -> dict[UUID, Watched]:
        """What to read of the lists that a guider evaluates together, in whatever order."""
        found: dict[UUID, Watched] = {}
        for side, group in enumerate(conds):
            owned = self._owned(group)
            known = [cond for cond in grounded(group or []) if cond[OPTION] in self.groundings]
            wanted = [cond for cond in known if owned is None or cond["uuid"] in owned]
            found = watch(wanted, size, side) | found
        return found

    def _owned(self, group: list | None) -> set[UUID] | None:
        """Ids of the conditionings that a list was given by the user; None where that is unknown.

        The host lends conditionings with an area, id and all, to the other lists.
        """
        for name, conds in getattr(self.guider, "conds", {}).items():
            if conds is group:
                return {cond["uuid"] for cond in self.guider.original_conds.get(name, ())}
        return None
