"""How the two branches are balanced: one node for everyone, and one for all the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..realcompo_core.sampling.fields import from_widgets
from ..realcompo_core.sampling.settings import (
    LOOK_OR_PLACEMENT,
    BalancerSettings,
    parse_weights,
)
from .settings_inputs import settings_inputs, widget
from .types import CATEGORY, Balancer, MoreBalancerSettings, Node

SIMPLE = ("mode", "recipe", "warmup", "guidance")
ADVANCED = (
    *("text_weight", "lean", "prior", "release", "limit", "step_scale"),
    *("object_weights", "text_loss", "spatial_loss", "separate", "enhance"),
    *("online", "downsample", "layers", "checkpointing", "keys"),
)


class RealCompoBalancer(Node):
    """The settings that most images need."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoBalancer",
            display_name="RealCompo Balancer",
            category=CATEGORY,
            description="Say how the text branch (the look) and the spatial branch (the "
            "placement) share the image.",
            inputs=[
                *settings_inputs(BalancerSettings, *SIMPLE),
                widget(
                    "look_or_placement", LOOK_OR_PLACEMENT, display_mode=io.NumberDisplay.slider
                ),
                *settings_inputs(BalancerSettings, "every"),
                MoreBalancerSettings.Input(
                    "settings",
                    optional=True,
                    tooltip="More settings, from RealCompo Balancer Settings (advanced). Left "
                    "empty, their defaults.",
                ),
            ],
            outputs=[
                Balancer.Output(
                    id="balancer",
                    display_name="balancer",
                    tooltip="The settings, for RealCompo KSampler or RealCompo Guider.",
                )
            ],
        )

    @classmethod
    def run(
        cls, look_or_placement: float, settings: BalancerSettings | None = None, **values: Any
    ) -> io.NodeOutput:
        more = settings or BalancerSettings()
        chosen = replace(more, **from_widgets(BalancerSettings, values))
        return io.NodeOutput(chosen.leaning(look_or_placement))


class RealCompoBalancerSettings(Node):
    """All the other settings of the balancer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoBalancerSettings",
            display_name="RealCompo Balancer Settings (advanced)",
            category=f"{CATEGORY}/advanced",
            description="Fine-tune RealCompo Balancer. Most images don't need this node.",
            inputs=settings_inputs(BalancerSettings, *ADVANCED, optional=True),
            outputs=[
                MoreBalancerSettings.Output(
                    id="settings",
                    display_name="settings",
                    tooltip="For the input settings of RealCompo Balancer.",
                )
            ],
        )

    @classmethod
    def run(cls, object_weights: str = "", **values: Any) -> io.NodeOutput:
        chosen = from_widgets(BalancerSettings, values)
        weights = parse_weights(object_weights)
        return io.NodeOutput(BalancerSettings(object_weights=weights, **chosen))


NODES = [RealCompoBalancer, RealCompoBalancerSettings]
