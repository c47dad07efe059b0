"""RealCompo's sampling step: the method of the paper, on two branches."""

from __future__ import annotations

import logging
import math

import comfy.samplers
import torch
from torch import Tensor

from ...realcompo_core.balancer import Balancer, BalancerSettings, Mode, balance_gradient, blend, next_latent
from ...realcompo_core.schedule import Schedule
from ...realcompo_core.trace import Step, Trace
from .branch import Branch, Prediction, Pull
from .capture import OPTION, grounded


class Run:
    """The state of one sampling run: two branches, the balance between them and the trace.

    A branch is None where the mode leaves it out.
    """

    def __init__(
        self, text: Branch | None, spatial: Branch | None, settings: BalancerSettings, schedule: Schedule, seed: int,
        cfg: float, trace: Trace,
    ) -> None:  # fmt: skip
        self.text, self.spatial, self.settings = text, spatial, settings
        self.schedule, self.seed, self.cfg, self.trace = schedule, seed, cfg, trace
        self.balancer: Balancer | None = None
        self.last_step = -1
        self.warned = False

    def denoised(self, latent: Tensor, sigma: Tensor, options: dict) -> Tensor:
        """The blended, guided prediction at a latent [B, C, H, W]; ``sigma`` [B], ``options`` the sampler's own."""
        step = self.schedule.step(float(sigma.max()))
        text, spatial = self._predict(step, latent, sigma, options)
        pulls: dict[str, Pull] = {}
        if self._blends() and self.balancer is None:
            self.balancer = self._start(latent)
        if step > self.last_step and self._balances(step):
            pulls = self._rebalance(step, latent, sigma, text, spatial)
        prediction = self._blended(step, text, spatial)
        self._record(step, sigma, pulls)
        return self._guide(prediction, latent, sigma, options)

    def _predict(
        self, step: int, latent: Tensor, sigma: Tensor, options: dict
    ) -> tuple[Prediction | None, Prediction | None]:
        uncond = self.cfg_needs_uncond(options)
        warm = self._blends() and self.schedule.warming_up(step)
        text = spatial = None
        if self.text is not None:
            self.text.options = options
        elif self.spatial is not None:
            self.spatial.options = options
        if self.text is not None and not (warm and not self._balances(step)):
            text = self.text.predict(latent, sigma, self.text.options, uncond=uncond)
        if self.spatial is not None:
            spatial = self.spatial.predict(latent, sigma, self.spatial.options, uncond=uncond)
        return text, spatial

    def _rebalance(
        self, step: int, latent: Tensor, sigma: Tensor, text: Prediction, spatial: Prediction
    ) -> dict[str, Pull]:
        """RealCompo eq. 6-7: read attention at the provisional next latent, move the balance down its loss."""
        rules, balancer = self.settings.rules, self.balancer
        text_denoised, spatial_denoised = (
            p.cond if rules.conditional_only else p.guided(self.cfg) for p in (text, spatial)
        )
        sigma_now = sigma.view(-1, 1, 1, 1)
        sigma_next = torch.full_like(sigma_now, self.schedule.sigmas[step + 1])
        provisional = next_latent(
            latent, blend(text_denoised, spatial_denoised, balancer.weight), sigma_now, sigma_next
        )
        scale, at = self._attention_at(sigma, sigma_next.flatten())
        pulls = {
            branch.name: branch.pull(
                provisional * scale, at, self.settings, gradient=rules.text_gradient or branch is self.spatial
            )
            for branch in (self.text, self.spatial)
        }  # fmt: skip
        gradient = scale * sum(pull.gradient for pull in pulls.values())
        slope = balance_gradient(gradient, text_denoised, spatial_denoised, balancer.balance, sigma_now, sigma_next)
        self._warn(balancer.update(slope, step, self._cells(pulls)))
        return pulls

    def _attention_at(self, sigma: Tensor, sigma_next: Tensor) -> tuple[Tensor | float, Tensor]:
        """The sigma at which attention is read, and the latent's scale there.

        With the current timestep the network must still see the next latent as it is, so the host's
        input scaling is exchanged for that of the next sigma.
        """
        if not self.settings.rules.current_sigma:
            return 1.0, sigma_next
        one = torch.ones_like(sigma.view(-1, 1, 1, 1))
        sampling = self.text.model.model_sampling
        return sampling.calculate_input(sigma_next, one) / sampling.calculate_input(sigma, one), sigma

    def _blended(self, step: int, text: Prediction | None, spatial: Prediction | None) -> Prediction:
        if text is None or (self._blends() and self.schedule.warming_up(step)):
            return spatial
        if spatial is None:
            return text
        weight = self.balancer.weight
        return Prediction(blend(text.cond, spatial.cond, weight), blend(text.uncond, spatial.uncond, weight))

    def _guide(self, prediction: Prediction, latent: Tensor, sigma: Tensor, options: dict) -> Tensor:
        conds = (self.text or self.spatial).guider.conds
        uncond = conds.get("negative") if self.cfg_needs_uncond(options) else None
        return comfy.samplers.cfg_function(
            (self.text or self.spatial).model, prediction.cond, prediction.uncond, self.cfg, latent, sigma,
            model_options=options, cond=conds["positive"], uncond=uncond,
        )  # fmt: skip

    def cfg_needs_uncond(self, options: dict) -> bool:
        return not math.isclose(self.cfg, 1.0) or options.get("disable_cfg1_optimization", False)

    def _blends(self) -> bool:
        return self.text is not None and self.spatial is not None

    def _balances(self, step: int) -> bool:
        dynamic = self.settings.mode is Mode.DYNAMIC
        return dynamic and self.schedule.balances(step, in_warmup=self.settings.rules.update_in_warmup)

    def _start(self, latent: Tensor) -> Balancer:
        height, width = latent.shape[-2:]
        found = [cond[OPTION].objects(height, width).regions for cond in grounded(self.spatial.positive)]
        regions = torch.cat(found) if found else torch.zeros(1, height, width)
        return Balancer(self.settings, regions.to(latent), latent.shape[0], self.seed, self.schedule.steps)

    @staticmethod
    def _cells(pulls: dict[str, Pull]) -> tuple[int, int]:
        sizes = [reading.attention.shape[-2:] for pull in pulls.values() for reading in pull.readings]
        return max(sizes, key=lambda size: size[0] * size[1], default=(1, 1))

    def _warn(self, moved: Tensor) -> None:
        if not moved.all() and not self.warned:
            self.warned = True
            logging.warning("RealCompo: attention is zero or not finite; the balance stays as it is at such steps")

    def _record(self, step: int, sigma: Tensor, pulls: dict[str, Pull]) -> None:
        if step <= self.last_step:
            return
        self.last_step = step
        warm = self.schedule.warming_up(step)
        weight = self.balancer.weight.float().cpu() if self.balancer is not None and not warm else None
        readings = {name: pull.readings for name, pull in pulls.items() if pull.readings}
        self.trace.steps.append(Step(step, float(sigma.max()), weight, readings))
