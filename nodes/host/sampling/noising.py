"""How the host's models mix a picture and noise, as the core takes it."""

from __future__ import annotations

import math
from collections.abc import Callable

from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import CONST, COSMOS_RFLOW, EPS

from ....realcompo_core.errors import InputError
from ....realcompo_core.sampling.bridge import Bridge
from ....realcompo_core.sampling.coordinates import Coordinates

# What a model's sampling may do to make a latent of a picture and noise.
MIXING: dict[Callable, Coordinates] = {
    EPS.noise_scaling: Coordinates.VE,
    COSMOS_RFLOW.noise_scaling: Coordinates.VE,
    CONST.noise_scaling: Coordinates.FLOW,
}


def coordinates_of(patcher: ModelPatcher) -> Coordinates:
    """Return what a model's sigmas mean."""
    return MIXING.get(_mixing(patcher), Coordinates.VE)


def bridge_of(patcher: ModelPatcher, run: Coordinates) -> Bridge | None:
    """Return the change from a run's coordinates to a model's own; None where they are the same."""
    own = coordinates_of(patcher)
    if own is run:
        return None
    sampling = patcher.get_model_object("model_sampling")
    flows = own is Coordinates.FLOW  # which knows noise without end
    return Bridge(run, own, math.inf if flows else float(sampling.sigma_max))


def check_mixing(text: ModelPatcher, spatial: ModelPatcher) -> None:
    """Raise :class:`InputError` unless latents of one model can be made those of the other."""
    patchers = (text, spatial)
    mixings = [_mixing(patcher) for patcher in patchers]
    known = all(mixing in MIXING for mixing in mixings)
    samplings = [patcher.get_model_object("model_sampling") for patcher in patchers]
    scales = {getattr(sampling, "noise_scale", 1.0) for sampling in samplings}
    if len(scales) == 1 and (known or mixings[0] is mixings[1]):
        return
    got = " and ".join(_name(sampling) for sampling in samplings)
    fix = "Use two models whose latents are mixed with noise by eps, v or flow."
    raise InputError("spatial model", "a sampling type that fits the text model's", got, fix)


def _mixing(patcher: ModelPatcher) -> Callable:
    return type(patcher.get_model_object("model_sampling")).noise_scaling


def _name(sampling: object) -> str:
    return "+".join(base.__name__ for base in type(sampling).__bases__)
