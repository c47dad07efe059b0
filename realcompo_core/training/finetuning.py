"""Separate-and-Enhance finetuning: its settings, its loss and what one run has seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from ..errors import check_losses, check_ranges
from ..sampling.attention import Layers
from ..sampling.losses import Overlap, enhance_loss, separate_loss

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class FinetuningSettings:
    """Everything a user may move; the defaults are the paper's for one prompt. Raises :class:`InputError`.

    The paper's values for a list of 220 concepts: 10000 steps, learning rate 4e-6, norm on.
    """

    steps: int = 200
    batch: int = 4
    learning_rate: float = 8e-6
    separate: float = 1.0  # weight of the separate loss
    enhance: float = 0.5  # weight of the enhance loss
    norm: bool = False  # whether single-object prompts are kept as they are
    norm_weight: float = 0.5
    resolution: int = 512  # pixels
    rank: int = 0  # of the difference of each weight; 0 trains all of it
    overlap: Overlap = Overlap.PAIRS
    downsample: int = 0  # downsample factor of the attention layers that are read; 0 chooses one
    layers: Layers = Layers.ALL  # which of the attention layers at that factor are read
    checkpointing: bool = (
        False  # recompute activations in the backward pass: less memory, more time
    )

    RANGES: ClassVar = {
        "steps": (1, 1_000_000),
        "batch": (1, 256),
        "learning_rate": (1e-9, 1.0),
        "separate": (0.0, 100.0),
        "enhance": (0.0, 100.0),
        "norm_weight": (0.0, 100.0),
        "resolution": (64, 2048),
        "rank": (0, 256),
        "downsample": (0, 64),
    }

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
