"""What happened in a run, step by step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

from torch import Tensor

from ..layout.model import Layout
from ..words.grounding import Objects
from .schedule import Schedule
from .settings import BalancerSettings


@dataclass(frozen=True)
class Reading:
    """The attention of one branch at one step, on the CPU.

    ``attention`` is [B, objects, h, w] in attention cells, ``objects`` has its regions in latent
    cells, ``losses`` [B, objects] are the shares of attention outside the region.
    """

    attention: Tensor
    objects: Objects
    losses: Tensor

    @property
    def loss(self) -> float:
        """Return the loss summed over objects, the mean over samples."""
        return float(self.losses.sum(dim=1).mean())


@dataclass(frozen=True)
class Step:
    """One sampler step.

    ``weight`` is w_text [B, 1, H, W] in latent cells, on the CPU; None in warm-up and in modes of
    one branch. ``readings`` are by branch, one for each of its conditionings. They are of the
    latent that the step was looked ahead to lead to, or, online and in BALANCED's warm-up, of its
    own.
    """

    index: int
    sigma: float
    weight: Tensor | None
    readings: dict[str, tuple[Reading, ...]] = field(default_factory=dict)

    def losses(self) -> dict[str, float]:
        """Return each branch's loss, summed over its objects, the mean over samples."""
        return {name: _loss(found) for name, found in self.readings.items()}


@dataclass
class Trace:
    """A run: filled in while it samples, so it is complete once the sampler's output is.

    ``rows`` counts model evaluations of one sample: ``text`` and ``spatial`` predictions, and the
    early-exit passes: those that read attention (``text attention``, ``spatial attention``), of
    which online balancing rarely needs any, and those of guided models (``... guidance``,
    ``... separation``).
    """

    KEPT: ClassVar = 4  # earlier runs that are still found by what they made

    layout: Layout | None = None
    settings: BalancerSettings | None = None
    total_steps: int = 0
    warmup_steps: int = 0
    steps: list[Step] = field(default_factory=list)
    rows: Counter[str] = field(default_factory=Counter)
    made: Tensor | None = field(default=None, repr=False, compare=False)
    earlier: list[Trace] = field(default_factory=list, repr=False, compare=False)

    def restart(self) -> None:
        """Make room for another run of the same node; :meth:`of` still finds the last ones."""
        if self.made is not None:
            ended = replace(self, earlier=[])
            self.earlier = [ended, *self.earlier][: self.KEPT]
        self.steps, self.rows, self.made = [], Counter(), None

    def end(self, samples: Tensor) -> None:
        """Note the latent [B, C, H, W] that the run has made."""
        self.made = samples.detach().float().cpu()

    def of(self, samples: Tensor) -> Trace:
        """Return the run that has made a latent [B, C, H, W]; the newest where none is known.

        One guider can feed several samplers, and each of them starts a run of its own.
        """
        samples = samples.detach().float().cpu()
        found, nearest = self, math.inf
        for run in (self, *self.earlier):
            if run.made is None or run.made.shape != samples.shape:
                continue
            distance = float((run.made - samples).abs().max())
            if distance < nearest:
                found, nearest = run, distance
        return found

    def begin(self, settings: BalancerSettings, layout: Layout | None, schedule: Schedule) -> None:
        """Note what a run is about to do."""
        self.settings, self.layout = settings, layout
        self.total_steps, self.warmup_steps = schedule.steps, schedule.warmup

    def __deepcopy__(self, memo: dict) -> Trace:
        """Share the trace: hosts deep-copy model options, and a run must still be recorded here."""
        return self

    def blended(self) -> list[tuple[int, Tensor]]:
        """Return the steps that blended two branches, with w_text [B, 1, H, W] in latent cells."""
        return [(step.index, step.weight) for step in self.steps if step.weight is not None]

    def losses(self) -> list[dict[str, float]]:
        """Return the step's number and losses by branch, for each step that read attention."""
        return [{"step": step.index, **step.losses()} for step in self.steps if step.readings]

    def compliance(self) -> list[dict[str, Any]]:
        """Return the share inside its region of each branch's attention to each object.

        It is that of the last reading, the mean over samples.
        """
        last: dict[str, tuple[Reading, ...]] = {}
        for step in self.steps:
            last |= step.readings
        rows = []
        for branch, readings in last.items():
            for reading in readings:
                for index, phrase in enumerate(reading.objects.phrases):
                    inside = 1 - float(reading.losses[:, index].mean())
                    rows.append({"branch": branch, "object": phrase, "inside": inside})
        return rows

    def summary(self) -> dict[str, Any]:
        """Return the run for JSON: settings, steps, evaluations, losses and compliance.

        JSON has no NaN or infinity: they are None.
        """
        settings = {} if self.settings is None else asdict(self.settings)
        found = {
            "settings": {name: getattr(value, "value", value) for name, value in settings.items()},
            "steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "rows": dict(self.rows),
            "losses": self.losses(),
            "compliance": self.compliance(),
        }
        return _in_json(found)


def _loss(readings: Sequence[Reading]) -> float:
    return sum(reading.loss for reading in readings)


def _in_json(value: Any) -> Any:
    """A value of dictionaries and lists, without the numbers that JSON has not."""
    if isinstance(value, dict):
        return {name: _in_json(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_in_json(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
