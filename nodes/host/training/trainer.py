"""Separate-and-Enhance finetuning inside stock runs of the host: ``to_k`` learns beside a model that stays as it is."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from random import Random
from typing import Any

import comfy.model_management
import comfy.samplers
import node_helpers
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....realcompo_core.errors import InputError, within
from ....realcompo_core.training.concepts import Curriculum, Example
from ....realcompo_core.training.finetuning import FinetuningSettings, History, Terms, line
from ....realcompo_core.words.grounding import OPTION, Grounding
from ..model.gradients import (
    differentiable,
    differentiable_patcher,
    explaining_missing_backward,
    loss_scale,
    reserve_gradient_memory,
)
from ..model.readers.families import unet_of
from ..model.recomputation import recomputed
from ..sampling.holding import HoldingSampler
from ..text.tokenizer import tokenizer_of
from .checkpoints import Checkpoint, Folder
from .key_adapter import KeyAdapter
from .noise_evaluations import EXAMPLE, Probe

MOST_PROMPTS = 256  # that are encoded ahead: 60 MB of text for SD1.x, 160 MB for SDXL


@dataclass(frozen=True)
class Lesson:
    """What one step sees: a prompt for each sample, with the norm loss one object's as well, and a seed for noise."""

    step: int
    examples: tuple[Example, ...]
    singles: tuple[Example, ...]
    noise: int


