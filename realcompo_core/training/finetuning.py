"""Separate-and-Enhance finetuning: its settings, its loss and what one run has seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..errors import check_losses
from ..sampling.attention import Layers
from ..sampling.fields import check_ranges, downsample_setting, layers_setting, setting
from ..sampling.losses import Overlap, enhance_loss, separate_loss
from ..sampling.sepen_guidance import enhance_setting, separate_setting

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class FinetuningSettings:
    """Hold everything a user may move. Raises :class:`InputError` for bad values.

    The defaults are the paper's (arXiv 2312.06712) for one prompt. Its values for a list
    of 220 concepts are 10000 steps, a learning rate of 4e-6 and norm on.
    """

    steps: int = setting(
        200,
        "Training steps. The paper takes 200 for one prompt and 10000 for 220 concepts.",
        low=1,
        high=1_000_000,
    )
    batch: int = setting(
        4,
        "Samples of noise in each step. With concepts, each sample has a prompt of its own.",
        low=1,
        high=256,
    )
    learning_rate: float = setting(
        8e-6,
        "How far each step goes. Higher learns faster; too high ruins the model. The paper takes "
        "8e-6 for one prompt and 4e-6 for concepts.",
        low=1e-9,
        high=1.0,
        step=1e-7,
        more="A low rank needs more, such as 1e-4. The optimizer is AdamW.",
    )
    separate: float = separate_setting()
    enhance: float = enhance_setting()
    norm: bool = setting(
        False,
        "Keep what the model draws for prompts of one object as it is. Switch it on for a list of "
        "concepts. Training takes about twice as long.",
    )
    norm_weight: float = setting(
        0.5,
        "How much norm counts beside the other losses, where norm is on.",
        low=0,
        high=100,
        step=0.05,
    )
    overlap: Overlap = setting(
        Overlap.PAIRS,
        "What must be kept apart when there are three objects or more. pairs: any two of them. "
        "all: only where all of them meet, as the paper's formula says.",
    )
    resolution: int = setting(
        512,
        "Width and height in pixels: the size that the model was made for, such as 512 or 1024.",
        low=64,
        high=2048,
        step=64,
    )
    downsample: int = downsample_setting()
    layers: Layers = layers_setting()
    rank: int = setting(
        0,
        "The size of what is learned. 0 learns each weight's whole change. 4 or 8 makes a much "
        "smaller file that can hold less.",
        low=0,
        high=256,
    )
    checkpointing: bool = setting(
        False, "Saves memory and takes more time. What is learned stays the same."
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        check_losses(self.separate, self.enhance)

    def composition(self, attention: Tensor) -> Terms:
        """Return both attention losses of maps [B, objects, h, w], unweighted.

        Each is the mean over samples.
        """
        return {
            "separate": separate_loss(attention, self.overlap).mean(),
            "enhance": enhance_loss(attention).mean(),
        }

    def total(self, terms: Mapping[str, Any]) -> Any:
        """Return the weighted sum of the terms given: ``separate``, ``enhance``, ``norm``."""
        weights = {"separate": self.separate, "enhance": self.enhance, "norm": self.norm_weight}
        return sum(weights[name] * value for name, value in terms.items())


@dataclass
class History:
    """The losses of every step so far, unweighted, and their weighted total."""

    steps: list[dict[str, float]] = field(default_factory=list)

    def add(self, step: int, losses: Mapping[str, float]) -> None:
        """Note the losses of a step."""
        self.steps.append({"step": step, **losses})

    def latest(self) -> str:
        """Return the last step's losses in one line: ``separate 0.0412, enhance 0.731``."""
        return line({name: value for name, value in self.steps[-1].items() if name != "step"})

    def means(self, part: float) -> dict[str, float]:
        """Return mean losses over a share of the run: of its start, a negative one of its end."""
        count = max(1, math.ceil(abs(part) * len(self.steps)))
        rows = self.steps[:count] if part > 0 else self.steps[-count:]
        names = [name for name in rows[0] if name != "step"]
        return {name: _mean(rows, name) for name in names}


def line(losses: Mapping[str, float]) -> str:
    """Return losses in one line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in losses.items())


def _mean(rows: Sequence[Mapping[str, float]], name: str) -> float:
    return sum(row[name] for row in rows) / len(rows)
