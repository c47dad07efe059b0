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
            description="Say which object stands where: draw boxes, write one object a line or JSON, or connect boxes "
            "of other nodes.",
            inputs=[
                io.String.Input(
                    "layout",
                    default=EXAMPLE,
                    multiline=True,
                    tooltip="One object a line: `phrase: left top right bottom`, the phrase in words of the prompt, "
                    "the box from 0 to 1 of the picture. Or the same as JSON. Boxes from the socket are added to it.",
                ),
                io.Int.Input("width", **SIDE, tooltip="The picture's width in pixels."),
                io.Int.Input("height", **SIDE, tooltip="The picture's height in pixels."),
                io.Combo.Input(
                    "box_order",
                    options=[order.value for order in Order],
                    default=Order.SIZE.value,
                    optional=True,
                    tooltip="What the four numbers of a BBOX are. BOUNDING_BOX and SEGS say it themselves.",
                ),
                io.Combo.Input(
                    "box_unit",
                    options=[unit.value for unit in Unit],
                    default=Unit.PIXELS.value,
                    optional=True,
                    tooltip="What the numbers of a BBOX are measured in: pixels of width and height, or shares of "
                    "the picture. BOUNDING_BOX and SEGS are always in pixels.",
                ),
                io.String.Input(
                    "phrases",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="For connected boxes that come without a phrase: one phrase a line in their order, or "
                    "one line for all of them.",
                ),
                io.MultiType.Input(
                    "boxes",
                    types=[*BOX_TYPES, Layout],
                    optional=True,
                    tooltip="Boxes to add: BOUNDING_BOX, BBOX, SEGS or another layout. Descriptions and labels become "
                    "phrases, masks of SEGS become regions. Of a batch, those of the first picture.",
                ),
                io.Image.Input(
                    "image", optional=True, tooltip="A picture to trace over; it is not changed."
                ),
            ],
            outputs=[
                Layout.Output(
                    id="layout_out", display_name="layout", tooltip="Objects with their regions."
                ),
                BoundingBoxes.Output(
                    id="boxes_out",
                    display_name="boxes",
                    tooltip="The boxes in pixels of width and height.",
                ),
                io.Mask.Output(
                    id="masks",
                    display_name="masks",
                    tooltip="One mask per object, width by height.",
                ),
                io.Image.Output(
                    id="preview",
                    display_name="preview",
                    tooltip="The layout as a picture, over the image if any.",
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
        added = (
            ()
            if boxes is None
            else objects(boxes, canvas, Order(box_order), Unit(box_unit), phrases)
        )
        value = LayoutValue((*parse_objects(layout), *added))
        return io.NodeOutput(
            value,
            to_bounding_boxes(value, canvas),
            value.rasterise(height, width),
            picture(value, background(image, width, height)),
            ui=None
            if image is None
            else {"background": ui.PreviewImage(image[:1], cls=cls).values},
        )


NODES = [RealCompoLayout]
