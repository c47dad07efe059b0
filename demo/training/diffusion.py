"""The training loss: v-prediction on SD1.5's noise schedule, and attention to be on its objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..toy.networks import TEXT_LENGTH, TRANSFORMER
from .data import CELLS, THINGS, Batch

BLIND = 0.95  # from this sigma on nothing tells a transformer yet where an object is
PATCHES = (CELLS // TRANSFORMER["patch_size"]) ** 2


class Attention:
    """Scaled dot-product attention that remembers how the text was attended to.

    ``extra`` is a further loss [B].
    """

    def __init__(self) -> None:
        self.maps: list[Tensor] = []
        self.extra: Tensor | float = 0.0

    def __call__(
        self, _: Callable, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: object, **kw: object
    ) -> Tensor:
        batch, width = q.shape[0], q.shape[-1]
        q, k, v = (t.view(batch, -1, heads, width // heads).transpose(1, 2) for t in (q, k, v))
        weights = torch.softmax((q * (width // heads) ** -0.5) @ k.transpose(-1, -2), -1)
        self.keep(weights.float().mean(1))
        return (weights.to(v.dtype) @ v).transpose(1, 2).reshape(batch, -1, width)

    def keep(self, weights: Tensor) -> None:
        """Remember weights [B, H W, T] of text; others are self-attention's."""
        if weights.shape[2] == TEXT_LENGTH:
            self.maps.append(weights)

    def share_outside(self, regions: Tensor) -> Tensor:
        """Return the mean [B] of (1 - share of a word's attention inside its object)^2.

        It is over layers and words, of regions [B, words, 16, 16].
        """
        pairs = self._over(regions)
        shares = [(weights * region).sum(1) / weights.sum(1) for weights, region in pairs]
        return _missing(shares, regions)

    def _over(self, regions: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each map with the regions in its size: two [B, H W, T]."""
        for weights in self.maps:
            side = int(weights.shape[1] ** 0.5)
            yield weights, F.adaptive_avg_pool2d(regions, side).flatten(2).transpose(1, 2)


class FuserAttention(Attention):
    """The attention of GLIGEN's fusers: the last ``slots`` tokens are boxes, the first in use."""

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.slots = slots

    def keep(self, weights: Tensor) -> None:
        """Remember weights [B, H W + slots, H W + slots] between cells and boxes."""
        cells = weights.shape[1] - self.slots
        self.maps.append(weights[:, :cells, cells : cells + THINGS])

    def unread(self, regions: Tensor) -> Tensor:
        """Return the mean [B] of (1 - share of a box's cells' attention to the box's token)^2.

        It is over layers and boxes, of regions [B, boxes, 16, 16].
        """
        shares = []
        for weights, region in self._over(regions):
            shares.append((weights * region).sum(1) / region.sum(1).clamp_min(1e-6))
        return _missing(shares, regions)


class JointAttention(Attention):
    """The attention of a transformer in which text, first in the row, and cells read each other."""

    def __call__(
        self, _: Callable, q: Tensor, k: Tensor, v: Tensor, *args: object, **kw: object
    ) -> Tensor:
        """Attend from q, k and v [B, heads, N, width] to [B, N, heads * width]."""
        weights = torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), -1)
        self.keep(weights)
        return (weights.to(v.dtype) @ v).transpose(1, 2).flatten(2)

    def keep(self, weights: Tensor) -> None:
        """Remember the cells' part of weights [B, heads, T + H W, T + H W] for the text.

        Where text or cells are alone they refine themselves.
        """
        if weights.shape[2] == TEXT_LENGTH + PATCHES:
            self.maps.append(weights[:, :, TEXT_LENGTH:, :TEXT_LENGTH].float().mean(1))


def _missing(shares: list[Tensor], regions: Tensor) -> Tensor:
    """Return the mean [B] of (1 - share)^2 over layers and the regions that are there."""
    has = regions.flatten(2).amax(-1) > 0
    losses = [((1 - share).square() * has).sum(-1) / has.sum(-1).clamp_min(1) for share in shares]
    return torch.stack(losses).mean(0)


def schedule(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return SD1.5's schedule, by timestep [1000]: what is left of the picture, and the noise."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)
    return kept.sqrt().float().to(device), (1 - kept).sqrt().float().to(device)


class Diffusion:
    """The loss of a v-predicting network, weighted as min-SNR-5, and beside it the attention loss.

    ``bias`` below 1 draws more deep noise.
    """

    def __init__(self, device: torch.device, bias: float) -> None:
        self.kept, self.noise = schedule(device)
        self.bias = bias

    def __call__(
        self, batch: Batch, generator: Generator, predict: Callable[..., Tensor]
    ) -> tuple[Tensor, Tensor]:
        size, device = len(batch.latents), batch.latents.device
        even = (torch.arange(size) + torch.rand(size, generator=generator)) / size
        t = (1000 * even**self.bias).long().clamp_max(999).to(device)
        a, s = self.kept[t][:, None, None, None], self.noise[t][:, None, None, None]
        eps = torch.randn(batch.latents.shape, generator=generator).to(device)
        attention = Attention()
        with torch.autocast(device.type, torch.bfloat16):
            v = predict(a * batch.latents + s * eps, t, attention)
        error = (v.float() - (a * eps - s * batch.latents)).square().mean((1, 2, 3))
        weight = (5 / (a / s).square().add(1)).clamp_max(1).flatten()
        outside = attention.share_outside(batch.regions)
        early = (1.2 - t / 1000).clamp(0.2, 1)  # in deep noise nothing tells yet where an object is
        return (error * weight).mean(), (outside * early + attention.extra).mean()


class Flow:
    """The loss of a network that predicts a flow from picture to noise, and the attention loss.

    ``bias`` below 1 draws more deep noise.
    """

    def __init__(self, device: torch.device, bias: float) -> None:
        self.device, self.bias = device, bias

    def __call__(
        self, batch: Batch, generator: Generator, predict: Callable[..., Tensor]
    ) -> tuple[Tensor, Tensor]:
        size = len(batch.latents)
        even = (torch.arange(size) + torch.rand(size, generator=generator)) / size
        sigma = (even**self.bias).clamp(0.002, 1).to(self.device)
        eps = torch.randn(batch.latents.shape, generator=generator).to(self.device)
        attention = JointAttention()
        with torch.autocast(self.device.type, torch.bfloat16):
            flow = predict(
                torch.lerp(batch.latents, eps, sigma[:, None, None, None]), sigma, attention
            )
        error = (flow.float() - (eps - batch.latents)).square().mean()
        outside = attention.share_outside(batch.regions)
        early = (1.2 - sigma).clamp_min(0.2) * (sigma < BLIND)
        return error, (outside * early).mean()
