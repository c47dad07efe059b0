"""The toy world's models, which come with the pack."""

from __future__ import annotations

from enum import Enum

import torch
from comfy_api.latest import io

from ..demo.toy.captions import kind_of
from ..demo.toy.paint import PAINT
from ..demo.toy.picture import COLOURS
from ..realcompo_core.errors import InputError
from ..realcompo_core.layout.model import Layout as LayoutValue
from .host.model import demo_models as models
from .host.model.lora import with_lora
from .types import CATEGORY, Layout, Node

CATEGORY = f"{CATEGORY}/demo"


class Style(str, Enum):
    """Say how the demo's text branch looks."""

    PHOTO = "photo"
    NEON = "neon"
    TRANSFORMER = "photo (transformer)"


class RealCompoDemoModels(Node):
    """Small trained models of coloured shapes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoDemoModels",
            display_name="RealCompo Demo Models",
            category=CATEGORY,
            description="Load small models that come with the pack, to try RealCompo without a "
            "download. They draw coloured shapes on grass, sand, wood or stone, in pictures of "
            "128 x 128 pixels.",
            inputs=[
                io.Combo.Input(
                    "style",
                    options=[style.value for style in Style],
                    default=Style.PHOTO.value,
                    tooltip="The look of MODEL. photo is textured and shaded; neon is the same "
                    "model with a LoRA, glowing in the dark; photo (transformer) is another kind "
                    "of network, for which CONTROL_NET and GLIGEN are not made.",
                )
            ],
            outputs=[
                io.Model.Output(
                    id="model",
                    display_name="MODEL",
                    tooltip="Text to image. Looks real; with several objects it loses, doubles or "
                    "swaps some.",
                ),
                io.Clip.Output(
                    id="clip",
                    display_name="CLIP",
                    tooltip="Its text encoder: the usual tokens, in chunks of 40.",
                ),
                io.Vae.Output(
                    id="vae",
                    display_name="VAE",
                    tooltip="Its autoencoder: 16 channels, an eighth of the picture's size.",
                ),
                io.ControlNet.Output(
                    id="control_net",
                    display_name="CONTROL_NET",
                    tooltip="The spatial branch: objects stand where its hint (RealCompo Demo "
                    "Painted Boxes) is painted, and look flat.",
                ),
                io.Gligen.Output(
                    id="gligen",
                    display_name="GLIGEN",
                    tooltip="Another spatial branch, which needs the boxes alone.",
                ),
            ],
        )

    @classmethod
    def run(cls, style: str) -> io.NodeOutput:
        model, clip, vae = models.load_base()
        if Style(style) is Style.NEON:
            model = with_lora(model, models.read("neon_lora"))
        if Style(style) is Style.TRANSFORMER:
            model = models.load_transformer()
        return io.NodeOutput(model, clip, vae, models.load_controlnet(), models.load_gligen())


class RealCompoDemoPaintedBoxes(Node):
    """A layout of coloured shapes as the picture that the demo ControlNet reads."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoDemoPaintedBoxes",
            display_name="RealCompo Demo Painted Boxes",
            category=CATEGORY,
            description="Paint a layout's boxes in the colours that its phrases name. The demo's "
            "ControlNet reads such pictures.",
            inputs=[
                Layout.Input(
                    "layout", tooltip="Objects such as red circle: each phrase names a colour."
                ),
                io.Int.Input(
                    "size",
                    default=128,
                    min=64,
                    max=512,
                    step=8,
                    tooltip="Width and height in pixels.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    id="image",
                    display_name="IMAGE",
                    tooltip="A square picture of painted boxes, for Apply ControlNet.",
                )
            ],
        )

    @classmethod
    def run(cls, layout: LayoutValue, size: int) -> io.NodeOutput:
        image = torch.zeros(size, size, 3)
        for placed in layout.objects:
            region = placed.region(size, size) > 0.5
            image[region] = PAINT[COLOURS.index(_colour(placed.phrase))]
        return io.NodeOutput(image[None])


def _colour(phrase: str) -> str:
    colour, _ = kind_of(phrase)
    if colour is None:
        fix = f"Name one of: {', '.join(COLOURS)}."
        raise InputError("layout", "a phrase with a colour of the demo's world", repr(phrase), fix)
    return colour


NODES = [RealCompoDemoModels, RealCompoDemoPaintedBoxes]
