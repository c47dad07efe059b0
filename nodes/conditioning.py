"""A prompt and a layout -> conditionings for both branches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io, ui

from ..realcompo_core.layout.model import Layout as LayoutValue
from ..realcompo_core.words.grounding import OPTION, Grounding, without_objects
from ..realcompo_core.words.tokens import Tokenizer, describe, words_of
from .host.text.encoding import encode, encode_like, with_options
from .host.text.gligen import gligen_option
from .host.text.tokenizer import check_clip, tokenizer_of
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
                io.Gligen.Input(
                    "gligen",
                    optional=True,
                    tooltip="A GLIGEN box model: the spatial conditioning then holds the boxes. "
                    "Stable Diffusion 1.x only, at most 30 objects.",
                ),
            ],
            outputs=[
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
            ],
        )

    @classmethod
    def run(cls, clip: Any, text: str, layout: LayoutValue, gligen: Any = None) -> io.NodeOutput:
        check_clip(clip)
        tokenizer = tokenizer_of(clip)
        grounding = Grounding.of(layout, text, tokenizer)
        conditioning = encode(clip, text)
        others = without_objects(text, grounding, tokenizer)
        background = encode_like(clip, others, conditioning)
        grounding = replace(grounding, background=background)
        options = {OPTION: grounding}
        spatial = dict(options)
        if gligen is not None:
            spatial["gligen"] = gligen_option(gligen, clip, layout)
        found = matched(grounding, text, tokenizer)
        return io.NodeOutput(
            with_options(conditioning, options),
            with_options(conditioning, spatial),
            found,
            ui=ui.PreviewText(found),
        )


def matched(grounding: Grounding, prompt: str, tokenizer: Tokenizer) -> str:
    """Return a line for each object: its phrase and the words of the prompt that it matched.

    ``(shared)`` says that other objects have the same words.
    """
    words = words_of(tokenizer(prompt))
    lines = []
    for placed, tokens in zip(grounding.layout.objects, grounding.tokens, strict=True):
        own = [word for word in words if not set(tokens).isdisjoint(word.positions)]
        shared = " (shared)" if grounding.tokens.count(tokens) > 1 else ""
        lines.append(f"{placed.phrase}: {describe(own)}{shared}")
    return "\n".join(lines)


NODES = [RealCompoLayoutConditioning]
