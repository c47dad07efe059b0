"""A prompt and a layout -> conditionings for both branches."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..realcompo_core.layout.model import Layout as LayoutValue
from .host.text.tying import Tied, encode_tied, tie
from .types import CATEGORY, Layout, Node


class RealCompoLayoutConditioning(Node):
    """Encodes a prompt and ties the layout to its words."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoLayoutConditioning",
            display_name="RealCompo Layout Conditioning",
            category=CATEGORY,
            description="Encode a prompt and tie each object's phrase to its region. Run this node "
            "alone to see which words each phrase matched.",
            is_output_node=True,
            inputs=[
                io.Clip.Input(
                    "clip", tooltip="The text encoder of the model that gets this conditioning."
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The prompt. It must contain the layout's phrases. Weights such as "
                    "(red cube:1.2) and embeddings work as usual.",
                ),
                Layout.Input("layout", tooltip="The objects and their regions."),
                _gligen(),
            ],
            outputs=_outputs(),
        )

    @classmethod
    def run(cls, clip: Any, text: str, layout: LayoutValue, gligen: Any = None) -> io.NodeOutput:
        return _output(encode_tied(clip, text, layout, gligen))


class RealCompoTieLayout(Node):
    """Ties the layout to a conditioning that any other node has encoded."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoTieLayout",
            display_name="RealCompo Tie Layout",
            category=CATEGORY,
            description="Tie each object's phrase to its region in a conditioning that another "
            "node has encoded: SDXL's with its sizes and two texts, or another pack's with its own "
            "weights, schedules or styles.",
            is_output_node=True,
            inputs=[
                io.Conditioning.Input(
                    "conditioning",
                    tooltip="The encoded prompt. All that it carries stays as it is. Tie the "
                    "layout before nodes that join conditionings.",
                ),
                io.Clip.Input("clip", tooltip="The text encoder that has encoded it."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The whole text that was encoded, as the text encoder got it: with the "
                    "words that a style node has added. Of SDXL's two texts this is text_g.",
                ),
                Layout.Input("layout", tooltip="The objects and their regions."),
                _gligen(),
                io.String.Input(
                    "text_l",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    optional=True,
                    tooltip="SDXL's text_l, where it is not the same as text_g. A phrase may be in "
                    "either. Empty: the same text.",
                ),
            ],
            outputs=_outputs(),
        )

    @classmethod
    def run(
        cls,
        conditioning: list,
        clip: Any,
        text: str,
        layout: LayoutValue,
        gligen: Any = None,
        text_l: str = "",
    ) -> io.NodeOutput:
        return _output(tie(conditioning, clip, text, text_l, layout, gligen))


def _gligen() -> io.Gligen.Input:
    return io.Gligen.Input(
        "gligen",
        optional=True,
        tooltip="A GLIGEN box model: the spatial conditioning then holds the boxes. "
        "Stable Diffusion 1.x only, at most 30 objects.",
    )


def _outputs() -> list[io.Output]:
    return [
        io.Conditioning.Output(
            id="text_positive",
            display_name="text",
            tooltip="The conditioning for the text branch.",
        ),
        io.Conditioning.Output(
            id="spatial_positive",
            display_name="spatial",
            tooltip="The conditioning for the spatial branch: with the GLIGEN boxes, or to "
            "be sent through a ControlNet.",
        ),
        io.String.Output(
            id="tokens",
            display_name="tokens",
            tooltip="Which words of the prompt each phrase matched. The node shows it too.",
        ),
    ]


def _output(tied: Tied) -> io.NodeOutput:
    return io.NodeOutput(tied.text, tied.spatial, tied.found, ui=ui.PreviewText(tied.found))


NODES = [RealCompoLayoutConditioning, RealCompoTieLayout]