class Trainer:
    """One finetuning run. ``say(step, text)`` is told after each step; every ``every``-th is saved in ``folder``.

    Whatever stops a run early (an interrupt, memory, a loss that is not finite), its weights so far are saved.
    Raises :class:`InputError`, before anything is loaded, for a model that can't be trained so.
    """

    def __init__(
        self,
        patcher: ModelPatcher,
        clip: Any,
        curriculum: Curriculum,
        settings: FinetuningSettings,
        seed: int,
        dtype: torch.dtype | None,
        folder: Folder,
        every: int,
        say: Callable[[int, str], None],
    ) -> None:
        self.clip, self.curriculum, self.settings, self.seed = clip, curriculum, settings, seed
        self.folder, self.every, self.say = folder, every, say
        self.patcher = _training_patcher(patcher, dtype)
        self.shape = _latent_shape(patcher, settings)
        with within("model"):
            reader = unet_of(patcher.model)
            self.captured = reader.chosen(settings.downsample, settings.layers, self.shape[-2:])
        layers = reader.layers()
        last = layers.index(self.captured[-1])
        trained = layers[: last + 1]  # later layers change no map that is read
        self.history, self.step = History(), 0
        with torch.inference_mode(False):
            self.adapter = KeyAdapter(
                patcher.model, trained, settings.rank, seed, patcher.load_device
            )
            self.optimizer = torch.optim.AdamW(self.adapter.parameters, settings.learning_rate)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on where a saved run was; with its optimizer's state, step for step as if it had not stopped."""
        if checkpoint.step >= self.settings.steps:
            expected = f"more than the {checkpoint.step} of the resumed run"
            fix = "Ask for more steps: they count from the start of the first run."
            raise InputError("steps", expected, str(self.settings.steps), fix)
        with torch.inference_mode(False):
            self.adapter.load(checkpoint.weights)
            _restore(self.optimizer, checkpoint.optimizer)
        self.step = checkpoint.step

    def run(self) -> dict[str, Tensor]:
        """Train to the last step; returns the weights under stock LoRA keys."""
        try:
            while self.step < self.settings.steps:
                self._learn(list(self._lessons()))
        except BaseException:
            self._keep()
            raise
        return self.adapter.state()

    def _keep(self) -> None:
        """Save a run that was stopped, and say where."""
        if self.history.steps:
            kept = f"stopped after step {self.step}; its weights are in {self._save()}"
            logging.warning("SepEn: %s", kept)
            self.say(self.step, kept)

    def _save(self) -> str:
        return str(
            self.folder.save(Checkpoint(self.step, self.adapter.state(), _state(self.optimizer)))
        )

    def _lessons(self) -> Iterator[Lesson]:
        """The next steps' lessons: as many as may have their prompts encoded ahead, and one at least."""
        ahead: set[Example] = set()
        for step in range(self.step, self.settings.steps):
            lesson = self._lesson(step)
            ahead |= {*lesson.examples, *lesson.singles}
            if len(ahead) > MOST_PROMPTS and step > self.step:
                return
            yield lesson

    def _lesson(self, step: int) -> Lesson:
        """Drawn from the seed and the step alone, so that a resumed run draws the same."""
        random, batch = Random(f"{self.seed}-{step}"), range(self.settings.batch)
        examples = tuple(self.curriculum.example(random) for _ in batch)
        singles = tuple(self.curriculum.single(random) for _ in batch) if self.settings.norm else ()
        return Lesson(step, examples, singles, random.getrandbits(63))

    def _learn(self, lessons: Sequence[Lesson]) -> None:
        """A stock run of the model on all the lessons' prompts, in which nothing is sampled and the adapter learns."""
        examples = dict.fromkeys(
            example for lesson in lessons for example in (*lesson.examples, *lesson.singles)
        )
        guider = comfy.samplers.CFGGuider(self.patcher)
        guider.inner_set_conds(
            {"positive": [cond for example in examples for cond in self._encoded(example)]}
        )
        latent = torch.zeros(self.shape)
        sampler = HoldingSampler(lambda options: self._teach(guider, options, lessons))
        guider.sample(
            latent, latent, sampler, torch.tensor([1.0, 0.0]), disable_pbar=True, seed=self.seed
        )

    def _encoded(self, example: Example) -> list:
        """The example's conditioning, with its objects' tokens if it has several."""
        conditioning = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(example.prompt))
        options: dict[str, Any] = {EXAMPLE: example}
        if len(example.phrases) > 1:
            options[OPTION] = Grounding.anywhere(
                example.phrases, example.prompt, tokenizer_of(self.clip)
            )
        return node_helpers.conditioning_set_values(conditioning, options)

    def _teach(
        self, guider: comfy.samplers.CFGGuider, options: dict, lessons: Sequence[Lesson]
    ) -> None:
        probe = Probe(guider, options, self.adapter, self.captured, self.shape)
        recomputing = nullcontext()
        if self.settings.checkpointing:
            recomputing = recomputed(unet_of(probe.model).recomputable(self.captured))
        explained = explaining_missing_backward("model", "train another model")
        with differentiable(probe.modules()), recomputing, explained:
            for lesson in lessons:
                comfy.model_management.throw_exception_if_processing_interrupted()
                self._take(lesson, probe)

    def _take(self, lesson: Lesson, probe: Probe) -> None:
        """One step of the optimizer on one lesson."""
        losses = self._gradients(lesson, probe)
        self._check(lesson, losses)
        self.optimizer.step()
        self.step = lesson.step + 1
        self.history.add(lesson.step, losses)
        self.say(self.step, f"step {self.step} of {self.settings.steps}: {self.history.latest()}")
        if self.every and self.step % self.every == 0:
            self._save()

    def _gradients(self, lesson: Lesson, probe: Probe) -> dict[str, float]:
        """Gradients of the mean loss over the batch, for the optimizer; samples of one prompt share a pass."""
        generator, scale = torch.Generator().manual_seed(lesson.noise), loss_scale(probe.model)
        self.optimizer.zero_grad()
        losses: Counter[str] = Counter()
        for measure, examples in (
            (self._composition, lesson.examples),
            (self._departure, lesson.singles),
        ):
            for example, rows in Counter(examples).items():
                with self.adapter.applied():
                    terms = measure(probe, example, rows, generator)
                    share = rows / len(examples)
                    (scale * share * self.settings.total(terms)).backward()
                losses.update({name: share * float(term.detach()) for name, term in terms.items()})
        for weight in self.adapter.parameters:
            weight.grad /= scale
        return {**losses, "total": float(self.settings.total(losses))}

    def _composition(
        self, probe: Probe, example: Example, rows: int, generator: torch.Generator
    ) -> Terms:
        return self.settings.composition(probe.attention(example, rows, generator))

    def _departure(
        self, probe: Probe, example: Example, rows: int, generator: torch.Generator
    ) -> Terms:
        return {"norm": probe.departure(example, rows, generator)}

    def _check(self, lesson: Lesson, losses: Mapping[str, float]) -> None:
        gradients = torch.stack([weight.grad.norm() for weight in self.adapter.parameters])
        if all(map(torch.isfinite, (*map(torch.tensor, losses.values()), gradients.sum()))):
            return
        fix = "Lower the learning rate, or train in fp32. The last good weights are in the output folder."
        raise InputError(
            "model", "finite losses and gradients", f"{line(losses)} at step {lesson.step}", fix
        )


def _training_patcher(patcher: ModelPatcher, dtype: torch.dtype | None) -> ModelPatcher:
    """A clone that computes in ``dtype``, if given, and asks for a gradient pass's memory."""
    clone = differentiable_patcher(patcher).clone()
    if dtype is not None:
        clone.set_model_compute_dtype(dtype)
    reserve_gradient_memory(clone)
    return clone


def _latent_shape(patcher: ModelPatcher, settings: FinetuningSettings) -> tuple[int, int, int, int]:
    form = patcher.get_model_object("latent_format")
    cells = settings.resolution // getattr(form, "spacial_downscale_ratio", 8)
    return settings.batch, form.latent_channels, cells, cells


def _state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors by parameter number and name, on the CPU."""
    states = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": t.cpu().clone()
        for number, state in states.items()
        for name, t in state.items()
    }


def _restore(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Undo :func:`_state`; an optimizer starts anew from no tensors."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        states.setdefault(int(number), {})[name] = tensor.clone()
    optimizer.load_state_dict(optimizer.state_dict() | {"state": states})
