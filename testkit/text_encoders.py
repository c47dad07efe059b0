"""The host's text encoders of every family, whole but for their weights.

Tokenizers and text models are the host's own; only the networks inside are replaced, by ones that
mix nothing: a token's features are those of its id alone. Vocabularies that come with checkpoints
are made small ones here. Needs ComfyUI on the path.
"""

from __future__ import annotations

import base64
import importlib
import io
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Family:
    """Where the host has a family's tokenizer and its text model.

    ``model`` is its class, or a function that makes one. ``vocabulary`` is what a checkpoint would
    bring. ``newer`` says that older hosts tokenize rightly only with an older transformers.
    """

    module: str
    tokenizer: str
    model: str
    vocabulary: str = ""
    newer: bool = False


KNOWN = {
    "sd3": Family("sd3_clip", "SD3Tokenizer", "SD3ClipModel"),
    "flux": Family("flux", "FluxTokenizer", "FluxClipModel"),
    "flux2": Family("flux", "Flux2Tokenizer", "Flux2TEModel", "tekken_model", newer=True),
    "chroma": Family("pixart_t5", "PixArtTokenizer", "PixArtT5XXL"),
    "auraflow": Family("aura_t5", "AuraT5Tokenizer", "AuraT5Model"),
    "cosmos2": Family("cosmos", "CosmosT5Tokenizer", "CosmosT5XXL"),
    "qwen image": Family("qwen_image", "QwenImageTokenizer", "QwenImageTEModel"),
    "hunyuan image": Family("hunyuan_image", "HunyuanImageTokenizer", "HunyuanImageTEModel"),
    "omnigen2": Family("omnigen2", "Omnigen2Tokenizer", "Omnigen2Model"),
    "z-image": Family("z_image", "ZImageTokenizer", "ZImageTEModel"),
    "lumina2": Family("lumina2", "LuminaTokenizer", "LuminaModel", "spiece_model"),
    "wan": Family("wan", "WanT5Tokenizer", "WanT5Model", "spiece_model"),
    "hidream": Family("hidream", "HiDreamTokenizer", "HiDreamTEModel", newer=True),
    # Newer hosts alone have these.
    "anima": Family("anima", "AnimaTokenizer", "AnimaTEModel"),
    "krea2": Family("krea2", "Krea2Tokenizer", "Krea2TEModel"),
    "ernie": Family("ernie", "ErnieTokenizer", "ErnieTEModel", "tekken_model"),
    "klein": Family("flux", "KleinTokenizer", "klein_te"),
    "boogu": Family("boogu", "BooguTokenizer", "BooguTEModel"),
    "ideogram4": Family("ideogram4", "Ideogram4Qwen3VLTokenizer", "Ideogram4Qwen3VLTEModel"),
    "longcat": Family("longcat_image", "LongCatImageTokenizer", "LongCatImageTEModel"),
}
FOLDER = Path(os.environ.get("COMFYUI_PATH", "")) / "comfy" / "text_encoders"
NEWER = FOLDER / "bpe_tokenizer.py"
# What the SentencePiece vocabulary has the letters of.
CORPUS = (
    "a photo of a red car on the grass and a blue dog, a ball; it's raining (close-up)",
    "a (very big:0.8) (red car:1.3), (blue dog:1.3), a ball and a T-shirt, very very big",
    "the king's red car: and the king's blue dog: cr\u00e8me br\u00fbl\u00e9e, caf\u00e9 and more",
)


def families() -> list[str]:
    """Return the families whose text encoders this host has."""
    found = []
    for name, family in KNOWN.items():
        source = FOLDER / f"{family.module}.py"
        right = NEWER.is_file() or not family.newer
        if right and source.is_file() and f"class {family.tokenizer}" in source.read_text():
            found.append(name)
    return found


