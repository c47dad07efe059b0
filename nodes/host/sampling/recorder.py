"""Recording attention while any sampler runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....realcompo_core.sampling.attention import Layers
from ....realcompo_core.sampling.schedule import Schedule
from ....realcompo_core.sampling.trace import Step, Trace
from ....realcompo_core.words.grounding import OPTION, Grounding, grounded
from ..model.capture import Capture, reads_only, watch
from ..model.readers.families import reader_of
from .folding import check_still
from .readings import readings_of

KEY = "realcompo_recorder"


class Recorder:
    """Fills a trace with the attention of some groundings, once a step, in every run of a model."""

    def __init__(
        self, groundings: list[Grounding], downsample: int, layers: Layers, trace: Trace
    ) -> None:
        self.groundings, self.trace = groundings, trace
        self.downsample, self.layers = downsample, layers
        self.schedule = Schedule([0.0])

    def attach(self, model: ModelPatcher) -> ModelPatcher:
        """Return a clone of the model that records; its images are bit-equal to the model's."""
        clone = model.clone()
        clone.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, self._sample)
        clone.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, self._predict)
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
        self.schedule = Schedule(sigmas.tolist())
        self.trace.total_steps, self.trace.layout = self.schedule.steps, self.groundings[0].layout
        samples = executor(guider, sigmas, extra_args, callback, noise, *rest)
        self.trace.end(guider.inner_model.process_latent_out(samples.float()))
        return samples

    def _predict(
        self,
        executor: Callable,
        model: Any,
        conds: list,
        x: Tensor,
        timestep: Tensor,
        options: dict,
    ) -> list[Tensor]:
        """One reading a step: multi-stage samplers evaluate a step more than once, and a balancer
        reads besides."""
        step = self.schedule.step(float(timestep.max()))
        if reads_only(options) or (self.trace.steps and step <= self.trace.steps[-1].index):
            return executor(model, conds, x, timestep, options)
        capture = self._capture(model, conds[0] or [], (x.shape[-2], x.shape[-1]))
        out = executor(model, conds, x, timestep, capture.install(options))
        if capture.maps:
            readings = {"model": readings_of(capture)}
            self.trace.steps.append(Step(step, float(timestep.max()), None, readings))
        return out

    def _capture(self, model: Any, positive: list[dict], size: tuple[int, int]) -> Capture:
        known = [cond for cond in grounded(positive) if cond[OPTION] in self.groundings]
        reader = reader_of(model)
        layers = reader.chosen(self.downsample, self.layers, size)
        return Capture(watch(known, size), reader, layers)
