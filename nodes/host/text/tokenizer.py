"""The host's CLIP tokenizers as the core's tokenizer."""

from __future__ import annotations

import hashlib
from itertools import chain, filterfalse
from typing import Any

from torch import Tensor

from ....realcompo_core.errors import InputError
from ....realcompo_core.words.tokens import WORD_END, Piece, Tokenizer

EMBEDDING = "embedding:"
CLIP_ENCODERS = frozenset("lgh")  # ViT-L (SD1), bigG (SDXL) and ViT-H (SD2)


def check_clip(clip: Any) -> None:
    """Raise :class:`InputError` where a checkpoint brought no text encoder."""
    if clip is None:
        fix = "Use a checkpoint that contains a text encoder, or a CLIP loader."
        raise InputError("clip", "a text encoder", "none", fix)


def tokenizer_of(clip: Any) -> Tokenizer:
    """Return a tokenizer: text -> pieces with their rows in what this CLIP encodes the text to.

    Several encoders side by side (SDXL) share rows; where an embedding moves one encoder's tokens,
    a piece carries the rows of both. The tokenizer raises :class:`InputError` for another CLIP.
    """

    def tokenize(text: str) -> list[Piece]:
        encoders = clip.tokenize(text, return_word_ids=True)
        if not CLIP_ENCODERS.issuperset(encoders):
            fix = "Use the CLIP of a Stable Diffusion 1.x, 2.x or SDXL checkpoint."
            raise InputError("clip", "CLIP text encoders", ", ".join(sorted(encoders)), fix)
        return _merge([_pieces(clip, chunks) for chunks in encoders.values()])

    return tokenize


def _pieces(clip: Any, chunks: list) -> list[Piece]:
    """Return the real tokens of all chunks; word id 0 marks start, end and padding."""
    tokens = enumerate(chain.from_iterable(chunks))
    return [Piece(_text(clip, token), (row,)) for row, (token, _, word) in tokens if word]


def _text(clip: Any, token: Any) -> str:
    if isinstance(token, Tensor):
        digest = hashlib.sha256(token.detach().float().cpu().numpy().tobytes()).hexdigest()
        return f"{EMBEDDING}{digest[:12]}{WORD_END}"
    return clip.tokenizer.untokenize([(token, 1.0)])[0][1]


def _merge(encoders: list[list[Piece]]) -> list[Piece]:
    """Return one list of pieces, each with its rows in all encoders.

    Encoders disagree where an embedding has a vector for each: what lies between embeddings is
    aligned then.
    """
    if _agree(encoders):
        return _aligned(encoders)
    plain = [list(filterfalse(_is_embedded, pieces)) for pieces in encoders]
    merged = _aligned(plain) if _agree(plain) else plain[0]
    embedded = filter(_is_embedded, chain.from_iterable(encoders))
    return sorted([*merged, *embedded], key=lambda piece: piece.positions[0])


def _agree(encoders: list[list[Piece]]) -> bool:
    """Tell whether all encoders have the same words."""
    return len(set(map(_texts, encoders))) == 1


def _texts(pieces: list[Piece]) -> tuple[str, ...]:
    return tuple(piece.text for piece in pieces)


def _aligned(encoders: list[list[Piece]]) -> list[Piece]:
    """Return the pieces, which are the same in all encoders, with the rows of all."""
    merged = []
    for same in zip(*encoders, strict=True):
        rows = chain.from_iterable(piece.positions for piece in same)
        merged.append(Piece(same[0].text, tuple(dict.fromkeys(rows))))
    return merged


def _is_embedded(piece: Piece) -> bool:
    return piece.text.startswith(EMBEDDING)
