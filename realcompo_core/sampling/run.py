"""The life of a run: a sampler asks for predictions, and the method answers in a moving frame."""

from __future__ import annotations

import logging
from collections.abc import Callable

from torch import Tensor

from ..errors import InputError
from .balancer import Balancer
from .branch import Point, Prediction, Side
from .kinds import BLENDING, Kind, kind_of, plain_kind
from .moving_frame import MovingFrame
from .nudge import Nudge
from .outcome import Fork, Taken
from .step import RealCompo
from .trace import Step, Trace


class Run:
    """One sampling run, at whatever sigmas its sampler asks.

    ``start`` makes the balancer for a latent [B, C, H, W]. ``guide`` guides a prediction, and adds
    what the sampler itself adds, at the latent [B, C, H, W] that the models see and sigma [B].
    ``frame`` leads from the sampler's latent to that one.
    """

    def __init__(
        self,
        method: RealCompo,
        start: Callable[[Tensor], Balancer],
        guide: Callable[[Prediction, Tensor, Tensor], Tensor],
        frame: MovingFrame,
        trace: Trace,
    ) -> None:
        self.method, self.start, self.guide = method, start, guide
        self.frame, self.trace = frame, trace
        self.fork: Fork | None = None  # of the step whose balance is to catch up
        self.nudge: Nudge | None = None  # the move that is pending until the next step
        self.last_step = -1
        self.warned = False

    def denoised(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the blended, guided prediction [B, C, H, W] at the sampler's latent.

        Raises :class:`InputError` where a sampler changes the latent's size on the way.
        """
        self._check_size(x)
        step = self.method.schedule.step(float(sigma.max()))
        if step > self.last_step:
            taken = self._begin(step, x, sigma)
        else:
            taken = self._go_on(step, x, sigma)
        self.frame.move(taken.prediction.move, sigma)
        return self.frame.told(self.guide(taken.prediction, self.frame.seen(x, sigma), sigma))

    def make_pending_move(self, sigma: Tensor) -> None:
        """Make the move that is pending, if one is, at the noise level [B] or [1] now reached."""
        if self.nudge is not None:
            move = self.nudge.at(sigma, self.method.settings.guidance)
            self.frame.move(move, sigma)
            self.nudge = None

    def _begin(self, step: int, x: Tensor, sigma: Tensor) -> Taken:
        """Make a step's first evaluation: only here is attention read."""
        self.make_pending_move(sigma)
        if self.method.started is None and len(self.method.branches) == 2:
            self.method.started = self.start(x)
        at = Point(self.frame.seen(x, sigma), sigma, step, first=True)
        kind = self._kind(step)
        taken = self.method.take(kind, at, self.fork)
        self.fork, self.nudge, self.last_step = taken.fork, taken.nudge, step
        self._record(at, kind, taken)
        return taken

    def _go_on(self, step: int, x: Tensor, sigma: Tensor) -> Taken:
        """Make a further evaluation of a step, as multi-stage samplers ask for them."""
        kind = plain_kind(step, self.method.settings, self.method.schedule)
        return self.method.take(kind, Point(self.frame.seen(x, sigma), sigma, step), None)

    def _kind(self, step: int) -> Kind:
        method, late = self.method, self.fork is not None
        nudges = method.settings.nudges and not method.branches[Side.SPATIAL].guides_itself
        return kind_of(step, method.settings, method.schedule, to_catch_up=late, nudges=nudges)

    def _check_size(self, x: Tensor) -> None:
        started = self.method.started
        size = x.shape[-2:] if started is None else started.balance.shape[-2:]
        if size != x.shape[-2:]:
            got = f"{size[0]} x {size[1]} cells, then {x.shape[-2]} x {x.shape[-1]}"
            fix = "Use a sampler that does not upscale while it samples."
            raise InputError("sampler", "latents of one size", got, fix)

    def _record(self, at: Point, kind: Kind, taken: Taken) -> None:
        weight = None
        if kind in BLENDING:
            weight = self.method.balancer.weight.float().cpu()
        pulls = taken.pulls
        readings = {side.value: p.readings for side, p in pulls.items() if p.readings}
        self.trace.steps.append(Step(at.step, float(at.sigma.max()), weight, readings))
        self._warn_if_not_finite(taken)

    def _warn_if_not_finite(self, taken: Taken) -> None:
        """Say once that attention without a finite gradient moves nothing."""
        finite = all(pull.gradient.isfinite().all() for pull in taken.pulls.values())
        if not finite and not self.warned:
            self.warned = True
            logging.warning(
                "RealCompo: attention is zero or not finite; it moves nothing at such steps"
            )
