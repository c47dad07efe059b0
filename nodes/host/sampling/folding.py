"""Latents with a time (Qwen-Image, Wan, Krea 2), of which a still picture has one moment.

The core knows latents [B, C, H, W]. Only such a picture's are folded to that shape. What a video's
are, they stay: modes of one branch do nothing to them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ....realcompo_core.errors import InputError
from ....realcompo_core.sampling.moving_frame import MovingFrame

TIMED = 3  # dimensions of a latent that has a time


def flat(latent: Tensor) -> Tensor:
    """Return a still picture's latent [B, C, H, W], of [B, C, 1, H, W]; any other as it is."""
    return latent.squeeze(2) if latent.ndim == 5 and latent.shape[2] == 1 else latent


def whole(latent: Tensor, model: Any) -> Tensor:
    """Return a latent as the host's model takes it: [B, C, 1, H, W] where it has a time."""
    timed = model.latent_format.latent_dimensions == TIMED
    return latent.unsqueeze(2) if timed and latent.ndim == 4 else latent


def check_still(latent: Tensor, way_out: str) -> None:
    """Raise :class:`InputError` unless a latent [B, C, ...] is of still pictures.

    ``way_out`` is what a user can do with others.
    """
    if not latent.is_nested and (latent.ndim == 4 or (latent.ndim == 5 and latent.shape[2] == 1)):
        return
    got = "another kind of latent"
    if not latent.is_nested and latent.ndim == 5:
        got = f"a video's, of {latent.shape[2]} moments"
    fix = f"Make a latent of length 1, or {way_out}."
    raise InputError("latent_image", "a still picture's latent", got, fix)


def reporting(callback: Callable | None, frame: MovingFrame, model: Any) -> Callable | None:
    """Return a sampler's callback (step, denoised, latent, total), told what the models see."""
    if callback is None:
        return None

    def report(step: int, denoised: Tensor, latent: Tensor, total: int) -> Any:
        seen = frame.pictured(flat(denoised)), frame.shown(flat(latent))
        return callback(step, whole(seen[0], model), whole(seen[1], model), total)

    return report
