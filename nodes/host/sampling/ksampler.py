"""What the stock KSampler does around its guider, step for step, for a guider of any kind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from torch import Tensor

RATIOS = ("downscale_ratio_spacial", "downscale_ratio_temporal")  # of an empty latent

Latent = dict[str, Any]


def sampler_names() -> list[str]:
    """Return what the host samples with now: other packs may have added to it."""
    return comfy.samplers.KSampler.SAMPLERS


def scheduler_names() -> list[str]:
    """Return how the host can spread the noise over steps now."""
    return comfy.samplers.KSampler.SCHEDULERS


@dataclass(frozen=True)
class KSampling:
    """Hold the settings of a KSampler that are not its guider's."""

    seed: int
    steps: int
    sampler_name: str
    scheduler: str
    denoise: float

    def sample(self, guider: Any, latent: Latent, callback: Callable | None = None) -> Latent:
        """Return the denoised latent; without a ``callback`` previews are the stock ones."""
        patcher = guider.model_patcher
        with _untouched_rng(patcher.load_device):
            start = self._start(patcher, latent)
            samples = guider.sample(
                comfy.sample.prepare_noise(start, self.seed, latent.get("batch_index")),
                start,
                comfy.samplers.sampler_object(self.sampler_name),
                self._sigmas(patcher),
                denoise_mask=latent.get("noise_mask"),
                callback=callback or latent_preview.prepare_callback(patcher, self.steps),
                disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
                seed=self.seed,
            )
        kept = {key: value for key, value in latent.items() if key not in RATIOS}
        device = comfy.model_management.intermediate_device()
        return kept | {"samples": samples.to(device, _intermediate_dtype())}

    def _start(self, patcher: Any, latent: Latent) -> Tensor:
        """Return the latent to start from, with the model's channels if it is empty."""
        ratios = {key: latent[key] for key in RATIOS if key in latent}
        return comfy.sample.fix_empty_latent_channels(patcher, latent["samples"], **ratios)

    def _sigmas(self, patcher: Any) -> Tensor:
        """Return the noise levels [steps + 1] that the stock KSampler takes."""
        stock = comfy.samplers.KSampler(
            patcher,
            self.steps,
            patcher.load_device,
            self.sampler_name,
            self.scheduler,
            self.denoise,
        )
        return stock.sigmas


def _intermediate_dtype() -> torch.dtype:
    """Return what the host keeps latents in between nodes; older hosts keep fp32."""
    return getattr(comfy.model_management, "intermediate_dtype", lambda: torch.float32)()


def _untouched_rng(device: torch.device) -> AbstractContextManager:
    """Give torch's global generator back as it was: the host draws noise from it."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
