"""Layouts from what other nodes see in a picture: poses, masks and segmentation maps."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..realcompo_core.layout.boxes import Unit
from ..realcompo_core.layout.model import Layout as LayoutValue
from ..realcompo_core.layout.pose import PoseReader
from ..realcompo_core.layout.regions import from_masks, left_to_right, name
from ..realcompo_core.layout.segmentation import Segmenter, parse_table
from .types import CATEGORY, Layout, Node, PoseKeypoint

LEFT_TO_RIGHT, AS_GIVEN = "left to right", "as given"
PER_COLOUR, PER_AREA = "one per colour", "one per connected area"


def layout_output() -> Any:
    """Return the one output of these nodes."""
    return Layout.Output(
        id="layout", display_name="layout", tooltip="The objects and their regions."
    )


class RealCompoLayoutFromPose(Node):
    """A box around each person's joints."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoLayoutFromPose",
            display_name="RealCompo Layout From Pose",
            category=CATEGORY,
            description="Make a layout from the people of a pose: a box around each person's "
            "joints.",
            inputs=[
                PoseKeypoint.Input(
                    "pose",
                    tooltip="The pose, with one or more people: from an OpenPose, DWPose, "
                    "AnimalPose or SDPose node.",
                ),
                io.String.Input(
                    "phrases",
                    default="a person",
                    multiline=True,
                    tooltip="Who they are, in words of the prompt: one phrase a line, or one line "
                    "for all.",
                ),
                io.Combo.Input(
                    "unit",
                    options=[unit.value for unit in Unit],
                    default=Unit.PIXELS.value,
                    tooltip="What the pose's numbers are measured in: pixels (DWPose, AnimalPose, "
                    "SDPose) or 0 to 1 (OpenPose).",
                ),
                io.Combo.Input(
                    "order",
                    options=[LEFT_TO_RIGHT, AS_GIVEN],
                    default=LEFT_TO_RIGHT,
                    tooltip="Which person takes the first phrase: the leftmost (left to right), or "
                    "the first of the pose (as given).",
                ),
                io.Float.Input(
                    "padding",
                    default=0.1,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Room around the joints, as a share of the person's longer side. Hair, "
                    "hands and feet reach further than the joints.",
                ),
                io.Float.Input(
                    "confidence",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How sure the pose node must be of a joint. Lower keeps more joints; "
                    "too low keeps wrong ones.",
                ),
                io.Boolean.Input(
                    "hands",
                    default=True,
                    tooltip="Make the box hold the fingers too, where the pose has them.",
                ),
                io.Boolean.Input(
                    "face",
                    default=True,
                    tooltip="Make the box hold the face's points too, where the pose has them.",
                ),
                io.Int.Input(
                    "frame",
                    default=0,
                    min=0,
                    max=4095,
                    tooltip="Which picture of the batch is read. The first is 0.",
                ),
            ],
            outputs=[layout_output()],
        )

    @classmethod
    def run(
        cls,
        pose: Any,
        phrases: str,
        unit: str,
        order: str,
        padding: float,
        confidence: float,
        hands: bool,
        face: bool,
        frame: int,
    ) -> io.NodeOutput:
        found = PoseReader(Unit(unit), confidence, padding, face, hands).read(pose, frame)
        people = left_to_right(found) if order == LEFT_TO_RIGHT else found
        return io.NodeOutput(LayoutValue(name(people, phrases)))


class RealCompoLayoutFromMasks(Node):
    """Each mask is an object's region."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoLayoutFromMasks",
            display_name="RealCompo Layout From Masks",
            category=CATEGORY,
            description="Make a layout from masks: each mask is the region of an object, with its "
            "true shape.",
            inputs=[
                io.Mask.Input(
                    "masks", tooltip="A batch with one mask for each object, 256 at most."
                ),
                io.String.Input(
                    "phrases",
                    default="a red cube\na blue ball",
                    multiline=True,
                    tooltip="The objects, in words of the prompt: one phrase a line in the masks' "
                    "order, or one line for all.",
                ),
            ],
            outputs=[layout_output()],
        )

    @classmethod
    def run(cls, masks: Tensor, phrases: str) -> io.NodeOutput:
        return io.NodeOutput(LayoutValue(name(from_masks(masks), phrases)))


class RealCompoLayoutFromSegmentation(Node):
    """Each colour of a segmentation map is an object's region."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoLayoutFromSegmentation",
            display_name="RealCompo Layout From Segmentation",
            category=CATEGORY,
            description="Make a layout from a coloured segmentation map: say which colour is which "
            "object.",
            inputs=[
                io.Image.Input("image", tooltip="The coloured map. Of a batch, the first image."),
                io.String.Input(
                    "colours",
                    default="person = a woman\ntree = an old oak",
                    multiline=True,
                    tooltip="One object a line: colour = phrase. The colour is #rrggbb, red, green "
                    "and blue (0 to 255), or the name of an ADE20K class; the phrase is in words "
                    "of the prompt.",
                ),
                io.Int.Input(
                    "tolerance",
                    default=8,
                    min=0,
                    max=255,
                    tooltip="How different a pixel's colour may be from the one you wrote. Higher "
                    "helps with resized maps and JPEGs. The nearest colour takes the pixel.",
                ),
                io.Combo.Input(
                    "regions",
                    options=[PER_COLOUR, PER_AREA],
                    default=PER_COLOUR,
                    tooltip="Whether all areas of a colour are one object, or each connected area "
                    "is an object of its own.",
                ),
                io.Float.Input(
                    "minimum_area",
                    default=0.001,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Leave out smaller areas, as a share of the picture. Higher drops more "
                    "specks.",
                ),
            ],
            outputs=[layout_output()],
        )

    @classmethod
    def run(
        cls, image: Tensor, colours: str, tolerance: int, regions: str, minimum_area: float
    ) -> io.NodeOutput:
        segmenter = Segmenter(tolerance, regions == PER_AREA, minimum_area)
        return io.NodeOutput(
            LayoutValue(name(segmenter.regions(image[0], parse_table(colours)), ""))
        )


NODES = [RealCompoLayoutFromPose, RealCompoLayoutFromMasks, RealCompoLayoutFromSegmentation]
