"""Making layouts."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..realcompo_core.layout.boxes import Order, Unit, objects, to_bounding_boxes
from ..realcompo_core.layout.model import Layout as LayoutValue
from ..realcompo_core.layout.regions import Canvas
from ..realcompo_core.layout.text import parse_objects
from .preview import background, picture
from .types import BOX_TYPES, CATEGORY, BoundingBoxes, Layout, Node

EXAMPLE = "a red cube: 0.05 0.30 0.45 0.90\na blue ball: 0.55 0.30 0.95 0.90"
SIDE = {"default": 512, "min": 16, "max": 8192, "step": 8, "optional": True}


class RealCompoLayout(Node):
    """Objects and boxes, drawn, written or from other nodes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoLayout",
            display_name="RealCompo Layout",
            category=CATEGORY,
            description="Say which object stands where: draw boxes, write them, or connect boxes "
            "of other nodes.",
            inputs=[
                io.String.Input(
                    "layout",
                    default=EXAMPLE,
                    multiline=True,
                    tooltip="One object a line: phrase: left top right bottom. The phrase is in "
                    "words of the prompt, the numbers are from 0 to 1. Or the same as JSON. It may "
                    "be empty if boxes is connected.",
                ),
                io.Int.Input("width", **SIDE, tooltip="Your picture's width in pixels."),
                io.Int.Input("height", **SIDE, tooltip="Your picture's height in pixels."),
                io.Combo.Input(
                    "box_order",
                    options=[order.value for order in Order],
                    default=Order.SIZE.value,
                    optional=True,
                    tooltip="What the four numbers of a BBOX mean. BOUNDING_BOX and SEGS say it "
                    "themselves.",
                ),
                io.Combo.Input(
                    "box_unit",
                    options=[unit.value for unit in Unit],
                    default=Unit.PIXELS.value,
                    optional=True,
                    tooltip="What the numbers of a BBOX are measured in: pixels of width and "
                    "height, or shares of the picture. BOUNDING_BOX and SEGS say it themselves.",
                ),
                io.String.Input(
                    "phrases",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="Phrases for connected boxes that have none: one a line in their "
                    "order, or one line for all.",
                ),
                io.MultiType.Input(
                    "boxes",
                    types=[*BOX_TYPES, Layout],
                    optional=True,
                    tooltip="Boxes to add to those of layout: BOUNDING_BOX, BBOX, SEGS or another "
                    "layout. Of a batch, those of the first picture.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="A picture to trace over. It is not changed. The editor shows it once "
                    "the node before it has a preview, or after a run.",
                ),
            ],
            outputs=[
                Layout.Output(
                    id="layout_out",
                    display_name="layout",
                    tooltip="The objects and their regions, for RealCompo Layout Conditioning.",
                ),
                BoundingBoxes.Output(
                    id="boxes_out",
                    display_name="boxes",
                    tooltip="The boxes in whole pixels of width and height, with the phrases as "
                    "labels, for ComfyUI's own nodes.",
                ),
                io.Mask.Output(
                    id="masks",
                    display_name="masks",
                    tooltip="A batch of masks of width by height, one for each object.",
                ),
                io.Image.Output(
                    id="preview",
                    display_name="preview",
                    tooltip="The layout as a picture, over the image if one is connected.",
                ),
            ],
        )

    @classmethod
    def run(
        cls,
        layout: str,
        width: int = 512,
        height: int = 512,
        box_order: str = Order.SIZE.value,
        box_unit: str = Unit.PIXELS.value,
        phrases: str = "",
        boxes: Any = None,
        image: Tensor | None = None,
    ) -> io.NodeOutput:
        canvas = Canvas(width, height)
        found = parse_objects(layout)
        if boxes is not None:
            found = (*found, *objects(boxes, canvas, Order(box_order), Unit(box_unit), phrases))
        value = LayoutValue(found)
        shown = None
        if image is not None:
            shown = {"background": ui.PreviewImage(image[:1], cls=cls).values}
        return io.NodeOutput(
            value,
            to_bounding_boxes(value, canvas),
            value.rasterise(height, width),
            picture(value, background(image, width, height)),
            ui=shown,
        )


NODES = [RealCompoLayout]
