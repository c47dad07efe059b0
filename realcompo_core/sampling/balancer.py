"""The dynamic balancer: one logit per pixel decides how two predictions are blended.

Only the difference of the paper's two coefficient maps matters, because their gradients are exact
negatives of each other: ``balance = coef_text - coef_spatial`` and ``w_text = sigmoid(balance)``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .settings import BalancerSettings, Mode, Start


def blend(text: Tensor, spatial: Tensor, weight: Tensor) -> Tensor:
    """Blend per pixel, RealCompo eq. 1-3: ``w_text*text + (1 - w_text)*spatial``; exact at 0, 1.

    ``text`` and ``spatial`` are denoised [B, C, H, W], ``weight`` is w_text [B, 1, H, W].
    """
    return torch.lerp(spatial, text, weight)


def next_latent(latent: Tensor, denoised: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """Take one Euler step: ``x + (sigma_next - sigma) * eps``, ``eps = (x - denoised) / sigma``.

    ``latent`` and ``denoised`` are [B, C, H, W], both sigmas [B, 1, 1, 1].
    """
    return latent + (sigma_next - sigma) * (latent - denoised) / sigma


def balance_gradient(gradient: Tensor, text: Tensor, spatial: Tensor, balance: Tensor) -> Tensor:
    """Return dL/dbalance [B, 1, H, W], RealCompo eq. 7 in closed form.

    ``gradient`` is dL/dx' at the next latent x' [B, C, H, W]. ``text`` and ``spatial`` are the two
    branches' own next latents (:func:`next_latent`) that x' was blended from. The result is
    ``sum_c g_c * w_text * w_spatial * (x'_text - x'_spatial)_c``. The difference of the latents is
    the paper's ``(sigma_next - sigma) * (eps_text - eps_spatial)``.
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
    # Of values up to 1, squares neither vanish nor overflow.
    unit = torch.where(peak > 0, gradient / peak, torch.zeros_like(gradient))
    rms = unit.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return unit / torch.where(rms > 0, rms, torch.ones_like(rms))


class Balancer:
    """The balance of one run: its start, its weights and its update.

    ``balance`` [B, 1, H, W] in logits, positive where the text branch is the stronger.
    """

    def __init__(
        self, settings: BalancerSettings, regions: Tensor, batch: int, seed: int, steps: int
    ) -> None:
        """``regions`` [objects, H, W] in latent cells; ``seed`` feeds the random start."""
        self.settings, self.steps = settings, steps
        self.balance = start_balance(settings, regions, batch, seed)

    @property
    def weight(self) -> Tensor:
        """w_text [B, 1, H, W], 0..1."""
        return self.balance.sigmoid()

    def update(
        self,
        gradient: Tensor,
        step: int,
        cells: tuple[int, int],
        settled: Tensor | float = 0.0,
        sampled: Tensor | float = 1.0,
        every: int = 1,
    ) -> Tensor:
        """Follow dL/dbalance [B, 1, H, W] down by one step; return which samples moved [B].

        ``cells`` are the attention cells (rows, columns) that the map has. ``settled``
        [B, 1, H, W], 0..1, says where nothing is left to place. ``sampled`` [B, 1, 1, 1] is the
        share of pixels that the gradient is of: it is normalised over these. The update stands for
        ``every`` steps. A sample whose gradient is not finite stays where it is.
        """
        finite = gradient.isfinite().all(dim=(1, 2, 3), keepdim=True)
        gradient = torch.where(finite, gradient, torch.zeros_like(gradient))
        if self.settings.rules.normalised:
            released = self.settings.release * every / self.steps * settled
            direction = normalise(smooth(gradient, cells))
            stepped = self._step_in_logits(direction, sampled**0.5, released)
        else:
            stepped = self._raw_step(gradient, step)
        self.balance = torch.where(finite, stepped, self.balance)
        return finite.flatten()

    def _raw_step(self, gradient: Tensor, step: int) -> Tensor:
        """The paper's step. One on both of its maps moves their difference twice as far."""
        size = self.settings.rules.step * self.settings.step_scale
        decay = (1 - 0.5 * step / max(self.steps - 1, 1)) ** 0.5
        return self.balance - 2 * size * decay * gradient

    def _step_in_logits(
        self, direction: Tensor, share: Tensor | float, released: Tensor | float
    ) -> Tensor:
        """A step of a bounded size, and one towards the text branch where nothing is to place."""
        size = self.settings.rules.step * self.settings.step_scale * share
        stepped = self.balance - size * direction + released
        return stepped.clamp(-self.settings.limit, self.settings.limit)


def start_balance(settings: BalancerSettings, regions: Tensor, batch: int, seed: int) -> Tensor:
    """Return the balance [B, 1, H, W] before the first update; see :class:`Start`.

    ``regions`` [objects, H, W] are in latent cells.
    """
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
    """The difference of two independent normal maps.

    It is drawn on the CPU, so that every device agrees, and once for all samples, so that a batch
    starts as its samples do alone.
    """
    generator = torch.Generator().manual_seed(seed)
    text, spatial = torch.randn(2, 1, 1, *regions.shape[-2:], generator=generator)
    return (text - spatial).to(regions).expand(batch, -1, -1, -1)
