"""Keeping objects apart while sampling, with nothing trained (Separate-and-Enhance at test time)."""

from __future__ import annotations

from typing import Any

import node_helpers
from comfy_api.latest import io, ui

from ..realcompo_core.sampling.attention import Layers
from ..realcompo_core.sampling.sepen_guidance import SeparationSettings
from ..realcompo_core.training.concepts import lines
from ..realcompo_core.words.grounding import OPTION, Grounding
from ..realcompo_core.words.tokens import words_of
from .attention import DOWNSAMPLE, LAYERS
from .conditioning import matched
from .host.sampling.checks import check_patcher
from .host.sampling.sepen_guidance import sepen_guidance
from .host.text.tokenizer import check_clip, tokenizer_of
from .types import CATEGORY, Node, bounded


class SepEnConditioning(Node):
    """A prompt whose objects are known by their words, and may stand anywhere."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SepEnConditioning",
            display_name="SepEn Conditioning",
            category=CATEGORY,
            description="Encode a prompt and say which of its words are objects, without saying where they stand.",
            is_output_node=True,
            inputs=[
                io.Clip.Input(
                    "clip", tooltip="The text encoder of the model that gets this conditioning."
                ),
                io.String.Input(
                    "text", multiline=True, dynamic_prompts=True, tooltip="The prompt."
                ),
                io.String.Input(
                    "objects",
                    multiline=True,
                    tooltip="Its objects, one a line, in words of the prompt.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    id="positive", display_name="positive", tooltip="For any sampler."
                ),
                io.String.Output(
                    id="tokens",
                    display_name="tokens",
                    tooltip="Which of the prompt's words each is.",
                ),
            ],
        )

    @classmethod
    def run(cls, clip: Any, text: str, objects: str) -> io.NodeOutput:
        check_clip(clip)
        grounding = Grounding.anywhere(lines(objects), text, tokenizer_of(clip))
        conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(text))
        found = matched(grounding, words_of(tokenizer_of(clip)(text)))
        positive = node_helpers.conditioning_set_values(conditioning, {OPTION: grounding})
        return io.NodeOutput(positive, found, ui=ui.PreviewText(found))


class SepEnGuidance(Node):
    """The separate and enhance losses as a patch of a model: they move the latent, not the weights."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SepEnGuidance",
            display_name="SepEn Guidance",
            category=CATEGORY,
            description="A model that moves its latent until each object draws attention of its own. Nothing is "
            "trained; works with any sampler, and as a branch of RealCompo.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model to guide. The prompt's objects come with its conditioning.",
                ),
                io.Float.Input(
                    "separate",
                    **bounded(SeparationSettings, "separate"),
                    step=0.05,
                    tooltip="Weight of the loss that keeps objects' attention apart.",
                ),
                io.Float.Input(
                    "enhance",
                    **bounded(SeparationSettings, "enhance"),
                    step=0.05,
                    tooltip="Weight of the loss that keeps the weakest object's attention strong.",
                ),
                io.Float.Input(
                    "scale",
                    **bounded(SeparationSettings, "scale"),
                    step=1.0,
                    tooltip="How far each move goes. More separates more, and harms the picture if too much.",
                ),
                io.Int.Input(
                    "iterations",
                    **bounded(SeparationSettings, "iterations"),
                    tooltip="Moves at one step. Each costs about one evaluation of the model.",
                ),
                io.Float.Input(
                    "start",
                    **bounded(SeparationSettings, "start"),
                    step=0.05,
                    tooltip="Share of the sampler's steps before guidance begins.",
                ),
                io.Float.Input(
                    "end",
                    **bounded(SeparationSettings, "end"),
                    step=0.05,
                    tooltip="Share of the sampler's steps after which guidance ends.",
                ),
                io.Int.Input(
                    "downsample", **bounded(SeparationSettings, "downsample"), tooltip=DOWNSAMPLE
                ),
                io.Combo.Input(
                    "layers",
                    options=[x.value for x in Layers],
                    default=Layers.ALL.value,
                    tooltip=LAYERS,
                ),
            ],
            outputs=[
                io.Model.Output(
                    id="model_out",
                    display_name="model",
                    tooltip="The model, guided by its objects.",
                )
            ],
        )

    @classmethod
    def run(cls, model: Any, layers: str, **numbers: Any) -> io.NodeOutput:
        settings = SeparationSettings(layers=Layers(layers), **numbers)
        check_patcher("guided", model, settings.downsample, settings.layers)
        return io.NodeOutput(
            sepen_guidance(settings, cls.define_schema().display_name).attach(model)
        )


NODES = [SepEnConditioning, SepEnGuidance]
