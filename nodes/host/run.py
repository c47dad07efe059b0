"""RealCompo's sampling step: the method of the paper, on two branches."""

from __future__ import annotations

import logging
import math

import comfy.samplers
import torch
from torch import Tensor

from ...realcompo_core.attention import settled
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

    @property
    def primary(self) -> Branch:
        """The branch whose options the sampler knows, and whose guidance is applied."""
        return self.text or self.spatial

    def denoised(self, latent: Tensor, sigma: Tensor, options: dict) -> Tensor:
        """The blended, guided prediction at a latent [B, C, H, W]; ``sigma`` [B], ``options`` the sampler's own."""
        step = self.schedule.step(float(sigma.max()))
        first_of_step = step > self.last_step
        self.primary.options = options
        text, spatial = self._predict(step, latent, sigma)
        pulls: dict[str, Pull] = {}
        if self._blends() and self.balancer is None:
            self.balancer = self._start(latent)
        if first_of_step and self._balances(step):
            pulls = self._rebalance(step, latent, sigma, text, spatial)
        if first_of_step:
            self._record(step, sigma, pulls)
        return self._guide(self._blended(step, text, spatial), latent, sigma)

    def _predict(self, step: int, latent: Tensor, sigma: Tensor) -> tuple[Prediction | None, Prediction | None]:
        """Both branches' predictions; None for one that this step does not need."""
        skips_text = self._warming_up(step) and not self._balances(step)
        text = None if self.text is None or skips_text else self._predict_one(self.text, latent, sigma)
        return text, None if self.spatial is None else self._predict_one(self.spatial, latent, sigma)

    def _predict_one(self, branch: Branch, latent: Tensor, sigma: Tensor) -> Prediction:
        return branch.predict(latent, sigma, uncond=self._needs_uncond())

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
        self._warn(balancer.update(slope, step, self._cells(pulls), self._settled(pulls["text"]).to(slope)))
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
        if text is None or self._warming_up(step):
            return spatial
        if spatial is None:
            return text
        weight = self.balancer.weight
        return Prediction(blend(text.cond, spatial.cond, weight), blend(text.uncond, spatial.uncond, weight))

    def _guide(self, prediction: Prediction, latent: Tensor, sigma: Tensor) -> Tensor:
        primary = self.primary
        conds = primary.guider.conds
        return comfy.samplers.cfg_function(
            primary.model, prediction.cond, prediction.uncond, self.cfg, latent, sigma, model_options=primary.options,
            cond=conds["positive"], uncond=conds.get("negative") if self._needs_uncond() else None,
        )  # fmt: skip

    def _needs_uncond(self) -> bool:
        asked = self.primary.options.get("disable_cfg1_optimization", False)
        return asked or not math.isclose(self.cfg, 1.0)

    def _warming_up(self, step: int) -> bool:
        return self._blends() and self.schedule.warming_up(step)

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
    def _settled(pull: Pull) -> Tensor:
        maps = [settled(reading.attention, reading.regions) for reading in pull.readings]
        return torch.stack(maps).amin(0) if maps else torch.zeros(())

    @staticmethod
    def _cells(pulls: dict[str, Pull]) -> tuple[int, int]:
        sizes = [reading.attention.shape[-2:] for pull in pulls.values() for reading in pull.readings]
        return max(sizes, key=lambda size: size[0] * size[1], default=(1, 1))

    def _warn(self, moved: Tensor) -> None:
        if not moved.all() and not self.warned:
            self.warned = True
            logging.warning("RealCompo: attention is zero or not finite; the balance stays as it is at such steps")

    def _record(self, step: int, sigma: Tensor, pulls: dict[str, Pull]) -> None:
        self.last_step = step
        blended = self.balancer is not None and not self._warming_up(step)
        weight = self.balancer.weight.float().cpu() if blended else None
        readings = {name: pull.readings for name, pull in pulls.items() if pull.readings}
        self.trace.steps.append(Step(step, float(sigma.max()), weight, readings))
