"""Evaluations at pure noise of a model that a stock run holds ready: attention and predictions."""

from __future__ import annotations

from collections.abc import Sequence

import comfy.samplers
import torch
import torch.nn.functional as F
from comfy.model_patcher import create_model_options_clone
from torch import Tensor, nn

from ....realcompo_core.sampling.attention import pool
from ....realcompo_core.training.concepts import Example
from ..model.capture import EARLY_EXIT, Capture, watch
from ..model.readers.families import unet_of
from ..model.readers.reader import Layer
from ..model.repairs import differentiable_options
from .key_adapter import KeyAdapter

EXAMPLE = "realcompo_example"  # key in a conditioning's options of the example that it encodes


class NoiseEvaluations:
    """Evaluations that a backward pass can go through, of latents [rows, C, H, W].

    Latents are pure noise, noised once more to a timestep drawn for each row: the method needs no
    pictures. ``shape`` is (any, C, H, W), in latent cells.
    """

    def __init__(
        self,
        guider: comfy.samplers.CFGGuider,
        options: dict,
        adapter: KeyAdapter,
        layers: Sequence[Layer],
        shape: Sequence[int],
    ) -> None:
        self.guider, self.options, self.adapter = guider, options, adapter
        self.layers, self.shape = layers, shape
        self.model = guider.inner_model

    def modules(self) -> list[nn.Module]:
        """Return every module that an evaluation runs through."""
        patchers = [self.guider.model_patcher, *self.guider.loaded_models]
        models = [getattr(patcher, "model", None) for patcher in patchers]
        return [model for model in models if isinstance(model, nn.Module)]

    def attention(self, example: Example, rows: int, generator: torch.Generator) -> Tensor:
        """Return maps [rows, objects, h, w] of the example's objects, pooled over heads and layers.

        The evaluation stops after the last layer that is read.
        """
        conds = self._conds(example)
        watched = watch(conds, (self.shape[-2], self.shape[-1]))
        latent, sigma = self._noise(rows, generator)
        capture = Capture(watched, unet_of(self.model), self.layers, latent)
        options = differentiable_options(capture.install(self.options, EARLY_EXIT))
        comfy.samplers.calc_cond_batch(self.model, [conds], latent, sigma, options)
        return pool([attention for _, attention in capture.pooled()])

    def departure(self, example: Example, rows: int, generator: torch.Generator) -> Tensor:
        """Return the norm loss []: how far training moved the model's prediction for the example.

        It is the mean squared difference of the noise that the trained and the untrained model
        predict.
        """
        latent, sigma = self._noise(rows, generator)
        with self.adapter.silenced(), torch.no_grad():
            before = self._denoised(example, latent, sigma)
        after = self._denoised(example, latent, sigma)
        return F.mse_loss(after / _wide(sigma), before / _wide(sigma))

    def _denoised(self, example: Example, latent: Tensor, sigma: Tensor) -> Tensor:
        options = differentiable_options(create_model_options_clone(self.options))
        conds = [self._conds(example)]
        return comfy.samplers.calc_cond_batch(self.model, conds, latent, sigma, options)[0]

    def _conds(self, example: Example) -> list[dict]:
        return [cond for cond in self.guider.conds["positive"] if cond[EXAMPLE] == example]

    def _noise(self, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw latents and their sigmas [rows], on the CPU, so that every device agrees."""
        sampling, device = self.model.model_sampling, self.guider.model_patcher.load_device
        timesteps = torch.randint(len(sampling.sigmas), (rows,), generator=generator)
        start, noise = torch.randn(2, rows, *self.shape[1:], generator=generator).to(device)
        sigma = sampling.sigmas.to(device)[timesteps.to(device)]
        return sampling.noise_scaling(_wide(sigma), noise, start), sigma


def _wide(sigma: Tensor) -> Tensor:
    return sigma.view(-1, 1, 1, 1)
