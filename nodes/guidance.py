"""Models that guide themselves by a layout."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..realcompo_core.sampling.attention import Layers
from ..realcompo_core.sampling.latent_guidance import GuidanceSettings
from .host.sampling.checks import check_patcher
from .host.sampling.layout_guidance import layout_guidance
from .settings_inputs import settings_inputs
from .types import CATEGORY, Node


class RealCompoLayoutGuidance(Node):
    """Layout Guidance (arXiv 2304.03373) as a patch of a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoLayoutGuidance",
            display_name="RealCompo Layout Guidance",
            category=CATEGORY,
            description="Make a model put objects into their boxes by itself. Nothing is trained. "
            "Works with any sampler, and as a branch of RealCompo.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model to guide: Stable Diffusion 1.x, 2.x or SDXL. The layout "
                    "comes with its positive conditioning.",
                ),
                *settings_inputs(
                    GuidanceSettings, "scale", "threshold", "iterations", "start", "end"
                ),
            ],
            outputs=[
                io.Model.Output(
                    id="model_out",
                    display_name="model",
                    tooltip="The guided model, for a sampler or for spatial_model of a RealCompo "
                    "sampler.",
                )
            ],
        )

    @classmethod
    def run(cls, model: Any, **settings: Any) -> io.NodeOutput:
        check_patcher("guided", model, 0, Layers.ALL)
        guidance = layout_guidance(GuidanceSettings(**settings), cls.define_schema().display_name)
        return io.NodeOutput(guidance.attach(model))


NODES = [RealCompoLayoutGuidance]
