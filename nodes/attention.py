"""Watching attention under any sampler."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..realcompo_core.errors import InputError
from ..realcompo_core.sampling.attention import Keys, Layers
from ..realcompo_core.sampling.settings import BalancerSettings
from ..realcompo_core.sampling.trace import Trace
from ..realcompo_core.words.grounding import OPTION, Grounding
from .host.sampling.checks import check_patcher
from .host.sampling.recorder import Recorder
from .settings_inputs import settings_inputs
from .types import CATEGORY, AttentionMaps, Node


class RealCompoAttentionCapture(Node):
    """A model that records where its prompt's objects draw attention."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoAttentionCapture",
            display_name="RealCompo Attention Capture",
            category=CATEGORY,
            description="Record where each object's words draw attention, with any sampler. The "
            "image stays the same.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model to watch: Stable Diffusion, Flux, Qwen-Image, Z-Image or "
                    "their kin.",
                ),
                io.Conditioning.Input(
                    "conditioning",
                    tooltip="The positive conditioning to watch. It must hold a layout, and the "
                    "sampler must use it.",
                ),
                *settings_inputs(BalancerSettings, "downsample", "layers"),
                *settings_inputs(BalancerSettings, "keys", optional=True),
            ],
            outputs=[
                io.Model.Output(
                    id="model_out",
                    display_name="model",
                    tooltip="The same model, watched. Only samplers that use this output are "
                    "recorded.",
                ),
                AttentionMaps.Output(
                    id="attention_maps",
                    display_name="attention maps",
                    tooltip="What was recorded, for RealCompo Trace Preview. Connect the sampler's "
                    "latent there too, so that it waits for the sampler.",
                ),
            ],
        )

    @classmethod
    def run(
        cls,
        model: Any,
        conditioning: list,
        downsample: int,
        layers: str,
        keys: str = Keys.ALL.value,
    ) -> io.NodeOutput:
        check_patcher("watched", model, downsample, Layers(layers))
        groundings = groundings_of(conditioning)
        if not groundings:
            fix = "Connect the RealCompo Layout Conditioning node."
            raise InputError("conditioning", "a conditioning with a layout", "one without", fix)
        trace = Trace()
        name = cls.define_schema().display_name
        recorder = Recorder(groundings, downsample, Layers(layers), trace, name, Keys(keys))
        return io.NodeOutput(recorder.attach(model), trace)


def groundings_of(conditioning: list) -> list[Grounding]:
    """Return the layouts, tied to their words, that travel in a conditioning."""
    found = [options.get(OPTION) for _, options in conditioning]
    return [each for each in found if isinstance(each, Grounding)]


NODES = [RealCompoAttentionCapture]
