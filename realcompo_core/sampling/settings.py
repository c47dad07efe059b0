"""The settings of the balancer, the recipes that they name, and the slider that moves several."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from ..errors import InputError
from .attention import Keys, Layers
from .fields import (
    Setting,
    check_ranges,
    downsample_setting,
    keys_setting,
    layers_setting,
    setting,
    settings_of,
)
from .schedule import step_at

MAXIMUM_WEIGHT = 1000


class Mode(str, Enum):
    """Say what decides the blend: an ablation is a mode, not other code."""

    DYNAMIC = "dynamic"
    FIXED = "fixed"
    TEXT_ONLY = "text only"
    SPATIAL_ONLY = "spatial only"


class Recipe(str, Enum):
    """Name a set of :class:`Rules`.

    PAPER follows Algorithm 1 as printed. OFFICIAL follows the authors' released code where it
    differs. BALANCED is this pack's own and the default.
    """

    BALANCED = "balanced"
    PAPER = "paper"
    OFFICIAL = "official"


class Start(str, Enum):
    """Say what the balance is before the first update."""

    EQUAL = "equal"  # half and half: both of the paper's maps are the same draw
    RANDOM = "random"  # two independent normal draws
    PRIOR = "prior"  # spatial stronger inside the regions, text outside


@dataclass(frozen=True)
class Rules:
    """Hold what tells the recipes apart.

    Where ``normalised``, the gradient has rms 1, is smoothed at the attention's scale, and the
    balance is bounded; ``step`` is then in logits. Else it is the factor on the raw gradient at
    the first step.
    """

    start: Start
    normalised: bool
    step: float
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


# Where the ends of the slider lie: what each setting is at its left end (placement, -1) and at
# its right end (look, +1).
PLACEMENT = {"text_weight": 0.0, "lean": 0.0, "prior": 2.0, "release": 8.0, "limit": 3.0}
LOOK = {"text_weight": 1.0, "lean": 4.0, "prior": 1.0, "release": 60.0, "limit": 6.0}

LOOK_OR_PLACEMENT = Setting(
    0.0,
    "To the left (-1), objects stand more surely where you put them. To the right (1), the image "
    "looks more like your text model's. In mode fixed it sets the mix: -1 is only the spatial "
    "branch, 1 only the text branch.",
    low=-1,
    high=1,
    step=0.05,
    more="It moves `text_weight`, `lean`, `prior`, `release` and `limit` together, in equal steps, "
    "from their values (the defaults, or those of RealCompo Balancer Settings) towards fixed "
    "ends. At 0 they stay as they are. The recipes `paper` and `official` don't know it.",
)


def _weight(default: float, text: str, more: str = "") -> Any:
    """Return the field of a loss's weight, which counts in mode dynamic only."""
    return setting(default, text, low=0, high=MAXIMUM_WEIGHT, step=0.1, more=more)


