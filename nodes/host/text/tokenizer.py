"""A prompt as the host's text encoders tokenize it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, groupby, takewhile
from typing import Any

from torch import Tensor

from ....realcompo_core.errors import InputError
from ....realcompo_core.words.spelling import WORD_END, Piece
from ....realcompo_core.words.tokenized import Tokenized
from .rows import Chunks, rows_of
from .vocabulary import Row, Vocabulary

EMBEDDING = "embedding:"
SDXL = {"l", "g"}  # its encoders
OTHER = "~"  # a text that no prompt begins or ends with; some templates are others for no text

Numbered = tuple[int, Any]  # a token and its number
Tokenize = Callable[[str], dict[str, Chunks]]


@dataclass(frozen=True)
class Prompt:
    """A prompt as the text encoders of one CLIP tokenize it.

    ``rows`` is how many rows they encode it to.
    """

    encoders: Sequence[Tokenized]
    rows: int


def prompt_of(clip: Any, text: str, text_l: str = "") -> Prompt:
    """Return a prompt as this CLIP tokenizes it, in rows of its conditioning.

    The words of templates are left out. ``text_l`` is the text of CLIP-L where that is
    another, as SDXL's may be. Raises :class:`InputError` for no CLIP, and for text encoders whose
    rows are not known.
    """
    check_clip(clip)
    tokenize = _tokenizing(clip)
    encoders = tokenize(text)
    if text_l:
        encoders = _apart(encoders, text_l, tokenize)
    rows = rows_of(clip, encoders)
    tokenized = []
    for name in filter(rows.of.get, encoders):
        encoder = Encoder(name, tokenize, Vocabulary(_part(clip.tokenizer, name).inv_vocab))
        tokenized.append(Tokenized(encoder.pieces(encoders[name], rows.of[name].get), encoder))
    return Prompt(tokenized, rows.count)


@dataclass(frozen=True)
class Encoder:
    """One text encoder, as the core's tokenizer: a text's pieces, numbered as its tokens."""

    name: str
    tokenize: Tokenize
    vocabulary: Vocabulary

    def __call__(self, text: str) -> list[Piece]:
        """Return a text's pieces."""
        return self.pieces(self.tokenize(text)[self.name], lambda number: (number,))

    def pieces(self, chunks: Chunks, row: Callable[[int], Row | None]) -> list[Piece]:
        """Return the pieces of the text's own tokens that have rows."""
        placed = []
        for number, token in self._own(chunks):
            rows = row(number)
            if rows:
                placed.append((token, rows))
        found: list[Piece] = []
        for embedded, group in groupby(placed, lambda pair: isinstance(pair[0], Tensor)):
            spell = _embeddings if embedded else self.vocabulary.pieces
            found += spell(group)
        return found

    def _own(self, chunks: Chunks) -> list[Numbered]:
        """The tokens of the text alone: what stands around every text is a template's."""
        tokens, other = _words(chunks), _words(self.tokenize(OTHER)[self.name])
        start = _shared(tokens, other)
        end = _shared(tokens[start:][::-1], other[start:][::-1])
        return tokens[start : len(tokens) - end]


def check_clip(clip: Any) -> None:
    """Raise :class:`InputError` where a checkpoint brought no text encoder."""
    if clip is None:
        fix = "Use a checkpoint that contains a text encoder, or a CLIP loader."
        raise InputError("clip", "a text encoder", "none", fix)


def _tokenizing(clip: Any) -> Tokenize:
    return cache(lambda text: clip.tokenize(text, return_word_ids=True))


def _apart(encoders: dict[str, Chunks], text_l: str, tokenize: Tokenize) -> dict[str, Chunks]:
    """SDXL's tokens, those of CLIP-L of a text of its own."""
    if set(encoders) != SDXL:
        fix = "Leave text_l empty, and let text be what the encoder with the longest text got."
        raise InputError("text_l", "the CLIP of SDXL", ", ".join(sorted(encoders)), fix)
    return encoders | {"l": tokenize(text_l)["l"]}


def _part(tokenizer: Any, name: str) -> Any:
    """The tokenizer of one encoder, under one of the names that the host gives them."""
    return getattr(tokenizer, name, None) or getattr(tokenizer, f"clip_{name}")


def _embeddings(placed: Iterable[tuple[Tensor, Row]]) -> list[Piece]:
    """A word for each vector of an embedding."""
    found = []
    for token, row in placed:
        digest = hashlib.sha256(token.detach().float().cpu().numpy().tobytes()).hexdigest()
        found.append(Piece(f"{EMBEDDING}{digest[:12]}{WORD_END}", row))
    return found


def _words(chunks: Chunks) -> list[Numbered]:
    """All tokens but start, end and padding, which have word id 0 where there are any ids."""
    tokens = enumerate(chain.from_iterable(chunks))
    return [(number, token[0]) for number, token in tokens if token[2:] != (0,)]


def _shared(tokens: list[Numbered], others: list[Numbered]) -> int:
    """How many tokens both begin with."""
    pairs = zip(tokens, others, strict=False)
    return len(list(takewhile(lambda pair: _is_same(pair[0][1], pair[1][1]), pairs)))


def _is_same(one: Any, other: Any) -> bool:
    return isinstance(one, int) and isinstance(other, int) and one == other
