"""The host's CLIP tokenizers as the core's tokenizer."""

from __future__ import annotations

import hashlib
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
    """Text -> pieces with their rows in the conditioning that this CLIP encodes from the text.

    Several encoders side by side (SDXL) share rows; where an embedding moves one encoder's tokens,
    a piece carries the rows of both.
    """

    def tokenize(text: str) -> list[Piece]:
        encoders = clip.tokenize(text, return_word_ids=True)
        if not CLIP_ENCODERS.issuperset(encoders):
            fix = "Use the CLIP of a Stable Diffusion 1.x, 2.x or SDXL checkpoint."
            raise InputError("clip", "CLIP text encoders", ", ".join(sorted(encoders)), fix)
        pieces = [_pieces(clip, chunks) for chunks in encoders.values()]
        return _merge(pieces)

    return tokenize


def _pieces(clip: Any, chunks: list) -> list[Piece]:
    """Real tokens of all chunks; word id 0 marks start, end and padding."""
    start, pieces = 0, []
    for chunk in chunks:
        pieces += [
            Piece(_text(clip, token), (start + i,))
            for i, (token, _, word) in enumerate(chunk)
            if word
        ]
        start += len(chunk)
    return pieces


def _text(clip: Any, token: Any) -> str:
    if isinstance(token, Tensor):
        digest = hashlib.sha256(token.detach().float().cpu().numpy().tobytes()).hexdigest()
        return f"{EMBEDDING}{digest[:12]}{WORD_END}"
    return clip.tokenizer.untokenize([(token, 1.0)])[0][1]


def _merge(encoders: list[list[Piece]]) -> list[Piece]:
    """One list of pieces from those of several encoders; the shortest decides where they differ in length."""
    longest = max(encoders, key=len)
    if any([p.text for p in pieces] != [p.text for p in longest] for pieces in encoders):
        return _merge_words(encoders)
    rows = zip(*encoders, strict=True)
    return [
        Piece(same[0].text, tuple(dict.fromkeys(r for piece in same for r in piece.positions)))
        for same in rows
    ]


def _merge_words(encoders: list[list[Piece]]) -> list[Piece]:
    """Encoders disagree where an embedding has a vector for each: align what lies between embeddings."""
    plain = [
        [piece for piece in pieces if not piece.text.startswith(EMBEDDING)] for pieces in encoders
    ]
    embedded = [
        [piece for piece in pieces if piece.text.startswith(EMBEDDING)] for pieces in encoders
    ]
    merged = _merge(plain) if all(len(p) == len(plain[0]) for p in plain) else plain[0]
    return sorted(
        [*merged, *(piece for pieces in embedded for piece in pieces)], key=lambda p: p.positions[0]
    )
