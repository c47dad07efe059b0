"""Classifier-free guidance of the blended prediction."""

from __future__ import annotations

import math
from collections.abc import Callable

import comfy.samplers
from torch import Tensor

from ....realcompo_core.sampling.branch import Prediction
from ....realcompo_core.sampling.moving_frame import MovingFrame
from .prepared_model import PreparedModel

POST_CFG = "sampler_post_cfg_function"


class BlendGuidance:
    """Guides the blend as the stock sampler guides one model, by that of the ``primary`` branch.

    Functions that the model carries see the latent that the models see; those that the sampler has
    added see the sampler's own latent and predictions.
    """

    def __init__(self, primary: PreparedModel, cfg: float, frame: MovingFrame) -> None:
        self.primary, self.cfg, self.frame = primary, cfg, frame

    def __call__(self, prediction: Prediction, latent: Tensor, sigma: Tensor) -> Tensor:
        """Return the guided prediction [B, C, H, W], at a latent [B, C, H, W] and sigma [B]."""
        primary = self.primary
        return comfy.samplers.cfg_function(
            primary.model,
            prediction.cond,
            prediction.uncond,
            self.cfg,
            latent,
            sigma,
            model_options=self._options(),
            cond=primary.positive,
            uncond=primary.negative,
        )

    def _options(self) -> dict:
        options = self.primary.options
        own = self.primary.guider.model_options.get(POST_CFG, ())
        functions = []
        for function in options.get(POST_CFG, ()):
            functions.append(function if function in own else self._in_samplers_frame(function))
        return options | {POST_CFG: functions}

    def _in_samplers_frame(self, function: Callable) -> Callable:
        offset = self.frame.offset

        def moved(args: dict) -> Tensor:
            names = ("denoised", "cond_denoised", "uncond_denoised", "input")
            return function(args | {name: args[name] - offset for name in names}) + offset

        return moved


def needs_uncond(cfg: float, options: dict) -> bool:
    """Say whether guidance needs the negative's prediction, as the stock sampler decides it."""
    return options.get("disable_cfg1_optimization", False) or not math.isclose(cfg, 1.0)
