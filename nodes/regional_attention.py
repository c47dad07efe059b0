"""Models that hear an object's words only in its region."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..realcompo_core.sampling.attention import Layers
from ..realcompo_core.sampling.regional_attention import RegionalSettings
from .host.sampling.checks import check_patcher
from .host.sampling.regional_attention import Regional
from .settings_inputs import settings_inputs
from .types import CATEGORY, Node


class RealCompoRegionalAttention(Node):
    """A model whose attention to each object's words is masked outside the object's region."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoRegionalAttention",
            display_name="RealCompo Regional Attention",
            category=CATEGORY,
            description="Let the image hear each object's words only inside the object's region. "
            "Nothing is trained and no gradient is taken. Works with any sampler, and as a branch "
            "of RealCompo.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model, of any family whose attention can be read. The layout "
                    "comes with its positive conditioning.",
                ),
                *settings_inputs(RegionalSettings, "strength", "end", "emphasis", "softness"),
            ],
            outputs=[
                io.Model.Output(
                    id="model_out",
                    display_name="model",
                    tooltip="The same model, which keeps words in their regions, for a sampler or "
                    "for spatial_model of a RealCompo sampler.",
                )
            ],
        )

    @classmethod
    def run(cls, model: Any, **settings: Any) -> io.NodeOutput:
        check_patcher("regional", model, 0, Layers.ALL)
        regional = Regional(RegionalSettings(**settings), cls.define_schema().display_name)
        return io.NodeOutput(regional.attach(model))


NODES = [RealCompoRegionalAttention]
