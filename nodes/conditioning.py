"""A prompt and a layout -> conditionings for both branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import node_helpers
from comfy_api.latest import io, ui

from ..realcompo_core.layout.model import Layout as LayoutValue
from ..realcompo_core.words.grounding import OPTION, Grounding
from ..realcompo_core.words.tokens import Word, describe, words_of
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
            description="Encode a prompt and tie each object's phrase to its region. Shows which words each phrase "
            "matched; run this node alone to check before sampling.",
            is_output_node=True,
            inputs=[
                io.Clip.Input(
                    "clip", tooltip="The text encoder of the model that gets this conditioning."
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The prompt. It must contain the layout's phrases; weights and embeddings work as usual.",
                ),
                Layout.Input("layout", tooltip="The objects and their regions."),
                io.Gligen.Input(
                    "gligen",
                    optional=True,
                    tooltip="A GLIGEN box model (SD1.x): the spatial conditioning then holds the boxes.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    id="text_positive", display_name="text", tooltip="For the text branch."
                ),
                io.Conditioning.Output(
                    id="spatial_positive",
                    display_name="spatial",
                    tooltip="For the spatial branch: with the GLIGEN boxes, or for a ControlNet to be applied to.",
                ),
                io.String.Output(
                    id="tokens",
                    display_name="tokens",
                    tooltip="Which tokens of the prompt each phrase matched.",
                ),
            ],
        )

    @classmethod
    def run(cls, clip: Any, text: str, layout: LayoutValue, gligen: Any = None) -> io.NodeOutput:
        check_clip(clip)
        grounding = Grounding.of(layout, text, tokenizer_of(clip))
        conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(text))
        spatial = {OPTION: grounding}
        if gligen is not None:
            spatial["gligen"] = gligen_option(gligen, clip, layout)
        found = matched(grounding, words_of(tokenizer_of(clip)(text)))
        return io.NodeOutput(
            node_helpers.conditioning_set_values(conditioning, {OPTION: grounding}),
            node_helpers.conditioning_set_values(conditioning, spatial),
            found,
            ui=ui.PreviewText(found),
        )


def matched(grounding: Grounding, words: Sequence[Word]) -> str:
    """A line per object with the words that its phrase matched, and whether other objects have the same."""
    lines = []
    for placed, tokens in zip(grounding.layout.objects, grounding.tokens, strict=True):
        own = describe([word for word in words if set(word.positions) & set(tokens)])
        shared = " (shared)" if grounding.tokens.count(tokens) > 1 else ""
        lines.append(f"{placed.phrase}: {own}{shared}")
    return "\n".join(lines)


NODES = [RealCompoLayoutConditioning]
