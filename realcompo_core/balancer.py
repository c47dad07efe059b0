"""The dynamic balancer: one logit per pixel decides how two predictions are blended.

Only the difference of the paper's two coefficient maps matters, because their gradients are exact
negatives of each other: ``balance = coef_text - coef_spatial`` and ``w_text = sigmoid(balance)``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import Layers
from .errors import InputError, check_ranges

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
    normalised: bool  # gradient to rms 1 and smooth at the attention's scale, step in logits, bounded
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
OFFICIAL = replace(PAPER, start=Start.RANDOM, text_gradient=False, update_in_warmup=True, conditional_only=True)
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
    prior: float = 1.5  # start of the balance in logits inside (-) and outside (+) the regions, BALANCED only
    lean: float = 2.0  # logits towards the text branch that the start is moved by everywhere, BALANCED only
    release: float = 25.0  # logits towards the text branch over a run, where attention is in its region, BALANCED only
    downsample: int = 0  # downsample factor of the attention layers that are read; 0 chooses one
    layers: Layers = Layers.ALL  # which of the attention layers at that factor are read
    object_weights: tuple[float, ...] = ()  # of the layout's objects in the loss; none: all 1
    text_loss: float = 1.0  # weight of the text branch's loss
    spatial_loss: float = 1.0  # weight of the spatial branch's loss
    separate: float = 0.0  # weight of the separate loss (arXiv 2312.06712) beside the region loss
    enhance: float = 0.0  # weight of the enhance loss (arXiv 2312.06712) beside the region loss
    checkpointing: bool = False  # recompute activations in the gradient pass: less memory, more time
    online: bool = True  # balance one step late, by the graph of the next step's own predictions, BALANCED only
    guidance: float = 1.0  # how far attention moves the latent in warm-up, beside the sampler's steps, BALANCED only

    RANGES: ClassVar = {
        "text_weight": (0, 1), "warmup": (0, 1), "every": (1, 10_000), "step_scale": (0, 1e6), "limit": (0, 100),
        "prior": (0, 100), "lean": (-100, 100), "release": (0, 100), "guidance": (0, 10), "downsample": (0, 64),
        "text_loss": (0, MAXIMUM_WEIGHT), "spatial_loss": (0, MAXIMUM_WEIGHT),
        "separate": (0, MAXIMUM_WEIGHT), "enhance": (0, MAXIMUM_WEIGHT),
    }  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges(self)

    def check_objects(self, entities: int) -> None:
        """Raise :class:`InputError` unless a layout of this many entities has a weight for each."""
        if len(self.object_weights) not in (0, entities):
            fix = "Give one number for each object of the layout, in its order, or none."
            raise InputError("object_weights", f"{entities} numbers", str(len(self.object_weights)), fix)

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
        raise InputError("object_weights", f"numbers from 0 to {MAXIMUM_WEIGHT}", repr(text[:80]), fix)
    return weights


def blend(text: Tensor, spatial: Tensor, weight: Tensor) -> Tensor:
    """RealCompo eq. 1-3: ``w_text*text + (1 - w_text)*spatial`` per pixel, exact at 0 and 1.

    ``text`` and ``spatial`` are denoised [B, C, H, W], ``weight`` is w_text [B, 1, H, W].
    """
    return torch.lerp(spatial, text, weight)


def next_latent(latent: Tensor, denoised: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """One Euler step: ``x + (sigma_next - sigma) * eps`` with ``eps = (x - denoised) / sigma``."""
    return latent + (sigma_next - sigma) * (latent - denoised) / sigma


def balance_gradient(gradient: Tensor, text: Tensor, spatial: Tensor, balance: Tensor) -> Tensor:
    """RealCompo eq. 7 in closed form: dL/dbalance [B, 1, H, W].

    ``gradient`` is dL/dx' at the next latent x' [B, C, H, W], ``text`` and ``spatial`` the two branches' own next
    latents (:func:`next_latent`) that x' was blended from:
    ``sum_c g_c * w_text * w_spatial * (x'_text - x'_spatial)_c``. Their difference is the paper's
    ``(sigma_next - sigma) * (eps_text - eps_spatial)``.
    """
    weight = balance.sigmoid()
    return weight * (1 - weight) * (gradient * (text - spatial)).sum(dim=1, keepdim=True)


def smooth(gradient: Tensor, cells: tuple[int, int]) -> Tensor:
    """Average [B, 1, H, W] over attention cells (rows, columns) and interpolate back."""
    height, width = gradient.shape[-2:]
    cells = (min(cells[0], height), min(cells[1], width))
    pooled = F.adaptive_avg_pool2d(gradient, cells)
    return F.interpolate(pooled, (height, width), mode="bilinear", align_corners=False)


def normalise(gradient: Tensor) -> Tensor:
    """Scale each sample of [B, C, H, W] to rms 1; a zero gradient stays zero."""
    peak = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
    unit = torch.where(peak > 0, gradient / peak, torch.zeros_like(gradient))  # squares neither vanish nor overflow
    rms = unit.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return unit / torch.where(rms > 0, rms, torch.ones_like(rms))


class Balancer:
    """The balance of one run: its start, its weights and its update.

    ``balance`` [B, 1, H, W] in logits, positive where the text branch is the stronger.
    """

    def __init__(self, settings: BalancerSettings, regions: Tensor, batch: int, seed: int, steps: int) -> None:
        """``regions`` [objects, H, W] at the latent's size, on its device; ``seed`` feeds the random start.

        ``every``, the settings' at first, may grow while the run goes on.
        """
        self.settings, self.steps, self.every = settings, steps, settings.every
        self.balance = start_balance(settings, regions, batch, seed)

    @property
    def weight(self) -> Tensor:
        """w_text [B, 1, H, W], 0..1."""
        return self.balance.sigmoid()

    def update(
        self, gradient: Tensor, step: int, cells: tuple[int, int], settled: Tensor | float = 0.0,
        sampled: Tensor | float = 1.0,
    ) -> Tensor:  # fmt: skip
        """Follow dL/dbalance [B, 1, H, W] down by one step; returns which samples moved [B].

        ``settled`` [B, 1, H, W], 0..1, says where nothing is left to place (:func:`settled`). ``sampled`` [B, 1, 1, 1]
        is the share of pixels that the gradient is of: it is normalised over these. A sample whose gradient is not
        finite stays where it is.
        """
        finite = gradient.isfinite().all(dim=(1, 2, 3), keepdim=True)
        gradient = torch.where(finite, gradient, torch.zeros_like(gradient))
        self.balance = torch.where(finite, self._stepped(gradient, step, cells, settled, sampled), self.balance)
        return finite.flatten()

    def _stepped(
        self, gradient: Tensor, step: int, cells: tuple[int, int], settled: Tensor | float, sampled: Tensor | float
    ) -> Tensor:
        rules, settings = self.settings.rules, self.settings
        if not rules.normalised:
            # A step on both of the paper's maps moves their difference twice as far.
            decay = (1 - 0.5 * step / max(self.steps - 1, 1)) ** 0.5
            return self.balance - 2 * rules.step * settings.step_scale * decay * gradient
        stepped = self.balance - rules.step * settings.step_scale * sampled**0.5 * normalise(smooth(gradient, cells))
        stepped = stepped + settings.release * self.every / self.steps * settled
        return stepped.clamp(-settings.limit, settings.limit)


def start_balance(settings: BalancerSettings, regions: Tensor, batch: int, seed: int) -> Tensor:
    """The balance [B, 1, H, W] before the first update; see :class:`Start`."""
    if settings.mode is Mode.FIXED:
        logit = torch.tensor(settings.text_weight, dtype=regions.dtype).logit()
        return logit.to(regions.device).expand(batch, 1, *regions.shape[-2:])
    if settings.rules.start is Start.PRIOR:
        inside = regions.amax(dim=0).expand(batch, 1, -1, -1)
        start = settings.prior * (1 - 2 * inside) + settings.lean
        return start.clamp(-settings.limit, settings.limit)
    if settings.rules.start is Start.RANDOM:
        return _random_balance(regions, batch, seed)
    return regions.new_zeros(batch, 1, *regions.shape[-2:])


def _random_balance(regions: Tensor, batch: int, seed: int) -> Tensor:
    """The difference of two independent normal maps, drawn on the CPU so that every device agrees, and once for all
    samples, so that a batch starts as its samples do alone."""
    generator = torch.Generator().manual_seed(seed)
    text, spatial = torch.randn(2, 1, 1, *regions.shape[-2:], generator=generator)
    return (text - spatial).to(regions).expand(batch, -1, -1, -1)
