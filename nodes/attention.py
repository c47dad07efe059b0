"""Watching attention under any sampler."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..realcompo_core.errors import InputError
from ..realcompo_core.sampling.attention import Layers
from ..realcompo_core.sampling.trace import Trace
from ..realcompo_core.words.grounding import OPTION, Grounding
from .host.sampling.checks import check_patcher
from .host.sampling.recorder import Recorder
from .types import CATEGORY, AttentionMaps, Node

DOWNSAMPLE = "How much smaller than the latent the attention maps are. 0 chooses: a quarter of the latent if possible."
LAYERS = "Which attention layers of that size are read: on the way down, in the middle, on the way up, or all."


class RealCompoAttentionCapture(Node):
    """A model that records where its prompt's objects draw attention."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoAttentionCapture",
            display_name="RealCompo Attention Capture",
            category=CATEGORY,
            description="Record where each object's words draw attention, with any sampler. The image stays the same.",
            inputs=[
                io.Model.Input("model", tooltip="The model to watch."),
                io.Conditioning.Input(
                    "conditioning", tooltip="The positive conditioning, with a layout, to watch."
                ),
                io.Int.Input("downsample", default=0, min=0, max=64, tooltip=DOWNSAMPLE),
                io.Combo.Input(
                    "layers",
                    options=[x.value for x in Layers],
                    default=Layers.ALL.value,
                    tooltip=LAYERS,
                ),
            ],
            outputs=[
                io.Model.Output(
                    id="model_out", display_name="model", tooltip="The same model, watched."
                ),
                AttentionMaps.Output(
                    id="attention_maps",
                    display_name="attention maps",
                    tooltip="For RealCompo Trace Preview; connect the sampler's latent there too, so that it waits.",
                ),
            ],
        )

    @classmethod
    def run(cls, model: Any, conditioning: list, downsample: int, layers: str) -> io.NodeOutput:
        check_patcher("watched", model, downsample, Layers(layers))
        groundings = [o[OPTION] for _, o in conditioning if isinstance(o.get(OPTION), Grounding)]
        if not groundings:
            fix = "Connect the RealCompo Layout Conditioning node."
            raise InputError("conditioning", "a conditioning with a layout", "one without", fix)
        trace = Trace()
        return io.NodeOutput(
            Recorder(groundings, downsample, Layers(layers), trace).attach(model), trace
        )


NODES = [RealCompoAttentionCapture]