@cache
def clip_of(name: str, width: int = 0) -> Any:
    """Return the host's CLIP of a family; ``width`` of its features, 0 for its own."""
    import comfy.model_patcher
    import comfy.sd

    family = KNOWN[name]
    module = importlib.import_module(f"comfy.text_encoders.{family.module}")
    clip = comfy.sd.CLIP(no_init=True)
    with _vocabularies_once():
        data = {family.vocabulary: VOCABULARIES[family.vocabulary]()} if family.vocabulary else {}
        clip.tokenizer = getattr(module, family.tokenizer)(tokenizer_data=data)
    with torch.inference_mode():
        model = getattr(module, family.model)
        kind = model if isinstance(model, type) else model()
        clip.cond_stage_model = kind(device="meta", dtype=torch.float32, model_options={})
        for encoder in clip.cond_stage_model.children():
            _simplify(encoder, width)
    cpu = torch.device("cpu")
    clip.patcher = comfy.model_patcher.ModelPatcher(clip.cond_stage_model, cpu, cpu)
    clip.tokenizer_options, clip.layer_idx = {}, None
    clip.use_clip_schedule, clip.apply_hooks_to_conds = False, None
    return clip


class IdEmbedding(nn.Module):
    """Features [B, N, width] of token ids [B, N] that differ from id to id."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, width), requires_grad=False)

    def forward(self, ids: Tensor, out_dtype: Any = None) -> Tensor:
        """Return the features."""
        frequencies = torch.linspace(0.1, 1.0, self.weight.shape[-1])
        return torch.sin((1 + ids[..., None].float()) * frequencies)


class Unmixed(nn.Module):
    """An encoder's network whose every layer gives back the embeddings."""

    def __init__(self, num_layers: int, width: int) -> None:
        super().__init__()
        self.num_layers, self.embedding = num_layers, IdEmbedding(width)

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding, as the host's networks do."""
        return self.embedding

    def forward(
        self, ids: None, mask: Any, *, embeds: Tensor, intermediate_output: Any, **_: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the last layer's features, those of other layers, and the pooled ones."""
        layers = self.num_layers if intermediate_output == "all" else 0
        if isinstance(intermediate_output, list):
            layers = len(intermediate_output)
        inner = embeds[:, None].expand(-1, layers, -1, -1) if layers else embeds
        return embeds, inner, embeds.mean(dim=1)


def _simplify(encoder: Any, width: int) -> None:
    network = encoder.transformer
    own = network.get_input_embeddings().weight.shape[-1]
    encoder.transformer = Unmixed(network.num_layers, width or own)


@contextmanager
def _vocabularies_once() -> Generator[None]:
    """Load a vocabulary that several families have only once."""
    from transformers import PreTrainedTokenizerBase

    original = PreTrainedTokenizerBase.from_pretrained.__func__

    def loaded(kind: Any, path: str, **options: Any) -> Any:
        if (kind, path) not in LOADED:
            LOADED[kind, path] = original(kind, path, **options)
        return LOADED[kind, path]

    with patch.object(PreTrainedTokenizerBase, "from_pretrained", classmethod(loaded)):
        yield


LOADED: dict[tuple[Any, str], Any] = {}


@cache
def sentencepiece() -> Tensor:
    """Return a vocabulary of Latin letters, as Gemma's and umT5's checkpoints bring theirs."""
    from sentencepiece import SentencePieceTrainer

    written = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=written,
        model_type="char",
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    return torch.frombuffer(bytearray(written.getvalue()), dtype=torch.uint8)


@cache
def tekken() -> Tensor:
    """Return a vocabulary of single bytes, as Mistral's checkpoints bring theirs."""
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]
    special += [f"<SPECIAL_{number}>" for number in range(len(special), 12)]
    size = len(special) + 256
    written = {
        "config": {"default_vocab_size": size, "default_num_special_tokens": len(special)},
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(bytes([rank])).decode()}
            for rank in range(256)
        ],
        "special_tokens": [{"rank": rank, "token_str": text} for rank, text in enumerate(special)],
    }
    return torch.frombuffer(bytearray(json.dumps(written).encode()), dtype=torch.uint8)


VOCABULARIES = {"spiece_model": sentencepiece, "tekken_model": tekken}
