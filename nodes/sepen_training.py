"""Finetuning a model so that it stops merging and dropping objects (Separate-and-Enhance)."""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..realcompo_core.drawing import render
from ..realcompo_core.sampling.fields import from_widgets
from ..realcompo_core.training.concepts import (
    TEMPLATES,
    ConceptList,
    Curriculum,
    Example,
    OnePrompt,
    lines,
    listed,
)
from ..realcompo_core.training.finetuning import FinetuningSettings, History, line
from ..realcompo_core.words.grounding import Grounding
from .host.model.lora import with_lora
from .host.server.input_file import read_text
from .host.server.progress import Progress
from .host.text.tokenizer import check_clip, prompt_of
from .host.training import checkpoints
from .host.training.trainer import Trainer
from .preview import caption
from .settings_inputs import settings_inputs
from .types import CATEGORY, Concepts, LoraModel, Node

DTYPES = {"model": None, "fp32": torch.float32, "bf16": torch.bfloat16}
SAMPLES = 6  # prompts that SepEn Concepts shows
WHAT = (
    *("separate", "enhance", "norm", "norm_weight", "overlap"),
    *("resolution", "downsample", "layers", "rank", "checkpointing"),
)
TENTH = 0.1  # of a run: its report compares the first and the last


class SepEnConcepts(Node):
    """A list of concepts and the templates that make prompts of them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SepEnConcepts",
            display_name="SepEn Concepts",
            category=CATEGORY,
            description="List the objects that SepEn Train learns to keep apart. Prompts with two "
            "or three of them are drawn from templates. Run this node alone to see some.",
            is_output_node=True,
            inputs=[
                io.String.Input(
                    "concepts",
                    multiline=True,
                    default="",
                    tooltip="Objects, one a line or between commas, such as polar bear. What "
                    "follows a # is a comment.",
                ),
                io.String.Input(
                    "templates",
                    multiline=True,
                    default="\n".join(TEMPLATES),
                    tooltip="Prompts, one a line. The letters a, b, c in curly brackets stand for "
                    "different objects, x, y, z for different attributes.",
                ),
                io.String.Input(
                    "attributes",
                    multiline=True,
                    default="",
                    tooltip="Attributes for templates that have some, one a line or between "
                    "commas, such as red, wooden.",
                ),
                io.String.Input(
                    "file",
                    optional=True,
                    tooltip="The name of a text file in ComfyUI's input folder with more concepts, "
                    "written the same way. Left empty, none.",
                ),
            ],
            outputs=[
                Concepts.Output(
                    id="concept_list", display_name="concepts", tooltip="For SepEn Train."
                ),
                io.String.Output(
                    id="examples",
                    display_name="examples",
                    tooltip="The number of concepts, and a few prompts that may be drawn.",
                ),
            ],
        )

    @classmethod
    def run(cls, concepts: str, templates: str, attributes: str, file: str = "") -> io.NodeOutput:
        text = concepts + "\n" + (read_text("file", file.strip()) if file.strip() else "")
        found = ConceptList(listed(text), listed(attributes), lines(templates))
        shown = "\n".join(found.example(Random(number)).prompt for number in range(SAMPLES))
        shown = f"{len(found.concepts)} concepts, such as:\n{shown}"
        return io.NodeOutput(found, shown, ui=ui.PreviewText(shown))


class SepEnTrain(Node):
    """Finetunes cross-attention's keys, and leaves the model itself as it is."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SepEnTrain",
            display_name="SepEn Train",
            category=CATEGORY,
            description="Teach a model to keep several objects apart and to forget none, for one "
            "prompt or for a list of concepts. Needs no pictures; the loaded model stays as it is.",
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to finetune: Stable Diffusion 1.x, 2.x or SDXL."
                ),
                io.Clip.Input("clip", tooltip="Its text encoder, which stays as it is."),
                *prompt_inputs(),
                *settings_inputs(FinetuningSettings, "steps", "batch", "learning_rate"),
                seed_input(),
                *settings_inputs(FinetuningSettings, *WHAT),
                dtype_input(),
                *running_inputs(),
                Concepts.Input(
                    "concepts",
                    optional=True,
                    tooltip="From SepEn Concepts: train on many prompts instead of one.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    id="model_out",
                    display_name="model",
                    tooltip="The model with what it has learned, at full strength.",
                ),
                LoraModel.Output(
                    id="lora",
                    display_name="lora",
                    tooltip="What it has learned: for Save LoRA Weights, or Load LoRA Model.",
                ),
                io.Image.Output(
                    id="curve", display_name="curve", tooltip="The losses over the steps."
                ),
                io.String.Output(
                    id="report",
                    display_name="report",
                    tooltip="What was trained, and the losses in the first and the last tenth of "
                    "the run.",
                ),
            ],
        )

    @classmethod
    def run(
        cls,
        model: Any,
        clip: Any,
        prompt: str,
        objects: str,
        seed: int,
        dtype: str,
        checkpoint_every: int,
        prefix: str,
        resume: str,
        concepts: ConceptList | None = None,
        **values: Any,
    ) -> io.NodeOutput:
        check_clip(clip)
        settings = FinetuningSettings(**from_widgets(FinetuningSettings, values))
        trainer = Trainer(
            model,
            clip,
            concepts or one_prompt(clip, prompt, objects),
            settings,
            seed,
            DTYPES[dtype],
            checkpoints.Folder(prefix),
            checkpoint_every,
            Progress(cls.hidden.unique_id, settings.steps).show,
        )
        if resume != checkpoints.NONE:
            trainer.resume(checkpoints.read(resume))
        lora = trainer.run()
        curve, report = picture(trainer.history, settings), summary(trainer)
        shown = {"images": ui.PreviewImage(curve, cls=cls).values, "text": [report]}
        return io.NodeOutput(with_lora(model, lora), lora, curve, report, ui=shown)


