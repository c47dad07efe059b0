"""The toy world's networks: ComfyUI's own classes in a small size.

Only what ComfyUI has no setting for is added: waves that tell every transformer where a cell is,
which so shallow a U-Net can't know; a text embedding of the world's few words; a hint encoder that
folds pixels; and a fixed linear autoencoder.
"""

from __future__ import annotations

from typing import Any

import comfy.cldm.cldm
import comfy.clip_model
import comfy.ops
import torch
import torch.nn.functional as F
from comfy.gligen import GatedSelfAttentionDense, Gligen, PositionNet
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import TimestepEmbedSequential, UNetModel
from torch import Tensor, nn

LATENT_CHANNELS, TEXT_WIDTH, TEXT_LENGTH = 16, 128, 40
PATCH = 4  # picture pixels in a latent cell; the autoencoder's own pictures are twice as large
UNET: dict[str, Any] = {
    "image_size": 16,
    "in_channels": LATENT_CHANNELS,
    "model_channels": 64,
    "num_res_blocks": [1, 1],
    "channel_mult": (1, 2),
    "transformer_depth": [1, 1],
    "transformer_depth_middle": 1,
    "num_heads": -1,
    "num_head_channels": 64,
    "context_dim": TEXT_WIDTH,
    "use_spatial_transformer": True,
    "dims": 2,
    "legacy": False,
}
DECODER: dict[str, Any] = {
    "transformer_depth_output": [1, 1, 1, 1],
    "out_channels": LATENT_CHANNELS,
}
TEXT: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_size": TEXT_WIDTH,
    "num_attention_heads": 2,
    "intermediate_size": 2 * TEXT_WIDTH,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": TEXT_LENGTH,
    "eos_token_id": 49407,
}
TRANSFORMER: dict[str, Any] = {  # Lumina 2's settings
    "patch_size": 2,
    "in_channels": LATENT_CHANNELS,
    "dim": 192,
    "n_layers": 6,
    "n_refiner_layers": 1,
    "n_heads": 6,
    "n_kv_heads": 6,
    "multiple_of": 64,
    "ffn_dim_multiplier": 8 / 3,
    "qk_norm": True,
    "cap_feat_dim": TEXT_WIDTH,
    "axes_dims": [8, 12, 12],
    "axes_lens": [300, 512, 512],
    "rope_theta": 256.0,
    "z_image_modulation": False,
    "time_scale": 1000.0,
}
UNET_PREFIX = "model.diffusion_model."
TEXT_PREFIX = "cond_stage_model.clip_l.transformer."
VAE_PREFIX = "first_stage_model."


def waves(height: int, width: int) -> Tensor:
    """Return sines and cosines [16, H, W] of each cell's x and y.

    They have half a period to four over the picture.
    """
    x, y = ((torch.arange(size) + 0.5) / size for size in (width, height))
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"))
    angles = torch.pi * 2.0 ** torch.arange(4)[:, None, None, None] * places
    return torch.cat([angles.sin(), angles.cos()]).flatten(0, 1)


def tell_places(network: nn.Module) -> None:
    """Let each transformer of a network add ``waves`` to the first channels of what it reads."""

    def add(_: nn.Module, __: tuple, x: Tensor) -> Tensor:
        places = waves(*x.shape[-2:]).to(x)
        return x + F.pad(places, (0, 0, 0, 0, 0, x.shape[1] - len(places)))

    for module in network.modules():
        if isinstance(module, SpatialTransformer):
            module.proj_in.register_forward_hook(add)


class ToyUNet(UNetModel):
    """ComfyUI's U-Net whose transformers know places."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        tell_places(self)


class ToyControlNet(comfy.cldm.cldm.ControlNet):
    """ComfyUI's ControlNet on a hint of [B, 3, 8 H, 8 W] in 0..1."""

    def __init__(self, operations: Any = comfy.ops.disable_weight_init, **config: Any) -> None:
        super().__init__(**config, operations=operations)
        place = {"device": config.get("device"), "dtype": config.get("dtype")}
        width = config["model_channels"]
        self.input_hint_block = TimestepEmbedSequential(
            nn.PixelUnshuffle(8),
            operations.Conv2d(192, width, 1, **place),
            nn.SiLU(),
            operations.Conv2d(width, width, 3, padding=1, **place),
        )
        tell_places(self)


