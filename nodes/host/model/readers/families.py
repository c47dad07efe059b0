"""Which reader reads which network."""

from __future__ import annotations

from typing import Any

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from .....realcompo_core.errors import InputError
from .aura_flow import AuraFlow
from .cross import Cosmos2, PixArt, Wan
from .ernie import Ernie
from .flux import Flux
from .hidream import HiDream
from .hunyuan_image import HunyuanImage
from .ideogram4 import Ideogram4
from .krea2 import Krea2
from .lens import Lens
from .lumina import Lumina
from .omnigen2 import Boogu, OmniGen2
from .qwen_image import QwenImage
from .reader import Reader
from .sd3 import SD3
from .unet import UNet

# Networks by the name of their class below comfy.ldm: a host needs to know none of them.
READERS: dict[str, type[Reader]] = {
    "modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper": SD3,
    "flux.model.Flux": Flux,
    "chroma.model.Chroma": Flux,
    "qwen_image.model.QwenImageTransformer2DModel": QwenImage,
    "lumina.model.NextDiT": Lumina,
    "aura.mmdit.MMDiT": AuraFlow,
    "hunyuan_video.model.HunyuanVideo": HunyuanImage,
    "hidream.model.HiDreamImageTransformer2DModel": HiDream,
    "omnigen.omnigen2.OmniGen2Transformer2DModel": OmniGen2,
    "pixart.pixartms.PixArtMS": PixArt,
    "wan.model.WanModel": Wan,
    "cosmos.predict2.MiniTrainDIT": Cosmos2,
    # Only newer hosts have these.
    "anima.model.Anima": Cosmos2,
    "krea2.model.SingleStreamDiT": Krea2,
    "ernie.model.ErnieImageModel": Ernie,
    "boogu.model.BooguTransformer2DModel": Boogu,
    "lens.model.LensTransformer2DModel": Lens,
    "ideogram4.model.Ideogram4Transformer2DModel": Ideogram4,
}
NAMES = (
    "Stable Diffusion 1.x, 2.x, SDXL, 3 and 3.5, Flux.1, Flux.2, Chroma, Qwen-Image, Z-Image, "
    "Lumina 2, AuraFlow, HunyuanImage, HiDream, OmniGen 2, PixArt, Wan text-to-image, Cosmos 2, "
    "Anima, Krea 2, Ernie-Image, Boogu, Lens, Ideogram 4"
)


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
