"""Looking at layouts and runs."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from comfy_api.latest import io, ui
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..realcompo_core.drawing import render
from ..realcompo_core.errors import InputError
from ..realcompo_core.layout.model import Layout as LayoutValue
from ..realcompo_core.sampling.trace import Trace as TraceValue
from .types import CATEGORY, AttentionMaps, Layout, Node, Trace

FONT_SIZE = 12


def caption(text: str, width: int, size: int = FONT_SIZE) -> Tensor:
    """One line of text [size + 4, width, 3], cut where it does not fit."""
    colours = [tuple(round(255 * part) for part in c) for c in (render.BACKGROUND, render.INK)]
    image = Image.new("RGB", (width, size + 4), colours[0])
    ImageDraw.Draw(image).text((3, 1), text, fill=colours[1], font=ImageFont.load_default(size))
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255)


def background(image: Tensor | None, width: int, height: int) -> Tensor:
    """The first image of a batch at a size, or plain grey [height, width, 3]."""
    if image is None:
        return torch.full((height, width, 3), 0.5)
    channels = image[:1, ..., :3].float().cpu().movedim(-1, 1)
    return F.interpolate(channels, (height, width), mode="bilinear", antialias=True)[0].movedim(
        0, -1
    )


def picture(layout: LayoutValue, canvas: Tensor) -> Tensor:
    """A layout over a canvas [height, width, 3], as an IMAGE batch of one."""
    size = max(FONT_SIZE, min(canvas.shape[:2]) // 28)
    return render.layout_image(canvas, layout, partial(caption, size=size))[None]


class RealCompoLayoutPreview(Node):
    """A layout as a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoLayoutPreview",
            display_name="RealCompo Layout Preview",
            category=CATEGORY,
            description="See where each object will stand, alone or over an image.",
            is_output_node=True,
            inputs=[
                Layout.Input("layout", tooltip="The layout to see."),
                io.Int.Input(
                    "width",
                    default=512,
                    min=16,
                    max=4096,
                    step=8,
                    tooltip="Width in pixels, without an image.",
                ),
                io.Int.Input(
                    "height",
                    default=512,
                    min=16,
                    max=4096,
                    step=8,
                    tooltip="Height in pixels, without an image.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="Drawn over this image, at its own size, if connected.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    id="preview", display_name="preview", tooltip="The layout as an image."
                )
            ],
        )

    @classmethod
    def run(
        cls, layout: LayoutValue, width: int, height: int, image: Tensor | None = None
    ) -> io.NodeOutput:
        if image is not None:
            height, width = image.shape[1:3]
        preview = picture(layout, background(image, width, height))
        return io.NodeOutput(preview, ui=ui.PreviewImage(preview, cls=cls))


class RealCompoTracePreview(Node):
    """A run as sheets of pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoTracePreview",
            display_name="RealCompo Trace Preview",
            category=CATEGORY,
            description="See how a run was balanced: balance maps, attention per object and branch, loss curves.",
            is_output_node=True,
            inputs=[
                io.MultiType.Input(
                    "trace",
                    types=[Trace, AttentionMaps],
                    tooltip="From a RealCompo sampler, guider or attention capture.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The sampler's output: connect it when the trace comes from a guider or an attention "
                    "capture, so that this node waits for the sampler.",
                ),
                io.Int.Input(
                    "sample",
                    default=0,
                    min=0,
                    max=4095,
                    tooltip="Which image of the batch, from 0.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    id="balance",
                    display_name="balance",
                    tooltip="The balance map at every blended step.",
                ),
                io.Image.Output(
                    id="attention",
                    display_name="attention",
                    tooltip="Attention per object and branch.",
                ),
                io.Image.Output(
                    id="losses", display_name="losses", tooltip="The attention loss of each branch."
                ),
                io.Mask.Output(
                    id="weights",
                    display_name="weights",
                    tooltip="The text branch's weight at every blended step, one mask each, in latent cells.",
                ),
            ],
        )

    @classmethod
    def run(cls, trace: TraceValue, sample: int, latent: Any = None) -> io.NodeOutput:
        trace = trace if latent is None else trace.of(latent["samples"])
        if not trace.steps:
            fix = "Connect the sampler's latent to this node, so that it waits for the sampler."
            raise InputError("trace", "a run that has happened", "an empty one", fix)
        _check_sample(trace, sample)
        sheets = [
            render.balance_sheet(trace, caption, sample)[None],
            render.attention_sheet(trace, caption, sample)[None],
            render.loss_curves(trace, caption)[None],
        ]
        previews = [image for sheet in sheets for image in ui.PreviewImage(sheet, cls=cls).values]
        return io.NodeOutput(
            *sheets, weights(trace, sample), ui={"images": previews, "trace": [trace.summary()]}
        )


def weights(trace: TraceValue, sample: int) -> Tensor:
    """w_text of one sample at every blended step [steps, H, W] in latent cells; one empty mask if there is none."""
    found = [weight[sample, 0] for _, weight in trace.blended()]
    return torch.stack(found) if found else torch.zeros(1, 1, 1)


def _check_sample(trace: TraceValue, sample: int) -> None:
    sizes = [weight.shape[0] for _, weight in trace.blended()]
    sizes += [
        r.losses.shape[0] for step in trace.steps for found in step.readings.values() for r in found
    ]
    if sizes and sample >= min(sizes):
        fix = "Choose an image of the batch; the first is 0."
        raise InputError("sample", f"less than the batch size {min(sizes)}", str(sample), fix)


NODES = [RealCompoLayoutPreview, RealCompoTracePreview]
