"""The balance map beside the latent's preview while a run samples."""

from __future__ import annotations

from collections.abc import Callable

import comfy.utils
import latent_preview
import numpy as np
import torch
from comfy.model_patcher import ModelPatcher
from PIL import Image
from torch import Tensor

from ....realcompo_core.drawing.render import BALANCE, colour, enlarge
from ....realcompo_core.sampling.settings import Mode
from ....realcompo_core.sampling.trace import Trace


def balance_preview(
    patcher: ModelPatcher, steps: int, trace: Trace
) -> Callable[[int, Tensor, Tensor, int], None]:
    """Return a sampler's callback, as ``latent_preview.prepare_callback`` does.

    Its previews show the trace's newest balance beside the picture of the denoised latent
    [B, C, H, W].
    """
    previewer = latent_preview.get_previewer(patcher.load_device, patcher.model.latent_format)
    progress = comfy.utils.ProgressBar(steps)

    def callback(step: int, denoised: Tensor, latent: Tensor, total: int) -> None:
        preview = None
        if previewer:
            kind, image, size = previewer.decode_latent_to_preview_image("JPEG", denoised)
            preview = kind, with_balance(image, trace), 2 * size
        progress.update_absolute(step + 1, total, preview)

    return callback


def with_balance(image: Image.Image, trace: Trace) -> Image.Image:
    """Return a preview of the first sample and, to its right, which branch leads where.

    In warm-up and in the modes of one branch that is one branch everywhere.
    """
    weight = trace.steps[-1].weight if trace.steps else None
    alone = trace.settings is not None and trace.settings.mode is Mode.TEXT_ONLY
    weight = torch.full((1, 1), float(alone)) if weight is None else weight[0, 0]
    ramp = colour(enlarge(weight, image.height, image.width), BALANCE)
    together = Image.new("RGB", (2 * image.width, image.height))
    together.paste(image, (0, 0))
    together.paste(Image.fromarray((ramp.numpy() * 255).astype(np.uint8)), (image.width, 0))
    return together