class ToyTextModel(comfy.clip_model.CLIPTextModel):
    """ComfyUI's CLIP text model with an embedding of ``words`` tokens in place of 49408."""

    def __init__(self, config: dict, dtype: Any, device: Any, operations: Any) -> None:
        super().__init__(TEXT, dtype, device, operations)
        embedding = words_embedding(operations)
        words = embedding(config["words"], TEXT_WIDTH, dtype=dtype, device=device)
        self.set_input_embeddings(words)


def words_embedding(operations: Any) -> type:
    """Return an embedding class with a row for each token of a table; row 0 is for all others."""

    class WordsEmbedding(operations.Embedding):
        def __init__(self, words: int, width: int, **place: Any) -> None:
            super().__init__(words, width, **place)
            tokens = torch.zeros(words, dtype=torch.int32, device=place.get("device"))
            self.register_buffer("tokens", tokens)

        def forward(self, ids: Tensor, **kwargs: Any) -> Tensor:
            hit = ids[..., None] == self.tokens
            rows = torch.where(hit.any(-1), hit.int().argmax(-1), 0)
            return super().forward(rows, **kwargs)

    return WordsEmbedding


def _set(layer: Any, weight: Tensor, bias: Tensor) -> None:
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)


class PatchAutoencoder(nn.Module):
    """A fixed linear autoencoder (PCA of 4 x 4 patches) with a VAE's interface.

    Pictures [B, 3, 8 H, 8 W] in -1..1 become latents [B, 16, H, W] and back.
    """

    def __init__(self) -> None:
        super().__init__()
        size = 3 * PATCH**2
        self.encoder = nn.Conv2d(size, LATENT_CHANNELS, 1)
        self.decoder = nn.Conv2d(LATENT_CHANNELS, size, 1)

    def encode(self, picture: Tensor) -> Tensor:
        """Return the latent of a picture."""
        return self.encoder(F.pixel_unshuffle(F.avg_pool2d(picture, 2), PATCH))

    def decode(self, latent: Tensor) -> Tensor:
        """Return the picture of a latent."""
        small = F.pixel_shuffle(self.decoder(latent), PATCH)
        return F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)

    @torch.no_grad()
    def fit(self, pictures: Tensor, evenness: float = 0.5) -> None:
        """Take over the principal components of small pictures [N, 3, 64, 64] in -1..1.

        Each channel is divided by its deviation to the power ``evenness``: 0 keeps the components'
        sizes, 1 makes all alike. The latents' mean variance is 1.
        """
        patches = F.pixel_unshuffle(pictures, PATCH).movedim(1, -1).flatten(0, 2).double()
        mean = patches.mean(0)
        spread = (patches - mean) / len(patches) ** 0.5
        _, deviation, components = torch.linalg.svd(spread, full_matrices=False)
        deviation, components = deviation[:LATENT_CHANNELS], components[:LATENT_CHANNELS]
        scale = deviation**-evenness
        scale = scale / (scale * deviation).square().mean().sqrt()
        encode, decode = scale[:, None] * components, (components / scale[:, None]).T
        _set(self.encoder, encode[:, :, None, None], -encode @ mean)
        _set(self.decoder, decode[:, :, None, None], mean)


def gligen_parts() -> Gligen:
    """Make a fuser for each of the U-Net's transformers and a position net, untrained."""
    width = UNET["model_channels"]
    widths = [width, 2 * width, 2 * width, 2 * width, 2 * width, width, width]
    fusers = [GatedSelfAttentionDense(query, TEXT_WIDTH, query // 64, 64) for query in widths]
    return Gligen(fusers, PositionNet(TEXT_WIDTH, TEXT_WIDTH), TEXT_WIDTH)


FUSER_PLACES = (
    "input_blocks.1.1",
    "input_blocks.3.1",
    "middle_block.1",
    *(f"output_blocks.{i}.1" for i in range(4)),
)


def gligen_state(gligen: Gligen) -> dict[str, Tensor]:
    """Return the weights, of any shapes [...], under the keys that ComfyUI's loader reads."""
    weights = gligen.position_net.state_dict()
    out = {f"position_net.{name}": tensor for name, tensor in weights.items()}
    for place, fuser in zip(FUSER_PLACES, gligen.module_list, strict=True):
        prefix = f"{place}.transformer_blocks.0.fuser."
        out |= {prefix + name: tensor for name, tensor in fuser.state_dict().items()}
    return out
