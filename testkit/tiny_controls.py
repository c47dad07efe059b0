"""Tiny ControlNets and model patches of transformers, by the host's own classes and nodes.

Each is a function from a family's model to that model, perhaps patched, and to the ControlNet of
its conditioning, or None.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from .tiny_family import is_newer_host
from .tiny_transformers import FAMILIES, randomise

Applied = tuple[Any, Any]
USO_TOKENS = 6
CELLS = 8  # pixels of a cell of the latent, of which these VAEs make one
SD3_SIZE = (
    "in_channels",
    "patch_size",
    "depth",
    "input_size",
    "adm_in_channels",
    "context_embedder_config",
    "num_patches",
    "pos_embed_max_size",
    "pos_embed_scaling_factor",
    "qk_norm",
)


class Vae:
    """Encodes a picture as a latent that depends on it, and shows a latent."""

    def __init__(self, frames: bool = False) -> None:
        self.frames = frames

    def spacial_compression_encode(self) -> int:
        return CELLS

    def encode(self, image: Tensor) -> Tensor:
        latent = image[:, ::CELLS, ::CELLS].mean(-1)[:, None].repeat(1, 16, 1, 1)
        return latent.unsqueeze(2) if self.frames else latent

    def decode(self, latent: Tensor) -> Tensor:
        """Return pictures that show three channels [B, H, W, 3]."""
        shown = latent[:, :3].reshape(len(latent), 3, *latent.shape[-2:])
        large = shown.repeat_interleave(CELLS, -1).repeat_interleave(CELLS, -2)
        return large.movedim(1, -1).sigmoid()


def flux_union(model: Any) -> Applied:
    """InstantX's and Shakker's union ControlNet, with its type set."""
    from comfy.ldm.flux.controlnet import ControlNetFlux

    size = FAMILIES["flux"].settings() | {"depth": 2, "depth_single_blocks": 1}
    network = ControlNetFlux(
        latent_input=True, num_union_modes=3, control_latent_channels=16, **size, **made()
    )
    network.main_model_double, network.main_model_single = 3, 3
    control = controlnet(network, "flux", ["y", "guidance"])
    control.set_extra_arg("control_type", [1])  # as the node SetUnionControlNetType does
    return model, control


def sd3(model: Any) -> Applied:
    """InstantX's ControlNet."""
    from comfy.cldm.mmdit import ControlNet

    size = {key: FAMILIES["sd3"].settings()[key] for key in SD3_SIZE}
    return model, controlnet(ControlNet(num_blocks=2, **size, **made()), "sd3", ["y"])


def sd35(model: Any) -> Applied:
    """Stability's ControlNet for SD3.5 large, which takes weights from the model."""
    from comfy.cldm.dit_embedder import ControlNetEmbedder
    from comfy.controlnet import ControlNetSD35

    network = ControlNetEmbedder(
        img_size=None,
        patch_size=2,
        in_chans=16,
        num_layers=2,
        main_model_double=3,
        double_y_emb=True,
        attention_head_dim=64,
        num_attention_heads=3,
        adm_in_channels=FAMILIES["sd3"].settings()["adm_in_channels"],
        **made(),
    )
    return model, controlnet(network, "sd3", ["y"], ControlNetSD35)


def qwen(model: Any) -> Applied:
    """InstantX's ControlNet."""
    from comfy.ldm.qwen_image.controlnet import QwenImageControlNetModel

    network = QwenImageControlNetModel(
        **FAMILIES["qwen image"].settings() | {"num_layers": 2}, **made()
    )
    return model, controlnet(network, "qwen image", [])


def qwen_fun(model: Any) -> Applied:
    """The Fun ControlNet, which uses parts of the model."""
    from comfy.controlnet import QwenFunControlNet
    from comfy.ldm.qwen_image.controlnet import QwenImageFunControlNetModel

    network = QwenImageFunControlNetModel(
        inner_dim=64,
        num_attention_heads=4,
        attention_head_dim=16,
        num_control_blocks=2,
        main_model_double=4,
        injection_layers=(0, 2),
        **made(),
    )
    return model, controlnet(network, "qwen image", [], QwenFunControlNet)


