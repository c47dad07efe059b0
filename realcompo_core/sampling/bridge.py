"""A branch whose model has other coordinates than the run: an eps model beside a flow model.

The change is exact. A flow latent at s is ``1 - s`` times a VE latent at ``s / (1 - s)``, and what
a model takes the picture for is the same in both (:class:`Coordinates`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .branch import Branch, Point, Prediction
from .coordinates import Coordinates, per_sample
from .pull import Pull


@dataclass(frozen=True)
class Bridge:
    """The change from a run's coordinates to a model's ``own``.

    ``most`` is the most noise that the model knows. What has more (a flow latent at sigma 1 has
    infinitely much) is given to the model as if it had that much, as stock runs begin with noise
    alone.
    """

    run: Coordinates
    own: Coordinates
    most: float = math.inf

    def sigma(self, sigma: Tensor) -> Tensor:
        """Return the model's sigma [B] for the run's [B]."""
        return self.own.sigma(self._known(sigma))

    def factor(self, sigma: Tensor) -> Tensor:
        """Return what the model's latent is of the run's [B], at the run's sigma [B]."""
        known = self.run.sigma(self._known(sigma))  # the same noise, beside a larger picture
        louder = self.run.noise(sigma) > self.most
        kept = torch.where(louder, known / sigma, torch.ones_like(sigma))
        return kept * self.own.scale(self.sigma(sigma)) / self.run.scale(known)

    def _known(self, sigma: Tensor) -> Tensor:
        return self.run.noise(sigma).clamp(max=self.most)


class BridgedBranch:
    """A :class:`~.branch.Branch` in the coordinates of a run, of one in its model's own."""

    def __init__(self, branch: Branch, bridge: Bridge) -> None:
        self.branch, self.bridge, self.side = branch, bridge, branch.side

    @property
    def guides_itself(self) -> bool:
        """Whether its own attention moves its latent already."""
        return self.branch.guides_itself

    def predict(self, at: Point) -> Prediction:
        """Evaluate both conditionings."""
        there, factor = self._there(at)
        return _back(self.branch.predict(there), factor)

    def pull(self, at: Point, *, gradient: bool, checkpointing: bool) -> Pull:
        """Read the attention, and the gradient of its loss, by the chain rule's factor."""
        there, factor = self._there(at)
        found = self.branch.pull(there, gradient=gradient, checkpointing=checkpointing)
        return found.scaled(factor)

    def predict_and_pull(
        self, at: Point, *, gradient: bool, checkpointing: bool
    ) -> tuple[Prediction, Pull]:
        """Do both by one evaluation of each conditioning."""
        there, factor = self._there(at)
        prediction, found = self.branch.predict_and_pull(
            there, gradient=gradient, checkpointing=checkpointing
        )
        return _back(prediction, factor), found.scaled(factor)

    def input_scale(self, sigma: Tensor) -> Tensor:
        """Return what the network's input is of the run's latent [B, 1, 1, 1], at sigma [B]."""
        scale = self.branch.input_scale(self.bridge.sigma(sigma))
        return per_sample(self.bridge.factor(sigma), scale) * scale

    def _there(self, at: Point) -> tuple[Point, Tensor]:
        """The same place in the model's coordinates, and what its latent is of the run's."""
        factor = per_sample(self.bridge.factor(at.sigma), at.latent)
        there = replace(at, latent=factor * at.latent, sigma=self.bridge.sigma(at.sigma))
        return there, factor


def _back(prediction: Prediction, factor: Tensor) -> Prediction:
    return replace(prediction, move=prediction.move / factor)