@dataclass(frozen=True)
class BalancerSettings:
    """Hold everything a user may move. Raises :class:`InputError` for values out of range.

    The balance is in logits: 0 is half and half, 1 is 73% of the text branch, 2 is 88%, 4 is 98%.
    """

    mode: Mode = setting(
        Mode.DYNAMIC,
        "What decides the mix of the two branches. dynamic: where each object's words draw "
        "attention, pixel by pixel. fixed: the same mix everywhere. text only, spatial only: one "
        "branch alone.",
    )
    recipe: Recipe = setting(
        Recipe.BALANCED,
        "The rules of mode dynamic. balanced is this pack's own and did best in our tests. paper "
        "and official follow the RealCompo paper and its authors' code.",
        more="`official` costs the most time, since it evaluates both branches in warm-up too.",
    )
    warmup: float = setting(
        0.16,
        "The first share of the steps, done by the spatial branch alone. Higher places objects "
        "more surely; too high loses the look of your model. Try 0 for stylised models. Modes "
        "dynamic and fixed only.",
        low=0,
        high=1,
        step=0.01,
        more="A flow model's first step, which is noise alone, belongs to it and is not counted.",
    )
    guidance: float = setting(
        1.0,
        "How far attention pulls the objects into place during warm-up. Higher follows the boxes "
        "more closely; too high damages the image. 0 switches it off. Recipe balanced only.",
        low=0,
        high=10,
        step=0.1,
        more="1 moves the latent about as far as the sampler's own steps while all attention is "
        "outside the boxes, less as it comes into place, and never more than a quarter of the "
        "noise that is left. A spatial model that guides itself (RealCompo Layout Guidance, SepEn "
        "Guidance) is not guided twice.",
    )
    every: int = setting(
        1,
        "Follow attention at every n-th step only. 2 is faster and places objects less surely. "
        "Mode dynamic only.",
        low=1,
        high=10_000,
        more="It counts the steps of warm-up (for `guidance`) and the steps after it (for the mix) "
        "apart; the recipe `official` counts from the first step.",
    )
    text_weight: float = setting(
        0.5,
        "The text branch's share of the mix, before look_or_placement moves it. Higher looks more "
        "like your model; lower places objects more surely. Mode fixed only.",
        low=0,
        high=1,
        step=0.05,
    )
    lean: float = setting(
        2.0,
        "How far the mix starts on the text branch's side, everywhere. Higher looks more like "
        "your model; lower places objects more surely; below 0 starts on the spatial branch's "
        "side. Recipe balanced only.",
        low=-100,
        high=100,
        step=0.5,
        more="In logits. With the defaults of `lean` and `prior` the text branch starts with 62% "
        "inside the boxes and 97% outside.",
    )
    prior: float = setting(
        1.5,
        "How much more the spatial branch counts inside the boxes than outside at the start. "
        "Higher follows the boxes more closely. 0 starts the same everywhere. Recipe balanced "
        "only.",
        low=0,
        high=100,
        step=0.5,
        more="In logits: taken away inside the boxes and added outside.",
    )
    release: float = setting(
        25.0,
        "How fast the text branch takes over where an object's attention already lies in its box. "
        "Higher looks more like your model; lower holds objects in place for longer; 0 never lets "
        "go. Recipe balanced only.",
        low=0,
        high=100,
        more="In logits over a whole run. Where several boxes share words (three cats), each waits "
        "for its own share of the attention.",
    )
    limit: float = setting(
        4.0,
        "How one-sided the mix may get at any pixel. 4 lets one branch have up to 98%, 1 up to "
        "73%. Recipe balanced only.",
        low=0,
        high=100,
        step=0.5,
        more="In logits.",
    )
    step_scale: float = setting(
        1.0,
        "How strongly the mix follows attention. Higher reacts faster; 0 keeps the mix as it "
        "starts. Mode dynamic only.",
        low=0,
        high=1e6,
        step=0.1,
        more="It is the factor on the recipe's own step.",
    )
    object_weights: tuple[float, ...] = setting(
        (),
        "How much each object counts, in the layout's order, such as 2, 1, 0.5. Give more to an "
        "object that is often missed. Empty: all count the same. Mode dynamic only.",
        more="Numbers from 0 to 1000.",
    )
    text_loss: float = _weight(
        1.0,
        "How much the text branch's attention counts for the mix. 0 follows only the spatial "
        "branch's. Mode dynamic only.",
    )
    spatial_loss: float = _weight(
        1.0,
        "How much the spatial branch's attention counts for the mix. 0 follows only the text "
        "branch's, and switches guidance off. Mode dynamic only.",
    )
    separate: float = _weight(
        0.0,
        "How much it counts that no two objects share their attention. Try 1 where two objects "
        "melt into one. 0 switches it off. Mode dynamic only.",
        more="It is the separate loss of [Separate-and-Enhance](https://arxiv.org/abs/2312.06712).",
    )
    enhance: float = _weight(
        0.0,
        "How much it counts that every object has attention somewhere. Try 1 where an object is "
        "missing. 0 switches it off. Mode dynamic only.",
        more="It is the enhance loss of [Separate-and-Enhance](https://arxiv.org/abs/2312.06712).",
    )
    online: bool = setting(
        True,
        "On: the mix follows attention one step late, which costs little. Off: it looks one step "
        "ahead first, which takes longer and was no better in our tests. Recipe balanced only.",
        more="Looking ahead takes two more passes through the models at each step.",
    )
    downsample: int = downsample_setting()
    layers: Layers = layers_setting()
    checkpointing: bool = setting(
        False,
        "Saves memory and takes more time. The image stays the same.",
        more="A run that is short of memory switches this on by itself. Transformers (Flux, "
        "Qwen-Image) always work this way.",
    )
    keys: Keys = keys_setting()

    def __post_init__(self) -> None:
        check_ranges(self)

    def leaning(self, look: float) -> BalancerSettings:
        """Return the settings moved towards :data:`PLACEMENT` (-1) or :data:`LOOK` (1).

        ``look`` is how far, from -1 to 1: 0 changes nothing, and halfway is half of the way. A
        setting that is beyond an end already stays. Raises :class:`InputError` for another number.
        """
        LOOK_OR_PLACEMENT.check("look_or_placement", look)
        if look == 0:
            return self
        ends = LOOK if look > 0 else PLACEMENT
        moved = {name: self._towards(name, end, abs(look)) for name, end in ends.items()}
        return replace(self, **moved)

    def _towards(self, name: str, end: float, share: float) -> float:
        """Return a setting moved by a share of the way to an end, but never back from beyond it."""
        value = getattr(self, name)
        rises = end > settings_of(self)[name].default
        end = max(value, end) if rises else min(value, end)
        return (1 - share) * value + share * end

    def check_objects(self, objects: int) -> None:
        """Raise :class:`InputError` unless a layout of this many objects has a weight for each."""
        if len(self.object_weights) not in (0, objects):
            fix = "Give one number for each object of the layout, in its order, or none."
            raise InputError(
                "object_weights", f"{objects} numbers", str(len(self.object_weights)), fix
            )

    @property
    def rules(self) -> Rules:
        """Return the rules that the recipe names."""
        return RULES[self.recipe]

    @property
    def looks_back(self) -> bool:
        """Whether the balance follows attention at the latent just reached, one step late.

        Otherwise it follows attention at a provisional next latent.
        """
        return self.online and self.recipe is Recipe.BALANCED

    @property
    def nudges(self) -> bool:
        """Whether the spatial branch's attention moves the latent in warm-up."""
        dynamic = self.mode is Mode.DYNAMIC and self.recipe is Recipe.BALANCED
        return dynamic and self.guidance > 0 and self.spatial_loss > 0

    def warmup_steps(self, steps: int, blank: int = 0) -> int:
        """Return how many of the steps the spatial branch does alone; blending modes only.

        The first ``blank`` steps, which find no picture, belong to a warm-up and don't count.
        """
        if self.warmup == 0 or self.mode not in (Mode.DYNAMIC, Mode.FIXED):
            return 0
        return step_at(self.warmup, steps, blank)


def parse_weights(text: str) -> tuple[float, ...]:
    """Return the weights in a text such as ``"2, 1, 0.5"``, none from an empty text.

    Raises :class:`InputError` for anything else.
    """
    try:
        weights = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        weights = (-1.0,)
    if not all(0 <= weight <= MAXIMUM_WEIGHT for weight in weights):
        expected = f"numbers from 0 to {MAXIMUM_WEIGHT}"
        raise InputError("object_weights", expected, repr(text[:80]), "Example: 2, 1, 0.5")
    return weights
