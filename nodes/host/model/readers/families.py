"""Which reader reads which network."""

from __future__ import annotations

from typing import Any

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from .....realcompo_core.errors import InputError
from .reader import Reader
from .unet import UNet

# Networks by the name of their class below comfy.ldm: a host needs to know none of them.
READERS: dict[str, type[Reader]] = {}
NAMES = "Stable Diffusion 1.x, 2.x, SDXL"


def reader_of(model: Any) -> Reader:
    """Return what reads the attention of the host's model.

    Raises :class:`InputError` for a family that has no reader.
    """
    network = network_of(model)
    reader = _reader_for(network)
    if reader is None or not reader.layers():
        expected = f"a model whose attention can be read ({NAMES})"
        got = f"{type(model).__name__} ({type(network).__name__})"
        fix = "Use one of these models, or the mode fixed, which reads no attention."
        raise InputError("attention", expected, got, fix)
    return reader


def unet_of(model: Any) -> UNet:
    """Return the reader of a model that must be a U-Net. Raises :class:`InputError` for others."""
    network = network_of(model)
    if isinstance(network, UNetModel):
        return UNet(network)
    fix = "Use a Stable Diffusion 1.x, 2.x or SDXL model."
    raise InputError("attention", "a U-Net with cross-attention", type(model).__name__, fix)


def network_of(model: Any) -> Any:
    """Return the network inside the host's model, as it was before it was compiled."""
    network = getattr(model, "diffusion_model", None)
    return getattr(network, "_orig_mod", network)


def _reader_for(network: Any) -> Reader | None:
    if isinstance(network, UNetModel):
        return UNet(network)
    kind = type(network)
    found = READERS.get(f"{kind.__module__}.{kind.__name__}".removeprefix("comfy.ldm."))
    return found(network) if found else None
