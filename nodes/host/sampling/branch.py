"""A branch of the method: a prepared model, what is read of it, and how it guides itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ....realcompo_core.sampling.branch import Point, Prediction, Side
from ....realcompo_core.sampling.moving_frame import movable
from ....realcompo_core.sampling.pull import Pull
from ....realcompo_core.sampling.schedule import Schedule
from .latent_guidance import guidances_of, guided
from .objective import Objective
from .prepared_model import Denoised, PreparedModel


@dataclass(frozen=True)
class Original:
    """What an inpainting sampler keeps: a picture's latent and the noise for it [B, C, H, W]."""

    picture: Tensor
    noise: Tensor

    def seen_by(self, model: Any, at: Point) -> Tensor:
        """Return the original [B, C, H, W] as a model takes it where the latent is kept.

        Some models take it without noise.
        """
        return model.scale_latent_inpaint(
            x=at.latent, sigma=at.sigma, noise=self.noise, latent_image=self.picture
        )


class HostBranch:
    """The core's :class:`~realcompo_core.sampling.branch.Branch` on one of the host's models.

    ``objective`` is what the balance reads and minimises. ``schedule`` is that of the run, by
    which a model's own guidance reckons; ``mask`` [B, C, H, W] is 0 where the latent must stay.
    ``original`` is what stands there, where this model takes it otherwise than the sampler's.
    """

    def __init__(
        self, side: Side, model: PreparedModel, objective: Objective, schedule: Schedule
    ) -> None:
        self.side, self.model, self.objective, self.schedule = side, model, objective, schedule
        self.mask: Tensor | None = None
        self.original: Original | None = None

    @property
    def guides_itself(self) -> bool:
        """Whether the model carries guidance of its own."""
        return bool(guidances_of(self.model.guider.model_patcher))

    def predict(self, at: Point) -> Prediction:
        """Evaluate both conditionings, where the model's own guidance has led the latent."""
        at = self._inpainted(at)
        latent = self._guided(at)
        return _prediction(self.model.predict(latent, at.sigma), at.latent, latent)

    def pull(self, at: Point, *, gradient: bool, checkpointing: bool) -> Pull:
        """Read the positive conditioning's attention, and the gradient of its loss."""
        at, objective = self._inpainted(at), replace(self.objective, checkpointing=checkpointing)
        return self.model.pull(at.latent, at.sigma, objective, gradient=gradient)

    def predict_and_pull(
        self, at: Point, *, gradient: bool, checkpointing: bool
    ) -> tuple[Prediction, Pull]:
        """Do both, by one evaluation of each conditioning."""
        at = self._inpainted(at)
        latent = self._guided(at)
        objective = replace(self.objective, checkpointing=checkpointing)
        denoised, pull = self.model.predict_and_pull(latent, at.sigma, objective, gradient=gradient)
        return _prediction(denoised, at.latent, latent), pull

    def input_scale(self, sigma: Tensor) -> Tensor:
        """Return what the network's input is of the latent [B, 1, 1, 1], at ``sigma`` [B]."""
        one = torch.ones_like(sigma.view(-1, 1, 1, 1))
        return self.model.model.model_sampling.calculate_input(sigma, one)

    def _inpainted(self, at: Point) -> Point:
        """The point, with the original in it as this model takes it where the latent is kept."""
        if self.original is None or self.mask is None:
            return at
        kept = self.original.seen_by(self.model.model, at)
        return replace(at, latent=at.latent * self.mask + kept * (1 - self.mask))

    def _guided(self, at: Point) -> Tensor:
        """Where the model's own guidance leads the latent, at a step's first evaluation."""
        if not at.first:
            return at.latent
        mask = movable(self.mask)
        return guided(self.model, at.latent, at.sigma, mask, at.step, self.schedule)


def _prediction(denoised: Denoised, latent: Tensor, moved: Tensor) -> Prediction:
    still = latent.new_zeros([1] * latent.ndim)
    move = still if moved is latent else moved - latent
    return Prediction(denoised.cond, denoised.uncond, move, denoised.own)
