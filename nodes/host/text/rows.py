"""Which rows of a conditioning stand for which token of which text encoder.

Text models cut templates off, pad, and put encoders side by side or one behind the other. None of
that is known here: each encoder is replaced by one that "encodes" a token to its number, and the
host's own text model then does with the numbers what it does with features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfy.sd1_clip import SDClipModel
from torch import Tensor

from ....realcompo_core.errors import InputError
from .vocabulary import Row

CLIP_ENCODERS = frozenset("lgh")  # ViT-L (SD1), bigG (SDXL) and ViT-H (SD2)
SPACING = 2**20  # between the numbers of two encoders; exact in single precision
ADAPTED = "t5xxl_ids"  # Anima's network makes a row of its own for each of T5's tokens
# HiDream's network puts these rows behind the text's, first the last layer's, then its own block's.
LLAMA = "conditioning_llama3"

Chunks = Sequence[Sequence[tuple]]  # of one encoder: (token, weight, maybe a word id)


@dataclass(frozen=True)
class Rows:
    """Where the tokens of each encoder stand: their rows, by their number there.

    ``count`` is how many rows the conditioning has.
    """

    count: int
    of: Mapping[str, dict[int, Row]]


def rows_of(clip: Any, encoders: Mapping[str, Chunks]) -> Rows:
    """Return the rows that each token has in what this CLIP encodes them to.

    ``encoders`` are its tokens by encoder. Raises :class:`InputError` for text encoders that can't
    be asked.
    """
    if CLIP_ENCODERS.issuperset(encoders):
        return _side_by_side(encoders)
    try:
        found = _asked(clip.cond_stage_model, encoders)
    except Exception as error:  # whatever a text model does with what is no feature
        raise _unknown(encoders) from error
    if not any(found.of.values()):
        raise _unknown(encoders)
    return found


def _side_by_side(encoders: Mapping[str, Chunks]) -> Rows:
    """The rows of CLIP's encoders: all tokens of all chunks, each with those of the others."""
    lengths = {name: sum(map(len, chunks)) for name, chunks in encoders.items()}
    rows = {name: _in_order(length) for name, length in lengths.items()}
    return Rows(max(lengths.values()), rows)


def _in_order(count: int) -> dict[int, Row]:
    return {number: (number,) for number in range(count)}


def _asked(model: Any, encoders: Mapping[str, Chunks]) -> Rows:
    numbering, starts = _numbering(model)
    if not starts:
        return Rows(0, {})  # it would encode in earnest
    features, options = _encoded(numbering, encoders)
    count, text = features.shape[1], features[0]
    if ADAPTED in options:
        return Rows(count, {"t5xxl": _in_order(len(options[ADAPTED]))})
    if LLAMA in options:
        llama = options[LLAMA][0, 0]
        text = torch.cat([text, llama, llama])
    return Rows(count, {encoder: _rows(text, start) for encoder, start in starts.items()})


def _encoded(model: Any, encoders: Mapping[str, Chunks]) -> tuple[Tensor, dict]:
    """What a text model makes of tokens without weights: features [1, rows, width], and options."""
    weightless = {name: _weightless(chunks) for name, chunks in encoders.items()}
    with torch.no_grad():
        features, _, *options = model.encode_token_weights(weightless)
    return features, options[0] if options else {}


def _weightless(chunks: Chunks) -> list[list[tuple]]:
    found = []
    for chunk in chunks:
        found.append([(token[0], 1.0) for token in chunk])
    return found


def _rows(text: Tensor, start: int) -> dict[int, Row]:
    """The rows of one encoder's tokens in a text [rows, width], by their numbers from ``start``."""
    text = text[:, ::64]  # every encoder is wider
    own = (text >= start) & (text < start + SPACING)
    numbers = torch.where(own, text - start, -1).amax(dim=-1).long().tolist()
    found: dict[int, Row] = {}
    for row, number in enumerate(numbers):
        if number >= 0:
            found[number] = (*found.get(number, ()), row)
    return found


def _numbering(model: Any) -> tuple[Any, dict[str, int]]:
    """A copy of a text model whose encoders number their tokens, and from where each does."""
    numbering = copy.copy(model)
    numbering._modules = dict(model._modules)
    starts: dict[str, int] = {}
    for name, encoder in model.named_children():
        if isinstance(encoder, SDClipModel):
            start = 1 + len(starts) * SPACING  # 0 is padding
            starts[name.removeprefix("clip_")] = start
            stand_in = copy.copy(encoder)
            stand_in.encode = _encode(encoder, start)
            numbering._modules[name] = stand_in
    return numbering, starts


def _encode(encoder: SDClipModel, start: int) -> Callable:
    """As the encoder's ``encode``: features, pooled features, and masks where it returns them."""
    width = encoder.transformer.get_input_embeddings().weight.shape[-1]

    def encode(sections: list[list]) -> tuple:
        numbers = _numbered(sections, start, width)
        shape = numbers.shape
        features = numbers[..., None].expand(*shape, width)
        layers = _layers(encoder)
        if layers:
            features = features[:, None].expand(-1, layers, -1, -1)
        pooled = torch.zeros(shape[0], width)
        if not encoder.return_attention_masks:
            return features, pooled
        return features, pooled, {"attention_mask": torch.ones(shape, dtype=torch.long)}

    return encode


def _numbered(sections: Sequence[Sequence], start: int, width: int) -> Tensor:
    """Number all tokens [sections, rows]; the host leaves out embeddings of another width."""
    numbers = []
    for section in sections:
        fitting = [
            start + n
            for n, token in enumerate(section)
            if not isinstance(token, Tensor) or token.shape[-1] == width
        ]
        numbers.append(fitting + [0] * (len(section) - len(fitting)))
        start += len(section)
    return torch.tensor(numbers, dtype=torch.float32)


def _layers(encoder: SDClipModel) -> int:
    """How many layers' features an encoder returns side by side; 0 for those of one layer."""
    if isinstance(encoder.layer, list):
        return len(encoder.layer)
    return 2 if encoder.layer == "all" else 0  # a text model may drop the first


def _unknown(encoders: Mapping[str, Chunks]) -> InputError:
    expected = "text encoders whose rows can be told apart: those that ComfyUI has for its models"
    got = ", ".join(sorted(encoders))
    fix = (
        "Load them by ComfyUI's own CLIP loaders. Without a layout, CLIP Text Encode and the mode "
        "fixed work with any."
    )
    return InputError("clip", expected, got, fix)
