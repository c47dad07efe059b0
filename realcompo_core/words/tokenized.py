"""A prompt as several text encoders tokenize it, each in rows of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from ..errors import InputError
from ..layout.model import Layout
from .tokens import Found, Piece, Tokenizer, Word, describe, search, words_of


@dataclass(frozen=True)
class Tokenized:
    """A prompt as one text encoder tokenizes it, and how it tokenizes a phrase."""

    pieces: Sequence[Piece]
    tokenizer: Tokenizer

    @classmethod
    def of(cls, prompt: str, tokenizer: Tokenizer) -> Tokenized:
        """Return a prompt by a tokenizer that gives it the positions that it has."""
        return cls(tokenizer(prompt), tokenizer)


def locate(layout: Layout, prompt: str, tokenizer: Tokenizer) -> tuple[tuple[int, ...], ...]:
    """Return the token positions of each object's phrase, as :func:`locate_in` one encoder."""
    return locate_in(layout, [Tokenized.of(prompt, tokenizer)])


def locate_in(layout: Layout, encoders: Sequence[Tokenized]) -> tuple[tuple[int, ...], ...]:
    """Return the token positions of each object's phrase in the prompt, one tuple per object.

    A phrase that several encoders have gets its positions in all of them. In each, objects that
    share a phrase take its occurrences in order, or share the only one ("two corgis"). Longer
    phrases choose first, so that "cube" is not found inside "red cube" where it also stands alone.
    Articles and counts carry no object and are left out. Raises :class:`InputError` with the
    prompt's tokens where a phrase is absent from all, or has too few places in all.
    """
    return tuple(map(_joined, _searched(layout, encoders)))


def matched(layout: Layout, encoders: Sequence[Tokenized]) -> str:
    """Return a line for each object: its phrase and the words of the prompt that it matched.

    ``(shared)`` says that other objects have the same words. Raises as :func:`locate_in`.
    """
    searched = _searched(layout, encoders)
    tokens = list(map(_joined, searched))
    lines = []
    for placed, own, found in zip(layout.objects, tokens, searched, strict=True):
        having = [
            encoder
            for encoder, rows in zip(encoders, found, strict=True)
            if not isinstance(rows, InputError)
        ]
        words = [word for word in words_in(having) if not set(own).isdisjoint(word.positions)]
        shared = " (shared)" if tokens.count(own) > 1 else ""
        lines.append(f"{placed.phrase}: {describe(words)}{shared}")
    return "\n".join(lines)


def words_in(encoders: Sequence[Tokenized]) -> list[Word]:
    """Return the prompt's words; encoders with the same words give each all its positions."""
    alike: dict[tuple[str, ...], list[list[Word]]] = {}
    for encoder in encoders:
        words = words_of(encoder.pieces)
        alike.setdefault(tuple(word.text for word in words), []).append(words)
    found = []
    for same in alike.values():
        for word in zip(*same, strict=True):
            rows = chain.from_iterable(part.positions for part in word)
            found.append(Word(word[0].text, tuple(dict.fromkeys(rows))))
    return found


def _searched(layout: Layout, encoders: Sequence[Tokenized]) -> list[tuple[Found, ...]]:
    """For each object, what was found of it in each encoder."""
    words = words_in(encoders)
    found = [search(layout, encoder.pieces, encoder.tokenizer, words) for encoder in encoders]
    return list(zip(*found, strict=True))


def _joined(found: Sequence[Found]) -> tuple[int, ...]:
    """The positions in all encoders. Raises the first one's error where none has any."""
    rows: list[int] = []
    for one in found:
        if not isinstance(one, InputError):
            rows += one
    if not rows and isinstance(found[0], InputError):
        raise found[0]
    return tuple(dict.fromkeys(rows))
