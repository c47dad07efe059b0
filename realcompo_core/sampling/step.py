"""RealCompo's step: Algorithm 1 of the paper (arXiv 2402.12908), on two branches.

``x`` is a latent [B, C, H, W] at noise level sigma [B]; ``denoised`` is what a branch takes it for
without its noise. Every kind of prediction (eps, v, flow) is affine in ``denoised`` at a given
sigma, so ``denoised`` is what is blended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from .balancer import Balancer, balance_gradient, blend, next_latent
from .branch import Branch, Point, Prediction, Side
from .gradient_passes import GradientPasses, predict
from .kinds import Kind, catches_up_later
from .moving_frame import movable
from .nudge import Nudge, against
from .outcome import Fork, Taken
from .pull import Pull, finest_cells, settled_map, share_outside
from .schedule import Schedule
from .settings import BalancerSettings


class RealCompo:
    """The method on the branches of a mode; each kind of step is a function of its own.

    ``balancer`` holds the paper's two coefficient maps as one logit map. ``cfg`` is the scale of
    classifier-free guidance. ``mask`` [B, C, H, W] is 0 where an inpainting sampler keeps the
    latent.
    """

    def __init__(
        self,
        branches: Mapping[Side, Branch],
        settings: BalancerSettings,
        schedule: Schedule,
        cfg: float,
        passes: GradientPasses,
    ) -> None:
        self.branches, self.settings, self.planned_schedule = branches, settings, schedule
        self.cfg, self.passes = cfg, passes
        self.started: Balancer | None = None  # once a first latent is there
        self.mask: Tensor | None = None

    @property
    def balancer(self) -> Balancer:
        """The balance of this run. Raises RuntimeError before the run has a latent."""
        if self.started is None:
            raise RuntimeError("the balance starts with a run's first latent")
        return self.started

    @property
    def schedule(self) -> Schedule:
        """The schedule, with attention read as often as memory allows."""
        return replace(self.planned_schedule, every=self.passes.every)

    def take(self, kind: Kind, at: Point, fork: Fork | None) -> Taken:
        """Take a step of a kind; ``fork`` is of the step whose balance is to catch up."""
        return STEPS[kind](self, at, fork)

    def one_sided(self, at: Point, _: Fork | None) -> Taken:
        """The stock sampler's step."""
        (branch,) = self.branches.values()
        return Taken(branch.predict(at))

    def spatial_only(self, at: Point, _: Fork | None) -> Taken:
        """Warm-up: the layout takes shape. The text branch is not evaluated."""
        return Taken(self.branches[Side.SPATIAL].predict(at))

    def nudged(self, at: Point, _: Fork | None) -> Taken:
        """Warm-up, in which the loss of eq. 6 also moves the latent before the next step."""
        spatial = {Side.SPATIAL: self.branches[Side.SPATIAL]}
        predictions, pulls = self.passes.predict_and_pull(spatial, at)
        return Taken(predictions[Side.SPATIAL], pulls, nudge=self._nudge(at, pulls))

    def rehearsed(self, at: Point, _: Fork | None) -> Taken:
        """Warm-up, in which the balance moves already (the released code)."""
        predictions = predict(self.branches, at)
        pulls = self._look_ahead(at, self._fork(at, predictions))
        return Taken(predictions[Side.SPATIAL], pulls)

    def blended(self, at: Point, _: Fork | None) -> Taken:
        """Both branches, as the balance stands."""
        return self._blended(at, predict(self.branches, at), {})

    def looked_ahead(self, at: Point, _: Fork | None) -> Taken:
        """Algorithm 1: the balance follows attention at a provisional x', then the step blends."""
        predictions = predict(self.branches, at)
        pulls = self._look_ahead(at, self._fork(at, predictions))
        return self._blended(at, predictions, pulls)

    def caught_up(self, at: Point, fork: Fork | None) -> Taken:
        """Online: the last step's balance follows attention at the latent that it has led to."""
        predictions, pulls = self.passes.predict_and_pull(self.branches, at)
        self._follow(fork, pulls)
        return self._blended(at, predictions, pulls)

    def _blended(
        self, at: Point, predictions: Mapping[Side, Prediction], pulls: Mapping[Side, Pull]
    ) -> Taken:
        """Eq. 1 to 3: eps = w_text * eps_text + w_spatial * eps_spatial, w = softmax(coef)."""
        blended = self._blend(predictions[Side.TEXT], predictions[Side.SPATIAL])
        later = at.first and catches_up_later(at.step, self.settings, self.schedule)
        return Taken(blended, pulls, self._fork(at, predictions) if later else None)

    def _blend(self, text: Prediction, spatial: Prediction) -> Prediction:
        """Blend what both branches predict, and what their own functions make of it.

        Plain guidance is linear: of branches without functions the blend itself is guided.
        """
        weight, own = self.balancer.weight, None
        if text.own is not None or spatial.own is not None:
            own = blend(text.guided(self.cfg), spatial.guided(self.cfg), weight)
        return Prediction(
            blend(text.cond, spatial.cond, weight),
            blend(text.uncond, spatial.uncond, weight),
            blend(text.move, spatial.move, weight),
            own,
        )

    def _fork(self, at: Point, predictions: Mapping[Side, Prediction]) -> Fork:
        """x' = x + (sigma' - sigma) * eps, for each branch alone."""
        sigma = at.sigma.view(-1, 1, 1, 1)
        sigma_next = self._sigma_next(at).view(-1, 1, 1, 1)

        def led_by(side: Side) -> Tensor:
            prediction = predictions[side]
            conditional = self.settings.rules.conditional_only
            denoised = prediction.cond if conditional else prediction.guided(self.cfg)
            return next_latent(at.latent + prediction.move, denoised, sigma, sigma_next)

        return Fork(at.step, led_by(Side.TEXT), led_by(Side.SPATIAL))

    def _look_ahead(self, at: Point, fork: Fork) -> Mapping[Side, Pull]:
        """Eq. 6: the loss L of attention at the provisional x', and dL/dx'."""
        provisional = blend(fork.text, fork.spatial, self.balancer.weight)
        sigma = at.sigma if self.settings.rules.current_sigma else self._sigma_next(at)
        scales = {side: self._scale_at(at, branch) for side, branch in self.branches.items()}
        points = {s: Point(provisional * scale, sigma, at.step) for s, scale in scales.items()}
        found = self.passes.pull(self.branches, points)
        pulls = {side: pull.scaled(scales[side]) for side, pull in found.items()}
        self._follow(fork, pulls)
        return pulls

    def _scale_at(self, at: Point, branch: Branch) -> Tensor | float:
        """How x' is scaled where a branch reads it at timestep t, as the released code does.

        The network multiplies what it is given by c_in(sigma), and x' is due c_in(sigma').
        """
        if not self.settings.rules.current_sigma:
            return 1.0
        return branch.input_scale(self._sigma_next(at)) / branch.input_scale(at.sigma)

    def _follow(self, fork: Fork | None, pulls: Mapping[Side, Pull]) -> None:
        """Eq. 7: coef <- coef - step * dL/dcoef, by the chain rule through x'."""
        if fork is None or not pulls:
            return
        gradient = torch.zeros_like(fork.text)
        for side, pull in pulls.items():
            gradient = gradient + self.passes.loss_weights[side] * pull.gradient
        if self.mask is not None:
            gradient = self.mask * gradient  # no balance changes what is kept
        slope = balance_gradient(gradient, fork.text, fork.spatial, self.balancer.balance)
        readings = [reading for pull in pulls.values() for reading in pull.readings]
        cells = finest_cells(readings, slope)
        settled = settled_map(pulls[Side.TEXT].readings, slope)
        every = self.passes.every
        self.balancer.update(slope, fork.step, cells, settled, self._sampled(), every)

    def _nudge(self, at: Point, pulls: Mapping[Side, Pull]) -> Nudge | None:
        """The move against the gradient of eq. 6, as far as attention is outside its regions."""
        pull = pulls.get(Side.SPATIAL)
        if pull is None or not pull.readings:
            return None
        outside = share_outside(pull.readings, self.settings.object_weights).to(pull.gradient)
        direction = against(pull.gradient, outside, movable(self.mask))
        return Nudge(direction, at.sigma, self.passes.every, self.schedule.coordinates)

    def _sigma_next(self, at: Point) -> Tensor:
        return torch.full_like(at.sigma, self.schedule.sigmas[at.step + 1])

    def _sampled(self) -> Tensor | float:
        """The share of each sample's pixels that the sampler does not keep [B, 1, 1, 1]."""
        return 1.0 if self.mask is None else self.mask.float().mean(dim=(1, 2, 3), keepdim=True)


STEPS: dict[Kind, Callable[[RealCompo, Point, Fork | None], Taken]] = {
    Kind.ONE_SIDED: RealCompo.one_sided,
    Kind.SPATIAL_ONLY: RealCompo.spatial_only,
    Kind.NUDGED: RealCompo.nudged,
    Kind.REHEARSED: RealCompo.rehearsed,
    Kind.BLENDED: RealCompo.blended,
    Kind.LOOKED_AHEAD: RealCompo.looked_ahead,
    Kind.CAUGHT_UP: RealCompo.caught_up,
}
