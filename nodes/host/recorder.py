"""Recording attention while any sampler runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...realcompo_core.attention import Layers
from ...realcompo_core.grounding import Grounding
from ...realcompo_core.schedule import Schedule
from ...realcompo_core.trace import Step, Trace
from .branch import readings_of
from .capture import OPTION, Capture, attention_blocks, choose_blocks, grounded, watch

KEY = "realcompo_recorder"


class Recorder:
    """Fills a trace with the attention of some groundings in every run of a model."""

    def __init__(self, groundings: list[Grounding], downsample: int, layers: Layers, trace: Trace) -> None:
        self.groundings, self.downsample, self.layers, self.trace = groundings, downsample, layers, trace
        self.capture: Capture | None = None
        self.schedule = Schedule([0.0])

    def attach(self, model: ModelPatcher) -> ModelPatcher:
        """A clone of the model that records; its images are bit-equal to the model's."""
        clone = model.clone()
        clone.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, self._sample)
        clone.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, self._predict)
        return clone

    def _sample(
        self,
        executor: Callable,
        guider: Any,
        sigmas: Tensor,
        extra_args: dict,
        callback: Any,
        noise: Tensor,
        *rest: Any,
    ) -> Tensor:
        self.trace.restart()
        self.schedule = Schedule(sigmas.tolist())
        self.trace.total_steps, self.trace.layout = self.schedule.steps, self.groundings[0].layout
        size = tuple(noise.shape[-2:])
        conds = [cond for cond in grounded(guider.conds["positive"]) if cond[OPTION] in self.groundings]
        blocks = choose_blocks(attention_blocks(guider.inner_model), self.downsample, self.layers, size)
        self.capture = Capture(watch(conds, size), blocks)
        options = self.capture.install(extra_args["model_options"], early_exit=False)
        try:
            return executor(guider, sigmas, extra_args | {"model_options": options}, callback, noise, *rest)
        finally:
            self.capture = None

    def _predict(self, executor: Callable, x: Tensor, timestep: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        denoised = executor(x, timestep, *args, **kwargs)
        if self.capture is not None and self.capture.maps:
            self._record(float(timestep.max()))
            self.capture.maps.clear()
        return denoised

    def _record(self, sigma: float) -> None:
        """One reading a step: multi-stage samplers evaluate a step more than once."""
        step = self.schedule.step(sigma)
        if not self.trace.steps or step > self.trace.steps[-1].index:
            self.trace.steps.append(Step(step, sigma, None, {"model": readings_of(self.capture)}))
