"""Keeping objects apart while sampling, with nothing trained (Separate-and-Enhance)."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..realcompo_core.sampling.fields import from_widgets
from ..realcompo_core.sampling.sepen_guidance import SeparationSettings
from ..realcompo_core.training.concepts import lines
from ..realcompo_core.words.grounding import OPTION, Grounding
from ..realcompo_core.words.tokenized import matched
from .host.sampling.checks import check_patcher
from .host.sampling.sepen_guidance import sepen_guidance
from .host.text.encoding import encode, with_options
from .host.text.tokenizer import prompt_of
from .settings_inputs import settings_inputs
from .types import CATEGORY, Node

WIDGETS = (
    *("separate", "enhance", "scale", "iterations"),
    *("start", "end", "downsample", "layers"),
)


class SepEnConditioning(Node):
    """A prompt whose objects are known by their words, and may stand anywhere."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SepEnConditioning",
            display_name="SepEn Conditioning",
            category=CATEGORY,
            description="Encode a prompt and say which of its words are objects, without saying "
            "where they stand.",
            is_output_node=True,
            inputs=[
                io.Clip.Input(
                    "clip", tooltip="The text encoder of the model that gets this conditioning."
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The prompt. Weights and embeddings work as usual.",
                ),
                io.String.Input(
                    "objects",
                    multiline=True,
                    tooltip="The objects, one a line, in words of the prompt: two or more, each "
                    "with words of its own.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    id="positive",
                    display_name="positive",
                    tooltip="The conditioning, for any sampler.",
                ),
                io.String.Output(
                    id="tokens",
                    display_name="tokens",
                    tooltip="Which words of the prompt each object matched. The node shows it too.",
                ),
            ],
        )

    @classmethod
    def run(cls, clip: Any, text: str, objects: str) -> io.NodeOutput:
        encoders = prompt_of(clip, text).encoders
        grounding = Grounding.anywhere(lines(objects), encoders)
        found = matched(grounding.layout, encoders)
        positive = with_options(encode(clip, text), {OPTION: grounding})
        return io.NodeOutput(positive, found, ui=ui.PreviewText(found))


class SepEnGuidance(Node):
    """The separate and enhance losses as a patch of a model: they move the latent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SepEnGuidance",
            display_name="SepEn Guidance",
            category=CATEGORY,
            description="Keep several objects apart while sampling, so that none melts into "
            "another or is forgotten. Nothing is trained. Works with any sampler, and as a "
            "branch of RealCompo.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model to guide: Stable Diffusion 1.x, 2.x or SDXL. The objects "
                    "come with its positive conditioning.",
                ),
                *settings_inputs(SeparationSettings, *WIDGETS),
            ],
            outputs=[
                io.Model.Output(
                    id="model_out",
                    display_name="model",
                    tooltip="The guided model, for a sampler.",
                )
            ],
        )

    @classmethod
    def run(cls, model: Any, **values: Any) -> io.NodeOutput:
        settings = SeparationSettings(**from_widgets(SeparationSettings, values))
        check_patcher("guided", model, settings.downsample, settings.layers)
        return io.NodeOutput(
            sepen_guidance(settings, cls.define_schema().display_name).attach(model)
        )


NODES = [SepEnConditioning, SepEnGuidance]