def flux_uso(model: Any) -> Applied:
    """USO's style reference, whose tokens stand before the text's."""
    from comfy_extras import nodes_model_patch as nodes

    size = {"siglip_token_nums": 4, "style_token_nums": USO_TOKENS // 3, "siglip_token_dims": 8}
    network = nodes.SigLIPMultiFeatProjModel(hidden_size=64, **size, **made())
    states = torch.randn(1, 20, 4, 8, generator=torch.Generator().manual_seed(7))
    seen = SimpleNamespace(all_hidden_states=states, penultimate_hidden_states=states[:, 0])
    return nodes.USOStyleReference().apply_patch(model, model_patch(network), seen)[0], None


def qwen_diffsynth(model: Any) -> Applied:
    """DiffSynth's model patch, which adds to the image in place."""
    from comfy_extras import nodes_model_patch as nodes

    network = nodes.QwenImageBlockWiseControlNet(num_layers=4, dim=64, **made())
    patch, image = model_patch(network), picture("qwen image")
    node = nodes.QwenImageDiffsynthControlnet()
    return node.diffsynth_controlnet(model, patch, Vae(frames=True), image, 1.0)[0], None


def z_image_fun(model: Any, **options: Any) -> Applied:
    """The Fun model patch, which keeps what its blocks make from one call to the next."""
    from comfy.ldm.lumina.controlnet import ZImage_Control
    from comfy_extras import nodes_model_patch as nodes

    network = ZImage_Control(
        dim=256, n_heads=8, n_kv_heads=8, ffn_dim_multiplier=1.0, **options, **made()
    )
    patch, image = model_patch(network), picture("z-image")
    return nodes.ZImageFunControlnet().diffsynth_controlnet(model, patch, Vae(), image)[0], None


def z_image_fun2(model: Any) -> Applied:
    """The second one, whose blocks for the image alone add to it too."""
    more = {"n_control_layers": 15, "additional_in_dim": 17, "refiner_control": True}
    return z_image_fun(model, **more)


def anima_lllite(model: Any) -> Applied:
    """The model patch of Anima, inside its attention and its feed-forward layers."""
    from comfy.ldm.anima.lllite import AnimaLLLite
    from comfy_extras import nodes_model_patch as nodes

    network = AnimaLLLite(lllite_shapes(), {}, **made())
    node, image = nodes.AnimaLLLiteApply(), picture("anima")
    return node.apply_patch(model, model_patch(network), image, 1.0, 0.0, 1.0)[0], None


def lllite_shapes() -> dict[str, Tensor]:
    """Return empty weights of the shapes by which the host knows an LLLite's sizes."""
    start = "lllite_conditioning1"
    shapes = {f"{start}.conv1": (8, 3), f"{start}.conv3": (16, 8), f"{start}.proj": (16, 16)}
    for block in range(2):
        for part in ("self_attn_q_proj", "cross_attn_q_proj", "mlp_layer1"):
            shapes[f"lllite_dit_blocks_{block}_{part}.down"] = (8, 128)
            shapes[f"lllite_dit_blocks_{block}_{part}.cond_to_film"] = (16, 16)
    return {f"{name}.weight": torch.empty(shape) for name, shape in shapes.items()}


CONTROLS: dict[str, tuple[str, Callable[[Any], Applied]]] = {
    "flux union": ("flux", flux_union),
    "flux uso": ("flux", flux_uso),
    "chroma with flux union": ("chroma", flux_union),
    "sd3 instantx": ("sd3", sd3),
    "sd3.5": ("sd3", sd35),
    "qwen instantx": ("qwen image", qwen),
    "qwen diffsynth": ("qwen image", qwen_diffsynth),
}
if is_newer_host():
    CONTROLS |= {
        "qwen fun": ("qwen image", qwen_fun),
        "z-image fun": ("z-image", z_image_fun),
        "z-image fun 2": ("z-image", z_image_fun2),
        "anima lllite": ("anima", anima_lllite),
    }


def controlled(name: str, model: Any) -> Applied:
    """Apply a control of the table as the executor does: in inference mode."""
    _, make = CONTROLS[name]
    with torch.inference_mode():
        return make(model)


def controlnet(network: nn.Module, name: str, conds: list[str], kind: type | None = None) -> Any:
    """Return the host's ControlNet of a network, with a hint as the family's VAE makes one."""
    import comfy.controlnet

    kind, cpu = kind or comfy.controlnet.ControlNet, torch.device("cpu")
    made = kind(ready(network), compression_ratio=1, load_device=cpu, extra_conds=conds)
    hint = torch.randn(1, 16, *FAMILIES[name].size, generator=torch.Generator().manual_seed(4))
    made.cond_hint_original = hint
    if FAMILIES[name].frames:
        made.preprocess_image = lambda encoded: encoded.unsqueeze(2)
    return made


def model_patch(network: nn.Module) -> Any:
    """Return what the host's loader of model patches returns."""
    import comfy.model_patcher

    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(ready(network), load_device=cpu, offload_device=cpu)


def ready(network: nn.Module) -> nn.Module:
    """Give a network random weights."""
    randomise(network, 5)
    return network.eval()


def picture(name: str) -> Tensor:
    """Return a picture of the size of the family's latent."""
    height, width = FAMILIES[name].size
    generator = torch.Generator().manual_seed(6)
    return torch.rand(1, height * CELLS, width * CELLS, 3, generator=generator)


def made() -> dict[str, Any]:
    """Return how all networks are made."""
    import comfy.ops

    return {
        "operations": comfy.ops.manual_cast,
        "dtype": torch.float32,
        "device": torch.device("cpu"),
    }
