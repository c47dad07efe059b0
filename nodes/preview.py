"""Looking at layouts and runs."""

from __future__ import annotations

from collections.abc import Iterator
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
    """Return one line of text as a picture [size + 4, width, 3], cut where it does not fit."""
    image = Image.new("RGB", (width, size + 4), _bytes(render.BACKGROUND))
    font = ImageFont.load_default(size)
    ImageDraw.Draw(image).text((3, 1), text, fill=_bytes(render.INK), font=font)
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255)


def _bytes(colour: tuple[float, ...]) -> tuple[int, ...]:
    """Return a colour, parts from 0 to 1, in parts from 0 to 255."""
    return tuple(round(255 * part) for part in colour)


def background(image: Tensor | None, width: int, height: int) -> Tensor:
    """Return the first image of [B, H, W, C] at a size, or plain grey [height, width, 3]."""
    if image is None:
        return torch.full((height, width, 3), 0.5)
    channels = image[:1, ..., :3].float().cpu().movedim(-1, 1)
    resized = F.interpolate(channels, (height, width), mode="bilinear", antialias=True)
    return resized[0].movedim(0, -1)


def picture(layout: LayoutValue, canvas: Tensor) -> Tensor:
    """Return a layout over a canvas [height, width, 3] as an image batch [1, height, width, 3]."""
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
            description="See where each object will stand: the layout as a picture, alone or over "
            "an image.",
            is_output_node=True,
            inputs=[
                Layout.Input("layout", tooltip="The layout to see."),
                io.Int.Input(
                    "width",
                    default=512,
                    min=16,
                    max=4096,
                    step=8,
                    tooltip="Width in pixels. Not used if an image is connected.",
                ),
                io.Int.Input(
                    "height",
                    default=512,
                    min=16,
                    max=4096,
                    step=8,
                    tooltip="Height in pixels. Not used if an image is connected.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="Draw over this image, at its own size. Of a batch, the first image.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    id="preview",
                    display_name="preview",
                    tooltip="The layout as an image. The node shows it too.",
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
            description="See what happened in a run: which branch led where, where each object "
            "drew attention, and how the loss fell.",
            is_output_node=True,
            inputs=[
                io.MultiType.Input(
                    "trace",
                    types=[Trace, AttentionMaps],
                    tooltip="The trace of RealCompo KSampler or RealCompo Guider, or the attention "
                    "maps of RealCompo Attention Capture.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The sampler's output. Connect it when the trace comes from a guider "
                    "or an attention capture, so that this node waits for the sampler.",
                ),
                io.Int.Input(
                    "sample",
                    default=0,
                    min=0,
                    max=4095,
                    tooltip="Which image of the batch is shown. The first is 0.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    id="balance",
                    display_name="balance",
                    tooltip="Which branch led where, at every blended step: blue for text, orange "
                    "for spatial. Dark outlines are the regions.",
                ),
                io.Image.Output(
                    id="attention",
                    display_name="attention",
                    tooltip="Where each object drew attention, by branch, at up to eight steps. "
                    "The caption says how much of it lies inside the region.",
                ),
                io.Image.Output(
                    id="losses",
                    display_name="losses",
                    tooltip="The attention loss of each branch over the steps. 0 means that all "
                    "attention lies inside the regions.",
                ),
                io.Mask.Output(
                    id="weights",
                    display_name="weights",
                    tooltip="The text branch's weight at every blended step: one mask each, an "
                    "eighth of the picture's size. One empty mask if nothing was blended.",
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
        previews = []
        for sheet in sheets:
            previews += ui.PreviewImage(sheet, cls=cls).values
        shown = {"images": previews, "trace": [trace.summary()]}
        return io.NodeOutput(*sheets, weights(trace, sample), ui=shown)


def weights(trace: TraceValue, sample: int) -> Tensor:
    """Return w_text of one sample at every blended step [steps, H, W], in latent cells.

    Where no step was blended, return one empty mask [1, 1, 1].
    """
    found = [weight[sample, 0] for _, weight in trace.blended()]
    return torch.stack(found) if found else torch.zeros(1, 1, 1)


def _check_sample(trace: TraceValue, sample: int) -> None:
    """Raise :class:`InputError` for a sample that the trace does not have."""
    sizes = list(_batch_sizes(trace))
    if sizes and sample >= min(sizes):
        fix = "Choose an image of the batch; the first is 0."
        raise InputError("sample", f"less than the batch size {min(sizes)}", str(sample), fix)


def _batch_sizes(trace: TraceValue) -> Iterator[int]:
    """Yield how many samples each map of the trace has."""
    for _, weight in trace.blended():
        yield weight.shape[0]
    for step in trace.steps:
        for found in step.readings.values():
            yield from (reading.losses.shape[0] for reading in found)


NODES = [RealCompoLayoutPreview, RealCompoTracePreview]
