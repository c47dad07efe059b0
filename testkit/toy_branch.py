"""A branch without a network: linear predictions, and attention that is a closed formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from realcompo_core.sampling.branch import Point, Prediction, Side
from realcompo_core.sampling.losses import region_loss
from realcompo_core.sampling.pull import Pull
from realcompo_core.sampling.trace import Reading
from realcompo_core.words.grounding import Objects


@dataclass
class ToyBranch:
    """Predicts ``gain * latent + bias`` [B, C, H, W]; attends to object i by ``exp(keys_i . x)``.

    ``keys`` [objects, C] and the latent's pixels give logits, and an object's attention is the
    softmax of its logit against a text of one other token of logit 0. ``asked`` notes every call.
    ``short_of_memory`` passes raise MemoryError, the first ones. ``lead`` is the move of a branch
    that guides itself.
    """

    side: Side
    objects: Objects
    gain: float
    bias: Tensor
    keys: Tensor
    asked: list[tuple[str, Point, dict[str, bool]]] = field(default_factory=list)
    short_of_memory: int = 0
    lead: Tensor | None = None

    @property
    def guides_itself(self) -> bool:
        return self.lead is not None

    def predict(self, at: Point) -> Prediction:
        self._note("predict", at)
        return self._prediction(at)

    def pull(self, at: Point, *, gradient: bool, checkpointing: bool) -> Pull:
        self._note("pull", at, gradient=gradient, checkpointing=checkpointing)
        return self._pull(at, gradient)

    def predict_and_pull(
        self, at: Point, *, gradient: bool, checkpointing: bool
    ) -> tuple[Prediction, Pull]:
        self._note("predict and pull", at, gradient=gradient, checkpointing=checkpointing)
        return self._prediction(at), self._pull(at, gradient)

    def input_scale(self, sigma: Tensor) -> Tensor:
        """As eps models scale their input."""
        return (sigma.view(-1, 1, 1, 1) ** 2 + 1) ** -0.5

    def attention(self, latent: Tensor) -> Tensor:
        """The objects' attention [B, objects, H, W] at a latent [B, C, H, W], 0..1."""
        return torch.einsum("bchw,oc->bohw", latent, self.keys).sigmoid()

    def loss(self, latent: Tensor) -> Tensor:
        """The region loss [B], eq. 6 of the paper."""
        return region_loss(self.attention(latent), self.objects.regions).sum(dim=1)

    def calls(self) -> list[str]:
        return [name for name, *_ in self.asked]

    def _prediction(self, at: Point) -> Prediction:
        still = at.latent.new_zeros(1, 1, 1, 1)
        move = self.lead if self.lead is not None and at.first else still
        cond = self.gain * (at.latent + move) + self.bias
        return Prediction(cond, 0.5 * cond, move)

    def _pull(self, at: Point, gradient: bool) -> Pull:
        slope = torch.zeros_like(at.latent)
        if gradient:
            leaf = at.latent.clone().requires_grad_()
            (slope,) = torch.autograd.grad(self.loss(leaf).sum(), leaf)
        attention = self.attention(at.latent).detach()
        losses = region_loss(attention, self.objects.regions)
        reading = Reading(attention, self.objects, losses)
        return Pull(losses.sum(dim=1), slope, (reading,))

    def _note(self, name: str, at: Point, **how: bool) -> None:
        self.asked.append((name, at, how))
        if name != "predict" and self.short_of_memory:
            self.short_of_memory -= 1
            raise MemoryError


def euler(denoised: Callable[[Tensor, Tensor], Tensor], x: Tensor, sigmas: list[float]) -> Tensor:
    """k-diffusion's Euler sampler from latent ``x`` [B, C, H, W]."""
    for sigma, sigma_next in pairwise(sigmas):
        now = torch.full((len(x),), sigma, dtype=x.dtype)
        x = x + (sigma_next - sigma) * (x - denoised(x, now)) / sigma
    return x


def plain_guidance(cfg: float) -> Callable[[Prediction, Tensor, Tensor], Tensor]:
    """Classifier-free guidance without a host."""

    def guide(prediction: Prediction, latent: Tensor, sigma: Tensor) -> Any:
        return prediction.guided(cfg)

    return guide
