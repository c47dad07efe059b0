"""Separate-and-Enhance finetuning inside stock runs of the host.

``to_k`` learns beside a model that stays as it is.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from random import Random
from typing import Any

import comfy.model_management
import comfy.samplers
import node_helpers
import torch
from comfy.model_patcher import ModelPatcher
from torch import Generator, Tensor

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
from ..text.tokenizer import prompt_of
from .checkpoints import Checkpoint, Folder
from .key_adapter import KeyAdapter
from .noise_evaluations import EXAMPLE, NoiseEvaluations

MOST_PROMPTS = 256  # that are encoded ahead: 60 MB of text for SD1.x, 160 MB for SDXL


@dataclass(frozen=True)
class Lesson:
    """What one step sees: a prompt for each sample, and a seed for noise.

    ``singles`` are prompts of one object, for the norm loss; none without it.
    """

    step: int
    examples: tuple[Example, ...]
    singles: tuple[Example, ...]
    noise: int


class Trainer:
    """One finetuning run. ``say(step, text)`` is told after each step.

    Every ``every``-th step is saved in ``folder``. Whatever stops a run early (an interrupt,
    memory, a loss that is not finite), its weights so far are saved. Raises :class:`InputError`,
    before anything is loaded, for a model that can't be trained so.
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
        last = layers.index(self.captured[-1])  # later layers change no map that is read
        self.history, self.step = History(), 0
        with torch.inference_mode(False):
            trained, device = layers[: last + 1], patcher.load_device
            self.adapter = KeyAdapter(patcher.model, trained, settings.rank, seed, device)
            self.optimizer = torch.optim.AdamW(self.adapter.parameters, settings.learning_rate)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on where a saved run was; with its optimizer's state, as if it had not stopped.

        Raises :class:`InputError` for a run that is already as long, and for other weights.
        """
        if checkpoint.step >= self.settings.steps:
            expected = f"more than the {checkpoint.step} of the resumed run"
            fix = "Ask for more steps: they count from the start of the first run."
            raise InputError("steps", expected, str(self.settings.steps), fix)
        with torch.inference_mode(False):
            self.adapter.load(checkpoint.weights)
            _restore(self.optimizer, checkpoint.optimizer)
        self.step = checkpoint.step

    def run(self) -> dict[str, Tensor]:
        """Train to the last step, and return the weights (:class:`KeyAdapter`) by stock LoRA key.

        Their shapes are [keys, text width], or two thin ones by rank. Raises :class:`InputError`
        for losses and gradients that are not finite.
        """
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
        checkpoint = Checkpoint(self.step, self.adapter.state(), _state(self.optimizer))
        return str(self.folder.save(checkpoint))

    def _lessons(self) -> Iterator[Lesson]:
        """Yield the next steps' lessons: as many as can have their prompts encoded, at least 1."""
        ahead: set[Example] = set()
        for step in range(self.step, self.settings.steps):
            lesson = self._lesson(step)
            ahead |= {*lesson.examples, *lesson.singles}
            if len(ahead) > MOST_PROMPTS and step > self.step:
                return
            yield lesson

    def _lesson(self, step: int) -> Lesson:
        """Draw a lesson from the seed and the step alone, so that a resumed run draws the same."""
        random, batch = Random(f"{self.seed}-{step}"), range(self.settings.batch)
        examples = tuple(self.curriculum.example(random) for _ in batch)
        singles = tuple(self.curriculum.single(random) for _ in batch) if self.settings.norm else ()
        return Lesson(step, examples, singles, random.getrandbits(63))

    def _learn(self, lessons: Sequence[Lesson]) -> None:
        """Let the adapter learn in a stock run on the lessons' prompts, which samples nothing."""
        guider = comfy.samplers.CFGGuider(self.patcher)
        guider.inner_set_conds({"positive": self._conditionings(lessons)})
        latent, sigmas = torch.zeros(self.shape), torch.tensor([1.0, 0.0])
        sampler = HoldingSampler(lambda options: self._teach(guider, options, lessons))
        guider.sample(latent, latent, sampler, sigmas, disable_pbar=True, seed=self.seed)

    def _conditionings(self, lessons: Sequence[Lesson]) -> list:
        """Encode every prompt of the lessons once."""
        examples: dict[Example, None] = {}
        for lesson in lessons:
            examples |= dict.fromkeys((*lesson.examples, *lesson.singles))
        return list(chain.from_iterable(map(self._encoded, examples)))

    def _encoded(self, example: Example) -> list:
        """Return the example's conditioning, with its objects' tokens if it has several."""
        conditioning = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(example.prompt))
        options: dict[str, Any] = {EXAMPLE: example}
        if len(example.phrases) > 1:
            encoders = prompt_of(self.clip, example.prompt).encoders
            options[OPTION] = Grounding.anywhere(example.phrases, encoders)
        return node_helpers.conditioning_set_values(conditioning, options)

    def _teach(
        self, guider: comfy.samplers.CFGGuider, options: dict, lessons: Sequence[Lesson]
    ) -> None:
        evaluations = NoiseEvaluations(guider, options, self.adapter, self.captured, self.shape)
        explained = explaining_missing_backward("model", "train another model")
        with differentiable(evaluations.modules()), self._recomputing(evaluations), explained:
            for lesson in lessons:
                comfy.model_management.throw_exception_if_processing_interrupted()
                self._take(lesson, evaluations)

    def _recomputing(self, evaluations: NoiseEvaluations) -> AbstractContextManager[None]:
        if not self.settings.checkpointing:
            return nullcontext()
        return recomputed(unet_of(evaluations.model).recomputable(self.captured))

    def _take(self, lesson: Lesson, evaluations: NoiseEvaluations) -> None:
        """Take one step of the optimizer, on one lesson."""
        losses = self._gradients(lesson, evaluations)
        self._check(lesson, losses)
        self.optimizer.step()
        self.step = lesson.step + 1
        self.history.add(lesson.step, losses)
        self.say(self.step, f"step {self.step} of {self.settings.steps}: {self.history.latest()}")
        if self.every and self.step % self.every == 0:
            self._save()

    def _gradients(self, lesson: Lesson, evaluations: NoiseEvaluations) -> dict[str, float]:
        """Leave the gradients of the batch's mean loss with the parameters; return the losses.

        Samples of one prompt share a pass.
        """
        generator = Generator().manual_seed(lesson.noise)
        scale = loss_scale(evaluations.model)
        self.optimizer.zero_grad()
        losses: Counter[str] = Counter()
        measures = ((self._composition, lesson.examples), (self._departure, lesson.singles))
        for measure, examples in measures:
            for example, rows in Counter(examples).items():
                with self.adapter.applied():
                    terms = measure(evaluations, example, rows, generator)
                    share = rows / len(examples)
                    (scale * share * self.settings.total(terms)).backward()
                losses.update({name: share * float(term.detach()) for name, term in terms.items()})
        for gradient in self._found_gradients():
            gradient.div_(scale)
        return {**losses, "total": float(self.settings.total(losses))}

    def _found_gradients(self) -> list[Tensor]:
        return [weight.grad for weight in self.adapter.parameters if weight.grad is not None]

    def _composition(
        self, evaluations: NoiseEvaluations, example: Example, rows: int, generator: Generator
    ) -> Terms:
        return self.settings.composition(evaluations.attention(example, rows, generator))

    def _departure(
        self, evaluations: NoiseEvaluations, example: Example, rows: int, generator: Generator
    ) -> Terms:
        return {"norm": evaluations.departure(example, rows, generator)}

    def _check(self, lesson: Lesson, losses: Mapping[str, float]) -> None:
        gradients = torch.stack([gradient.norm() for gradient in self._found_gradients()])
        if all(map(math.isfinite, (*losses.values(), float(gradients.sum())))):
            return
        expected, got = "finite losses and gradients", f"{line(losses)} at step {lesson.step}"
        fix = "Lower the learning rate, or train in fp32. The last good weights are saved."
        raise InputError("model", expected, got, fix)


def _training_patcher(patcher: ModelPatcher, dtype: torch.dtype | None) -> ModelPatcher:
    """Return a clone that computes in ``dtype``, if given, with memory for a gradient pass."""
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
    """Return the optimizer's tensors by parameter number and name, on the CPU."""
    tensors = {}
    for number, state in optimizer.state_dict()["state"].items():
        for name, tensor in state.items():
            tensors[f"{number}.{name}"] = tensor.cpu().clone()
    return tensors


def _restore(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Undo :func:`_state`; an optimizer starts anew from no tensors."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        states.setdefault(int(number), {})[name] = tensor.clone()
    optimizer.load_state_dict(optimizer.state_dict() | {"state": states})