def prompt_inputs() -> list[io.Input]:
    """Return the widgets of the one prompt that is trained on, where no concepts are connected."""
    return [
        io.String.Input(
            "prompt",
            multiline=True,
            default="a photo of a cat and a dog",
            tooltip="The one prompt to train on. Not used if concepts is connected.",
        ),
        io.String.Input(
            "objects",
            multiline=True,
            default="a cat\na dog",
            tooltip="Its objects, one a line, in words of the prompt: two or more, each with "
            "words of its own. Not used if concepts is connected.",
        ),
    ]


def seed_input() -> io.Input:
    """Return the widget of the seed."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip="The random seed of noise, timesteps and drawn prompts. On a CPU the same seed "
        "gives the same weights.",
    )


def dtype_input() -> io.Input:
    """Return the widget of the precision."""
    return io.Combo.Input(
        "dtype",
        options=list(DTYPES),
        default="model",
        tooltip="The precision that the model computes in. model keeps the one it was loaded in. "
        "What is trained is always fp32.",
    )


def running_inputs() -> list[io.Input]:
    """Return the widgets about saving a run and going on with one."""
    return [
        io.Int.Input(
            "checkpoint_every",
            default=0,
            min=0,
            max=1_000_000,
            tooltip="Save the weights at every n-th step too. 0 saves them only if the run is "
            "stopped early.",
        ),
        io.String.Input(
            "prefix",
            default="loras/SepEn",
            tooltip="Where in ComfyUI's output folder the saved files go, and how their names "
            "begin.",
        ),
        io.Combo.Input(
            "resume",
            options=checkpoints.saved_files(),
            default=checkpoints.NONE,
            tooltip="Go on from a saved file. steps then count from the start of its run.",
        ),
    ]


def one_prompt(clip: Any, prompt: str, objects: str) -> Curriculum:
    """Return the prompt as a curriculum.

    Raises :class:`InputError` for an object that isn't in it, before anything is loaded.
    """
    example = Example(prompt, lines(objects))
    Grounding.anywhere(example.phrases, prompt_of(clip, prompt).encoders)
    return OnePrompt(example)


def picture(history: History, settings: FinetuningSettings) -> torch.Tensor:
    """Return the loss curves as an image batch [1, H, W, 3]."""
    return render.curves(history.steps, settings.steps - 1, "Losses", caption)[None]


def summary(trainer: Trainer) -> str:
    """Tell what was trained, and the losses at the run's start and end."""
    weights = sum(weight.numel() for weight in trainer.adapter.parameters)
    history, layers = trainer.history, len(trainer.adapter.layers)
    return "\n".join(
        [
            f"{len(history.steps)} steps, up to step {trainer.step}; {layers} layers, "
            f"{weights} weights",
            f"first tenth: {line(history.means(TENTH))}",
            f"last tenth: {line(history.means(-TENTH))}",
        ]
    )


NODES = [SepEnConcepts, SepEnTrain]
