"""The settings of the dynamic balancer, and the recipes that they name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar

from ..errors import InputError, check_ranges
from .attention import Layers

MAXIMUM_WEIGHT = 1000


class Mode(str, Enum):
    """What decides the blend: an ablation is a mode, not other code."""

    DYNAMIC = "dynamic"
    FIXED = "fixed"
    TEXT_ONLY = "text only"
    SPATIAL_ONLY = "spatial only"


class Recipe(str, Enum):
    """Named sets of :class:`Rules`.

    PAPER follows Algorithm 1 as printed. OFFICIAL follows the authors' released code where it
    differs. BALANCED is this pack's own and the default.
    """

    BALANCED = "balanced"
    PAPER = "paper"
    OFFICIAL = "official"


class Start(str, Enum):
    """The balance before the first update."""

    EQUAL = "equal"  # half and half: both of the paper's maps are the same draw
    RANDOM = "random"  # two independent normal draws
    PRIOR = "prior"  # spatial stronger inside the regions, text outside


@dataclass(frozen=True)
class Rules:
    """What tells the recipes apart."""

    start: Start
    normalised: (
        bool  # gradient to rms 1 and smooth at the attention's scale, step in logits, bounded
    )
    step: float  # logits if normalised; else the factor on the raw gradient at the first step
    text_gradient: bool  # the text branch's loss has a gradient
    update_in_warmup: bool  # balance, and so evaluate both branches, also in warm-up
    conditional_only: bool  # the provisional latent ignores the negative prompts
    current_sigma: bool  # attention at the provisional latent is read with the current timestep


BALANCED = Rules(
    start=Start.PRIOR,
    normalised=True,
    step=0.5,
    text_gradient=True,
    update_in_warmup=False,
    conditional_only=False,
    current_sigma=False,
)


PAPER = replace(BALANCED, start=Start.EQUAL, normalised=False, step=1e6, current_sigma=True)


OFFICIAL = replace(
    PAPER, start=Start.RANDOM, text_gradient=False, update_in_warmup=True, conditional_only=True
)


RULES = {Recipe.BALANCED: BALANCED, Recipe.PAPER: PAPER, Recipe.OFFICIAL: OFFICIAL}


@dataclass(frozen=True)
class BalancerSettings:
    """Everything a user may move. Raises :class:`InputError` for values out of range."""

    recipe: Recipe = Recipe.BALANCED
    mode: Mode = Mode.DYNAMIC
    text_weight: float = 0.5  # share of the text branch in FIXED mode, 0..1
    warmup: float = 0.16  # first share of the steps, done by the spatial branch alone, 0..1
    every: int = 1  # read attention at every n-th step
    step_scale: float = 1.0  # factor on the recipe's step
    limit: float = 4.0  # bound of the balance in logits, BALANCED only
    prior: float = (
        1.5  # start of the balance in logits inside (-) and outside (+) the regions, BALANCED only
    )
    lean: float = (
        2.0  # logits towards the text branch that the start is moved by everywhere, BALANCED only
    )
    release: float = 25.0  # logits towards the text branch over a run, where attention is in its region, BALANCED only
    downsample: int = 0  # downsample factor of the attention layers that are read; 0 chooses one
    layers: Layers = Layers.ALL  # which of the attention layers at that factor are read
    object_weights: tuple[float, ...] = ()  # of the layout's objects in the loss; none: all 1
    text_loss: float = 1.0  # weight of the text branch's loss
    spatial_loss: float = 1.0  # weight of the spatial branch's loss
    separate: float = 0.0  # weight of the separate loss (arXiv 2312.06712) beside the region loss
    enhance: float = 0.0  # weight of the enhance loss (arXiv 2312.06712) beside the region loss
    checkpointing: bool = (
        False  # recompute activations in the gradient pass: less memory, more time
    )
    online: bool = True  # balance one step late, by the graph of the next step's own predictions, BALANCED only
    guidance: float = 1.0  # how far attention moves the latent in warm-up, beside the sampler's steps, BALANCED only

    RANGES: ClassVar = {
        "text_weight": (0, 1),
        "warmup": (0, 1),
        "every": (1, 10_000),
        "step_scale": (0, 1e6),
        "limit": (0, 100),
        "prior": (0, 100),
        "lean": (-100, 100),
        "release": (0, 100),
        "guidance": (0, 10),
        "downsample": (0, 64),
        "text_loss": (0, MAXIMUM_WEIGHT),
        "spatial_loss": (0, MAXIMUM_WEIGHT),
        "separate": (0, MAXIMUM_WEIGHT),
        "enhance": (0, MAXIMUM_WEIGHT),
    }

    def __post_init__(self) -> None:
        check_ranges(self)

    def check_objects(self, objects: int) -> None:
        """Raise :class:`InputError` unless a layout of this many objects has a weight for each."""
        if len(self.object_weights) not in (0, objects):
            fix = "Give one number for each object of the layout, in its order, or none."
            raise InputError(
                "object_weights", f"{objects} numbers", str(len(self.object_weights)), fix
            )

    @property
    def rules(self) -> Rules:
        return RULES[self.recipe]

    @property
    def looks_back(self) -> bool:
        """Whether the balance follows the attention at the latent just reached, not at a provisional next one."""
        return self.online and self.recipe is Recipe.BALANCED

    @property
    def nudges(self) -> bool:
        """Whether the spatial branch's attention moves the latent in warm-up."""
        dynamic = self.mode is Mode.DYNAMIC and self.recipe is Recipe.BALANCED
        return dynamic and self.guidance > 0 and self.spatial_loss > 0

    def warmup_steps(self, steps: int) -> int:
        """Steps that the spatial branch does alone; blending modes only."""
        return round(self.warmup * steps) if self.mode in (Mode.DYNAMIC, Mode.FIXED) else 0


def parse_weights(text: str) -> tuple[float, ...]:
    """``"2, 1, 0.5"`` -> weights, none from an empty text. Raises :class:`InputError`."""
    try:
        weights = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        weights = (-1.0,)
    if not all(0 <= weight <= MAXIMUM_WEIGHT for weight in weights):
        fix = "Example: 2, 1, 0.5"
        raise InputError(
            "object_weights", f"numbers from 0 to {MAXIMUM_WEIGHT}", repr(text[:80]), fix
        )
    return weights
