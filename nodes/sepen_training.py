"""Finetuning a model so that it stops merging and dropping objects (Separate-and-Enhance)."""

from __future__ import annotations

from random import Random
from typing import Any

import comfy.sd
import torch
from comfy_api.latest import io, ui

from ..realcompo_core.drawing import render
from ..realcompo_core.sampling.attention import Layers
from ..realcompo_core.sampling.losses import Overlap
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
from .attention import DOWNSAMPLE, LAYERS
from .host.server.input_file import read_text
from .host.server.progress import Progress
from .host.text.tokenizer import check_clip, tokenizer_of
from .host.training import checkpoints
from .host.training.trainer import Trainer
from .preview import caption
from .types import CATEGORY, Concepts, LoraModel, Node, bounded

DEFAULTS = FinetuningSettings()
DTYPES = {"model": None, "fp32": torch.float32, "bf16": torch.bfloat16}
SAMPLES = 6  # prompts that SepEn Concepts shows
TENTH = 0.1  # of a run: its report compares the first and the last


class SepEnConcepts(Node):
    """A list of concepts and the templates that make prompts of them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SepEnConcepts",
            display_name="SepEn Concepts",
            category=CATEGORY,
            description="Concepts for SepEn Train: prompts with two or three of them are drawn from templates. Run "
            "this node alone to see some.",
            is_output_node=True,
            inputs=[
                io.String.Input(
                    "concepts",
                    multiline=True,
                    default="",
                    tooltip="Objects, one a line or between commas: polar bear.",
                ),
                io.String.Input(
                    "templates",
                    multiline=True,
                    default="\n".join(TEMPLATES),
                    tooltip="One a line. The letters a, b, c in curly brackets stand for objects, x, y, z for their "
                    "attributes.",
                ),
                io.String.Input(
                    "attributes",
                    multiline=True,
                    default="",
                    tooltip="For templates with attributes, one a line or between commas: red, wooden.",
                ),
                io.String.Input(
                    "file",
                    optional=True,
                    tooltip="A text file in ComfyUI's input folder with more concepts. Left empty, none.",
                ),
            ],
            outputs=[
                Concepts.Output(
                    id="concept_list", display_name="concepts", tooltip="For SepEn Train."
                ),
                io.String.Output(
                    id="examples",
                    display_name="examples",
                    tooltip="A few prompts that may be drawn.",
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
            description="Teach a model to keep several objects apart and to drop none (Separate-and-Enhance): for one "
            "prompt, or for a list of concepts. Needs no pictures; the model itself stays as it is.",
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to finetune: Stable Diffusion 1.x, 2.x or SDXL."
                ),
                io.Clip.Input("clip", tooltip="Its text encoder, which stays as it is."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="a photo of a cat and a dog",
                    tooltip="The one prompt to train on. Not used if concepts are connected.",
                ),
                io.String.Input(
                    "objects",
                    multiline=True,
                    default="a cat\na dog",
                    tooltip="Its objects, one a line, in words of the prompt. Not used if concepts are connected.",
                ),
                *optimizer_inputs(),
                *loss_inputs(),
                *reading_inputs(),
                *running_inputs(),
                Concepts.Input(
                    "concepts",
                    optional=True,
                    tooltip="From SepEn Concepts: train on many prompts instead.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    id="model_out",
                    display_name="model",
                    tooltip="The model with what it has learned.",
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
                    tooltip="What was trained, and how the losses fell.",
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
        layers: str,
        overlap: str,
        concepts: ConceptList | None = None,
        **numbers: Any,
    ) -> io.NodeOutput:
        check_clip(clip)
        settings = FinetuningSettings(layers=Layers(layers), overlap=Overlap(overlap), **numbers)
        curriculum = concepts or one_prompt(clip, prompt, objects)
        progress, folder = (
            Progress(cls.hidden.unique_id, settings.steps),
            checkpoints.Folder(prefix),
        )
        trainer = Trainer(
            model,
            clip,
            curriculum,
            settings,
            seed,
            DTYPES[dtype],
            folder,
            checkpoint_every,
            progress.show,
        )
        if resume != checkpoints.NONE:
            trainer.resume(checkpoints.read(resume))
        lora = trainer.run()
        tuned, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)
        curve, report = picture(trainer.history, settings), summary(trainer)
        shown = {"images": ui.PreviewImage(curve, cls=cls).values, "text": [report]}
        return io.NodeOutput(tuned, lora, curve, report, ui=shown)


def optimizer_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "steps",
            **bounded(FinetuningSettings, "steps"),
            tooltip="Training steps. The paper: 200 for one prompt, 10000 for 220 concepts.",
        ),
        io.Int.Input(
            "batch",
            **bounded(FinetuningSettings, "batch"),
            tooltip="Samples of noise in each step, with a concept list each with a prompt of its own.",
        ),
        io.Float.Input(
            "learning_rate",
            **bounded(FinetuningSettings, "learning_rate"),
            step=1e-7,
            tooltip="How far each step goes (AdamW). The paper: 8e-6 for one prompt, 4e-6 for concepts. A low rank "
            "needs more.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="The seed of noise, timesteps and drawn prompts: on a CPU the same seed gives the same weights.",
        ),
    ]


def loss_inputs() -> list[io.Input]:
    return [
        io.Float.Input(
            "separate",
            **bounded(FinetuningSettings, "separate"),
            step=0.05,
            tooltip="Weight of the loss that keeps objects' attention apart.",
        ),
        io.Float.Input(
            "enhance",
            **bounded(FinetuningSettings, "enhance"),
            step=0.05,
            tooltip="Weight of the loss that keeps the weakest object's attention strong.",
        ),
        io.Boolean.Input(
            "norm",
            default=DEFAULTS.norm,
            tooltip="Keep the predictions for prompts of one object as they are. The paper: on for a concept list. "
            "About doubles the time.",
        ),
        io.Float.Input(
            "norm_weight",
            **bounded(FinetuningSettings, "norm_weight"),
            step=0.05,
            tooltip="Weight of that loss, where norm is on.",
        ),
        io.Combo.Input(
            "overlap",
            options=[x.value for x in Overlap],
            default=DEFAULTS.overlap.value,
            tooltip="With three objects or more: pairs keeps any two apart, all only where all of them meet (the "
            "paper's formula).",
        ),
    ]


def reading_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "resolution",
            **bounded(FinetuningSettings, "resolution"),
            step=64,
            tooltip="Width and height in pixels: the size that the model was made for.",
        ),
        io.Int.Input("downsample", **bounded(FinetuningSettings, "downsample"), tooltip=DOWNSAMPLE),
        io.Combo.Input(
            "layers",
            options=[x.value for x in Layers],
            default=DEFAULTS.layers.value,
            tooltip=LAYERS,
        ),
        io.Int.Input(
            "rank",
            **bounded(FinetuningSettings, "rank"),
            tooltip="0 trains each weight's whole difference; more saves products of two matrices this thin, a "
            "smaller file.",
        ),
        io.Boolean.Input(
            "checkpointing",
            default=DEFAULTS.checkpointing,
            tooltip="Less memory, more time, the same weights.",
        ),
        io.Combo.Input(
            "dtype",
            options=list(DTYPES),
            default="model",
            tooltip="What the model computes in; model: as it is loaded. What is trained is always fp32.",
        ),
    ]


def running_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "checkpoint_every",
            default=0,
            min=0,
            max=1_000_000,
            tooltip="Save the weights at every n-th step, too. 0: only if the run is stopped early.",
        ),
        io.String.Input(
            "prefix",
            default="loras/SepEn",
            tooltip="Where in ComfyUI's output folder those files go, and how their names begin.",
        ),
        io.Combo.Input(
            "resume",
            options=checkpoints.saved_files(),
            default=checkpoints.NONE,
            tooltip="Go on from a saved file; steps count from the start of its run.",
        ),
    ]


def one_prompt(clip: Any, prompt: str, objects: str) -> Curriculum:
    """The prompt as a curriculum; raises :class:`InputError`, before anything is loaded, if an object isn't in it."""
    example = Example(prompt, lines(objects))
    Grounding.anywhere(example.phrases, prompt, tokenizer_of(clip))
    return OnePrompt(example)


def picture(history: History, settings: FinetuningSettings) -> torch.Tensor:
    """The loss curves as an IMAGE batch of one."""
    return render.curves(history.steps, settings.steps - 1, "Losses", caption)[None]


def summary(trainer: Trainer) -> str:
    """What was trained, and the losses at the run's start and end."""
    count = sum(weight.numel() for weight in trainer.adapter.parameters)
    history = trainer.history
    return "\n".join(
        [
            f"{len(history.steps)} steps, up to step {trainer.step}; {len(trainer.adapter.layers)} layers, {count} weights",
            f"first tenth: {line(history.means(TENTH))}",
            f"last tenth: {line(history.means(-TENTH))}",
        ]
    )


NODES = [SepEnConcepts, SepEnTrain]
