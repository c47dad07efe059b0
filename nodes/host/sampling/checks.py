"""What must hold of models, conditionings and sigmas before anything is loaded."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....realcompo_core.errors import InputError, within
from ....realcompo_core.sampling.attention import Layers
from ....realcompo_core.sampling.coordinates import Coordinates
from ....realcompo_core.sampling.schedule import Schedule
from ....realcompo_core.sampling.settings import BalancerSettings, Mode
from ....realcompo_core.words.grounding import grounded
from ..model.readers.families import reader_of
from .noising import check_mixing

MASK_FUNCTION = "denoise_mask_function"  # in model options: called by the host's inpainting


def check_patcher(name: str, patcher: ModelPatcher, downsample: int, layers: Layers) -> None:
    """Raise :class:`InputError` for a model whose attention can't be read so."""
    with within(f"{name} model"):
        reader_of(patcher.model).chosen(downsample, layers, latent=(1, 1))


def check_layout(name: str, positive: list[dict]) -> None:
    """Raise :class:`InputError` where no conditioning has a layout.

    ``positive`` are conditionings' options, or conditionings as processed for a run.
    """
    if not grounded(positive):
        fix = (
            "Connect the RealCompo Layout Conditioning node, "
            "or sample without guidance and in the mode fixed. "
            "If it is connected, a node in between drops the layout: Conditioning (Concat) and "
            "(Average) keep that of conditioning_to only, and some nodes keep none. Put such nodes "
            "before it, use Conditioning (Combine), or RealCompo Tie Layout behind a node that has "
            "encoded the prompt itself."
        )
        raise InputError(f"{name} positive", "a conditioning with a layout", "one without", fix)


def check_latent(patcher: ModelPatcher, latent: Tensor) -> None:
    """Raise :class:`InputError` for a latent [B, C, ...] that is of another kind of model."""
    form = patcher.get_model_object("latent_format")
    if latent.is_nested:
        return
    flat = getattr(form, "latent_dimensions", 2) == 2
    if latent.shape[1] == form.latent_channels and (latent.ndim == 4 or not flat):
        return
    expected = f"a latent of {form.latent_channels} channels"
    got = f"one of {latent.shape[1]} channels" + (", of a video" if latent.ndim > 4 else "")
    fix = "Use Empty Latent Image, or encode the picture with the VAE of the text branch's model."
    raise InputError("latent_image", expected, got, fix)


def check_pair(text: ModelPatcher, spatial: ModelPatcher) -> None:
    """Raise :class:`InputError` unless both models' latents mean the same.

    Formats that only look alike, of as many channels (SD3's and Flux's), are of different VAEs.
    """
    formats = [patcher.get_model_object("latent_format") for patcher in (text, spatial)]
    alike = type(formats[0]) is type(formats[1])
    if not alike or formats[0].scale_factor != formats[1].scale_factor:
        got = " and ".join(type(form).__name__ for form in formats)
        fix = "Use two models that share a VAE (docs/branches.md lists which do)."
        raise InputError("spatial model", "the text model's latent format", got, fix)
    check_mixing(text, spatial)


def check_masks(text: ModelPatcher, spatial: ModelPatcher, mask: Tensor | None) -> None:
    """Raise :class:`InputError` where the spatial model alone would change the inpainting mask.

    The ``mask`` [B, C, H, W] is the sampler's, and the sampler runs with the text model's options.
    """
    own, other = (model.model_options.get(MASK_FUNCTION) for model in (text, spatial))
    if mask is None or own is not None or other is None:
        return
    got = "one that changes the mask, and a text model that does not"
    fix = "Connect Differential Diffusion (or what else does so) to the text branch's model too."
    raise InputError("spatial model", "a model that leaves the inpainting mask as it is", got, fix)


def schedule_of(sigmas: Tensor, settings: BalancerSettings, coordinates: Coordinates) -> Schedule:
    """Return the schedule of a run's sigmas [steps + 1], which mean what ``coordinates`` say.

    Raises :class:`InputError` where they are not numbers, and for two branches where they ascend.
    """
    values = sigmas.tolist()
    if not sigmas.isfinite().all():
        listed = ", ".join(f"{value:.3g}" for value in values[:6])
        fix = "Take more steps, or another scheduler (kl_optimal needs two steps)."
        raise InputError("sigmas", "noise levels that are numbers", f"{listed}", fix)
    one_sided = settings.mode in (Mode.TEXT_ONLY, Mode.SPATIAL_ONLY)
    if not one_sided and any(later > earlier for earlier, later in pairwise(values)):
        fix = (
            "Use a scheduler's sigmas as they are, and sample each descent by itself. Noise can "
            "be put back (FlipSigmas, restarts) in the modes text only and spatial only."
        )
        raise InputError("sigmas", "noise levels that descend", "some that ascend", fix)
    schedule = Schedule(values, 0, settings.every, coordinates)
    return replace(schedule, warmup=settings.warmup_steps(schedule.steps, schedule.blank))
