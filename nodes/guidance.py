"""Models that guide themselves by a layout."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..realcompo_core.sampling.attention import Layers
from ..realcompo_core.sampling.latent_guidance import GuidanceSettings
from .host.sampling.checks import check_patcher
from .host.sampling.layout_guidance import layout_guidance
from .types import CATEGORY, Node, bounded


class RealCompoLayoutGuidance(Node):
    """Layout Guidance (arXiv 2304.03373) as a patch of a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoLayoutGuidance",
            display_name="RealCompo Layout Guidance",
            category=CATEGORY,
            description="A model that moves its latent until each object's words draw attention into its box. Nothing "
            "is trained; works with any sampler, and as a branch of RealCompo.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model to guide. The prompt's layout comes with its conditioning.",
                ),
                io.Float.Input(
                    "scale",
                    **bounded(GuidanceSettings, "scale"),
                    step=1.0,
                    tooltip="How far each move goes. More obeys the boxes better, and harms the picture if too much.",
                ),
                io.Float.Input(
                    "threshold",
                    **bounded(GuidanceSettings, "threshold"),
                    step=0.01,
                    tooltip="The loss at which objects count as placed: a picture is moved while its own is above.",
                ),
                io.Int.Input(
                    "iterations",
                    **bounded(GuidanceSettings, "iterations"),
                    tooltip="Most moves at one step. Each costs about one evaluation of the model.",
                ),
                io.Float.Input(
                    "start",
                    **bounded(GuidanceSettings, "start"),
                    step=0.05,
                    tooltip="Share of the sampler's steps before guidance begins.",
                ),
                io.Float.Input(
                    "end",
                    **bounded(GuidanceSettings, "end"),
                    step=0.05,
                    tooltip="Share of the sampler's steps after which guidance ends. The layout is decided early.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    id="model_out", display_name="model", tooltip="The model, guided by its layout."
                )
            ],
        )

    @classmethod
    def run(cls, model: Any, **settings: Any) -> io.NodeOutput:
        check_patcher("guided", model, 0, Layers.ALL)
        guidance = layout_guidance(GuidanceSettings(**settings), cls.define_schema().display_name)
        return io.NodeOutput(guidance.attach(model))


NODES = [RealCompoLayoutGuidance]
