"""RealCompo's sampling step: the method of the paper, on two branches."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import comfy.model_management
import comfy.samplers
import torch
from torch import Tensor

from ....realcompo_core.errors import InputError
from ....realcompo_core.sampling.attention import settled
from ....realcompo_core.sampling.balancer import Balancer, balance_gradient, blend, next_latent
from ....realcompo_core.sampling.branch import Prediction, Pull
from ....realcompo_core.sampling.nudge import Nudge, against
from ....realcompo_core.sampling.schedule import Schedule
from ....realcompo_core.sampling.settings import BalancerSettings, Mode
from ....realcompo_core.sampling.trace import Reading, Step, Trace, share_outside
from ....realcompo_core.words.grounding import OPTION, grounded
from .branch import Branch
from .latent_guidance import guidances_of, guided, movable
from .objective import composition


class Run:
    """The state of one sampling run: two branches, the balance between them and the trace.

    A branch is None where the mode leaves it out.
    """

    def __init__(
        self,
        text: Branch | None,
        spatial: Branch | None,
        settings: BalancerSettings,
        schedule: Schedule,
        seed: int,
        cfg: float,
        trace: Trace,
    ) -> None:
        self.text, self.spatial, self.settings = text, spatial, settings
        self.schedule, self.seed, self.cfg, self.trace = schedule, seed, cfg, trace
        self.objective = composition(settings)
        self.balancer: Balancer | None = None
        self.mask: Tensor | None = None  # 0 where an inpainting sampler keeps the latent
        self.offset: Tensor | float = (
            0.0  # from the sampler's latent to the one that guidance has led to
        )
        self.nudge: Nudge | None = None  # the warm-up's move that waits for the next step
        self.ahead: tuple[Tensor, Tensor] | None = (
            None  # where each branch alone led a step whose balance waits
        )
        self.last_step = -1
        self.warned = False

    @property
    def primary(self) -> Branch:
        """The branch whose options the sampler knows, and whose guidance is applied."""
        return self.text or self.spatial

    def denoised(self, latent: Tensor, sigma: Tensor, options: dict) -> Tensor:
        """The blended, guided prediction at a latent [B, C, H, W]; ``sigma`` [B], ``options`` the sampler's own."""
        self._check_size(latent)
        step = self.schedule.step(float(sigma.max()))
        self.primary.options = options
        if step > self.last_step:
            text, spatial = self._begin(step, latent, sigma)
        else:
            text, spatial = self._predict(step, latent + self.offset, sigma)
        blended = self._blended(step, text, spatial)
        self.offset = self.offset + blended.move
        return self._guide(blended, latent + self.offset, sigma) - self.offset

    def settle(self, sigma: Tensor) -> None:
        """Make the move that is waiting, at the noise level [B] or [1] now reached."""
        if self.nudge is not None:
            self.offset = self.offset + self.nudge.at(sigma, self.settings.guidance)
            self.nudge = None

    def _begin(
        self, step: int, latent: Tensor, sigma: Tensor
    ) -> tuple[Prediction | None, Prediction | None]:
        """The predictions of a step's first evaluation: here attention is read, and what follows it moves."""
        self.settle(sigma)
        shared = latent + self.offset
        if self._blends() and self.balancer is None:
            self.balancer = self._start(latent)
        text, spatial, pulls = self._predict_first(step, shared, sigma)
        self._record(step, sigma, pulls)
        self.ahead = (
            self._next_latents(step, shared, sigma, text, spatial) if self._waits(step) else None
        )
        return text, spatial

    def _predict_first(
        self, step: int, latent: Tensor, sigma: Tensor
    ) -> tuple[Prediction | None, Prediction | None, dict[str, Pull]]:
        if self.ahead is not None:
            return self._rebalance_late(step, latent, sigma)
        if self._nudges(step):
            return self._nudge_late(step, latent, sigma)
        text, spatial = self._predict(step, latent, sigma)
        pulls = (
            self._rebalance(step, latent, sigma, text, spatial) if self._looks_ahead(step) else {}
        )
        return text, spatial, pulls

    def _check_size(self, latent: Tensor) -> None:
        size = None if self.balancer is None else self.balancer.balance.shape[-2:]
        if size not in (None, latent.shape[-2:]):
            got = f"{size[0]} x {size[1]} cells, then {latent.shape[-2]} x {latent.shape[-1]}"
            fix = "Use a sampler that does not upscale while it samples."
            raise InputError("sampler", "latents of one size", got, fix)

    def _predict(
        self, step: int, latent: Tensor, sigma: Tensor
    ) -> tuple[Prediction | None, Prediction | None]:
        """Both branches' predictions; None for one that this step does not need."""
        skips_text = self._warming_up(step) and not self._looks_ahead(step)
        uncond = self._needs_uncond()

        def predict(branch: Branch | None) -> Prediction | None:
            if branch is None or (skips_text and branch is self.text):
                return None
            moved = self._guided(branch, step, latent, sigma)
            return _moved(branch.predict(moved, sigma, uncond=uncond), latent, moved)

        return predict(self.text), predict(self.spatial)

    def _guided(self, branch: Branch, step: int, latent: Tensor, sigma: Tensor) -> Tensor:
        """Where a branch's own guidance, if it has any, leads the latent at a step's first evaluation."""
        if step <= self.last_step:
            return latent
        return guided(branch, latent, sigma, movable(self.mask), step, self.schedule.steps)

    def _rebalance(
        self, step: int, latent: Tensor, sigma: Tensor, text: Prediction, spatial: Prediction
    ) -> dict[str, Pull]:
        """RealCompo eq. 6-7: read attention at the provisional next latent, move the balance down its loss."""
        ahead = self._next_latents(step, latent, sigma, text, spatial)
        provisional = blend(*ahead, self.balancer.weight)
        scale, at = self._attention_at(
            sigma, torch.full_like(sigma, self.schedule.sigmas[step + 1])
        )
        weights = self._loss_weights()

        def pull(branch: Branch) -> Pull:
            found = branch.pull(
                provisional * scale, at, self.objective, gradient=weights[branch.name] > 0
            )
            return replace(found, gradient=scale * found.gradient)

        pulls = self._within_memory(
            lambda: {branch.name: pull(branch) for branch in (self.text, self.spatial)}
        )
        self._follow(step, pulls, ahead)
        return pulls

    def _rebalance_late(
        self, step: int, latent: Tensor, sigma: Tensor
    ) -> tuple[Prediction, Prediction, dict[str, Pull]]:
        """Online balancing: the predictions of this step, whose graphs say what the last step's balance has led to."""
        found, pulls = self._predict_and_pull((self.text, self.spatial), step, latent, sigma)
        self._follow(self.last_step, pulls, self.ahead)
        return found["text"], found["spatial"], pulls

    def _nudge_late(
        self, step: int, latent: Tensor, sigma: Tensor
    ) -> tuple[None, Prediction, dict[str, Pull]]:
        """A warm-up step's prediction, whose graph says where the next step's latent is to go."""
        found, pulls = self._predict_and_pull((self.spatial,), step, latent, sigma)
        if pulls and (pull := pulls["spatial"]).readings:
            outside = share_outside(pull.readings, self.settings.object_weights).to(pull.gradient)
            self.nudge = Nudge(
                against(pull.gradient, outside, movable(self.mask)), sigma, self.balancer.every
            )
            self._warn(pull.gradient.isfinite().all(dim=(1, 2, 3)))
        return None, found["spatial"], pulls

    def _predict_and_pull(
        self, branches: Sequence[Branch], step: int, latent: Tensor, sigma: Tensor
    ) -> tuple[dict[str, Prediction], dict[str, Pull]]:
        """Predictions and, while memory lasts, what the attention in them asks for."""
        weights, uncond = self._loss_weights(), self._needs_uncond()
        moved = {branch.name: self._guided(branch, step, latent, sigma) for branch in branches}
        found: dict[str, Prediction] = {}

        def look(branch: Branch) -> Pull:
            found[branch.name], pull = branch.predict_and_pull(
                moved[branch.name],
                sigma,
                self.objective,
                uncond=uncond,
                gradient=weights[branch.name] > 0,
            )
            return pull

        pulls = self._within_memory(lambda: {branch.name: look(branch) for branch in branches})
        if not pulls:
            found = {
                branch.name: branch.predict(moved[branch.name], sigma, uncond=uncond)
                for branch in branches
            }
        return {
            name: _moved(prediction, latent, moved[name]) for name, prediction in found.items()
        }, pulls

    def _within_memory(self, passes: Callable[[], dict[str, Pull]]) -> dict[str, Pull]:
        """What gradient passes find; where memory is short, from now on with checkpointing, and once that is not
        enough, nothing, and from now on half as often."""
        for _ in range(2):
            try:
                return passes()
            except comfy.model_management.OOM_EXCEPTION:
                pass  # the exception's frames hold the pass's tensors until here
            comfy.model_management.soft_empty_cache()
            if self.objective.checkpointing:
                break
            logging.warning(
                "RealCompo: memory is short for attention's gradient; from here on with checkpointing"
            )
            self.objective = replace(self.objective, checkpointing=True)
        self.schedule = replace(self.schedule, every=2 * self.schedule.every)
        self.balancer.every = self.schedule.every
        logging.warning(
            "RealCompo: memory is short for attention's gradient even so; this step goes without, "
            "and so do all but one in %d from here on",
            self.schedule.every,
        )
        return {}

    def _follow(self, step: int, pulls: dict[str, Pull], ahead: tuple[Tensor, Tensor]) -> None:
        """RealCompo eq. 7: move the balance of a step down the loss of the latent that it led to."""
        if not pulls:
            return
        weights = self._loss_weights()
        gradient = sum(weights[name] * pull.gradient for name, pull in pulls.items())
        slope = balance_gradient(self._masked(gradient), *ahead, self.balancer.balance)
        settled = self._settled(pulls["text"], slope)
        self._warn(
            self.balancer.update(slope, step, self._cells(pulls, slope), settled, self._sampled())
        )

    def _next_latents(
        self, step: int, latent: Tensor, sigma: Tensor, text: Prediction, spatial: Prediction
    ) -> tuple[Tensor, Tensor]:
        """Where each branch alone would lead a step."""
        sigma_now = sigma.view(-1, 1, 1, 1)
        sigma_next = torch.full_like(sigma_now, self.schedule.sigmas[step + 1])

        def ahead(p: Prediction) -> Tensor:
            denoised = p.cond if self.settings.rules.conditional_only else p.guided(self.cfg)
            return next_latent(latent + p.move, denoised, sigma_now, sigma_next)

        return ahead(text), ahead(spatial)

    def _loss_weights(self) -> dict[str, float]:
        """How much of the balance's gradient is each branch's."""
        settings = self.settings
        return {
            "text": settings.text_loss * settings.rules.text_gradient,
            "spatial": settings.spatial_loss,
        }

    def _attention_at(self, sigma: Tensor, sigma_next: Tensor) -> tuple[Tensor | float, Tensor]:
        """The sigma at which attention is read, and the latent's scale there.

        With the current timestep the network must still see the next latent as it is, so the host's
        input scaling is exchanged for that of the next sigma.
        """
        if not self.settings.rules.current_sigma:
            return 1.0, sigma_next
        one = torch.ones_like(sigma.view(-1, 1, 1, 1))
        sampling = self.text.model.model_sampling
        return sampling.calculate_input(sigma_next, one) / sampling.calculate_input(
            sigma, one
        ), sigma

    def _blended(
        self, step: int, text: Prediction | None, spatial: Prediction | None
    ) -> Prediction:
        if text is None or self._warming_up(step):
            return spatial
        if spatial is None:
            return text
        weight = self.balancer.weight
        return Prediction(
            blend(text.cond, spatial.cond, weight),
            blend(text.uncond, spatial.uncond, weight),
            blend(text.move, spatial.move, weight),
        )

    def _guide(self, prediction: Prediction, latent: Tensor, sigma: Tensor) -> Tensor:
        """Classifier-free guidance, with the primary model's own functions, at the latent that is evaluated."""
        conds = self.primary.guider.conds
        return comfy.samplers.cfg_function(
            self.primary.model,
            prediction.cond,
            prediction.uncond,
            self.cfg,
            latent,
            sigma,
            model_options=self._cfg_options(),
            cond=conds["positive"],
            uncond=conds.get("negative") if self._needs_uncond() else None,
        )

    def _cfg_options(self) -> dict:
        """The options, in which functions that the sampler has added see the sampler's own latent and predictions."""
        options, key = self.primary.options, "sampler_post_cfg_function"
        own = self.primary.guider.model_options.get(key, ())
        return options | {
            key: [f if f in own else self._in_samplers_place(f) for f in options.get(key, ())]
        }

    def _in_samplers_place(self, function: Callable) -> Callable:
        offset, names = self.offset, ("denoised", "cond_denoised", "uncond_denoised", "input")
        return lambda args: function(args | {name: args[name] - offset for name in names}) + offset

    def _needs_uncond(self) -> bool:
        asked = self.primary.options.get("disable_cfg1_optimization", False)
        return asked or not math.isclose(self.cfg, 1.0)

    def _warming_up(self, step: int) -> bool:
        return self._blends() and self.schedule.warming_up(step)

    def _blends(self) -> bool:
        return self.text is not None and self.spatial is not None

    def _nudges(self, step: int) -> bool:
        """Whether this step's attention moves the latent; that of a model which is guided by itself does already."""
        reads = self._warming_up(step) and self.schedule.balances(step, in_warmup=True)
        return (
            reads and self.settings.nudges and not guidances_of(self.spatial.guider.model_patcher)
        )

    def _looks_ahead(self, step: int) -> bool:
        """Whether the balance of this step moves before its blend."""
        return not self.settings.looks_back and self._balances(step)

    def _waits(self, step: int) -> bool:
        """Whether the balance of this step moves once its latent is reached."""
        return self.settings.looks_back and self._balances(step)

    def _balances(self, step: int) -> bool:
        dynamic = self.settings.mode is Mode.DYNAMIC
        return dynamic and self.schedule.balances(
            step, in_warmup=self.settings.rules.update_in_warmup
        )

    def _start(self, latent: Tensor) -> Balancer:
        height, width = latent.shape[-2:]
        found = [
            cond[OPTION].objects(height, width).regions for cond in grounded(self.spatial.positive)
        ]
        regions = torch.cat(found) if found else torch.zeros(1, height, width)
        return Balancer(
            self.settings, regions.to(latent), latent.shape[0], self.seed, self.schedule.steps
        )

    @staticmethod
    def _settled(pull: Pull, slope: Tensor) -> Tensor:
        """Where no reading has anything left to place [B, 1, H, W], of ``slope``'s size; nowhere without readings."""
        whole = torch.ones_like(slope) if pull.readings else torch.zeros_like(slope)
        for reading in pull.readings:
            found = settled(reading.attention, reading.objects.parts).to(slope)
            (y, x), (height, width) = reading.objects.corner, found.shape[-2:]
            area = whole[..., y : y + height, x : x + width]
            area.copy_(torch.minimum(area, found))
        return whole

    def _sampled(self) -> Tensor | float:
        """Share of each sample's pixels that an inpainting sampler does not keep [B, 1, 1, 1]."""
        return 1.0 if self.mask is None else self.mask.float().mean(dim=(1, 2, 3), keepdim=True)

    def _masked(self, gradient: Tensor) -> Tensor:
        """Without what an inpainting sampler keeps, which no balance changes."""
        return gradient if self.mask is None else self.mask * gradient

    @staticmethod
    def _cells(pulls: dict[str, Pull], slope: Tensor) -> tuple[int, int]:
        """How many attention cells (rows, columns) ``slope`` has, at the finest that was read; an area's are fewer."""

        def cells(reading: Reading) -> tuple[int, int]:
            sizes = zip(
                slope.shape[-2:],
                reading.objects.regions.shape[-2:],
                reading.attention.shape[-2:],
                strict=True,
            )
            rows, columns = (round(whole / area * own) for whole, area, own in sizes)
            return rows, columns

        found = [cells(reading) for pull in pulls.values() for reading in pull.readings]
        return max(found, key=lambda size: size[0] * size[1], default=(1, 1))

    def _warn(self, moved: Tensor) -> None:
        if not moved.all() and not self.warned:
            self.warned = True
            logging.warning(
                "RealCompo: attention is zero or not finite; it moves nothing at such steps"
            )

    def _record(self, step: int, sigma: Tensor, pulls: dict[str, Pull]) -> None:
        self.last_step = step
        blended = self.balancer is not None and not self._warming_up(step)
        weight = self.balancer.weight.float().cpu() if blended else None
        readings = {name: pull.readings for name, pull in pulls.items() if pull.readings}
        self.trace.steps.append(Step(step, float(sigma.max()), weight, readings))


def _moved(prediction: Prediction, latent: Tensor, moved: Tensor) -> Prediction:
    return prediction if moved is latent else replace(prediction, move=moved - latent)
