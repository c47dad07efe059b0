"""Making layouts."""

from __future__ import annotations

from comfy_api.latest import io

from ..realcompo_core.layout import parse
from .types import CATEGORY, Layout, Node

EXAMPLE = "a red cube: 0.05 0.30 0.45 0.90\na blue ball: 0.55 0.30 0.95 0.90"


class RealCompoLayout(Node):
    """Objects and boxes from text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoLayout",
            display_name="RealCompo Layout",
            category=CATEGORY,
            description="Say which object stands where: one object a line, or JSON.",
            inputs=[
                io.String.Input(
                    "layout",
                    default=EXAMPLE,
                    multiline=True,
                    tooltip="One object a line: `phrase: left top right bottom`, the phrase in words of the prompt, "
                    "the box from 0 to 1 of the picture. Or the same as JSON.",
                )
            ],
            outputs=[Layout.Output(id="layout_out", display_name="layout", tooltip="Objects with their regions.")],
        )

    @classmethod
    def run(cls, layout: str) -> io.NodeOutput:
        return io.NodeOutput(parse(layout))


NODES = [RealCompoLayout]
