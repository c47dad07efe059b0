"""A prompt as several text encoders read it, each in rows of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from ..errors import InputError
from ..layout.model import Layout
from .tokens import Found, Piece, Tokenizer, Word, describe, search, words_of


@dataclass(frozen=True)
class Reading:
    """A prompt as one text encoder reads it, and how it reads a phrase."""

    pieces: Sequence[Piece]
    tokenizer: Tokenizer

    @classmethod
    def of(cls, prompt: str, tokenizer: Tokenizer) -> Reading:
        """Return the reading by a tokenizer that gives every text its positions in a prompt."""
        return cls(tokenizer(prompt), tokenizer)


def locate(layout: Layout, prompt: str, tokenizer: Tokenizer) -> tuple[tuple[int, ...], ...]:
    """Return the token positions of each object's phrase, as :func:`locate_in` one reading."""
    return locate_in(layout, [Reading.of(prompt, tokenizer)])


def locate_in(layout: Layout, readings: Sequence[Reading]) -> tuple[tuple[int, ...], ...]:
    """Return the token positions of each object's phrase in the prompt, one tuple per object.

    A phrase that several readings have gets its positions in all of them. In each, objects that
    share a phrase take its occurrences in order, or share the only one ("two corgis"). Longer
    phrases choose first, so that "cube" is not found inside "red cube" where it also stands alone.
    Articles and counts carry no object and are left out. Raises :class:`InputError` with the
    prompt's tokens where a phrase is absent from all, or has too few places in all.
    """
    return tuple(map(_joined, _searched(layout, readings)))


def matched(layout: Layout, readings: Sequence[Reading]) -> str:
    """Return a line for each object: its phrase and the words of the prompt that it matched.

    ``(shared)`` says that other objects have the same words. Raises as :func:`locate_in`.
    """
    searched = _searched(layout, readings)
    tokens = list(map(_joined, searched))
    lines = []
    for placed, own, found in zip(layout.objects, tokens, searched, strict=True):
        having = [
            reading
            for reading, rows in zip(readings, found, strict=True)
            if not isinstance(rows, InputError)
        ]
        words = [word for word in words_in(having) if not set(own).isdisjoint(word.positions)]
        shared = " (shared)" if tokens.count(own) > 1 else ""
        lines.append(f"{placed.phrase}: {describe(words)}{shared}")
    return "\n".join(lines)


def words_in(readings: Sequence[Reading]) -> list[Word]:
    """Return the prompt's words; readings with the same words give each all its positions."""
    alike: dict[tuple[str, ...], list[list[Word]]] = {}
    for reading in readings:
        words = words_of(reading.pieces)
        alike.setdefault(tuple(word.text for word in words), []).append(words)
    found = []
    for same in alike.values():
        for word in zip(*same, strict=True):
            rows = chain.from_iterable(part.positions for part in word)
            found.append(Word(word[0].text, tuple(dict.fromkeys(rows))))
    return found


def _searched(layout: Layout, readings: Sequence[Reading]) -> list[tuple[Found, ...]]:
    """For each object, what was found of it in each reading."""
    words = words_in(readings)
    found = [search(layout, reading.pieces, reading.tokenizer, words) for reading in readings]
    return list(zip(*found, strict=True))


def _joined(found: Sequence[Found]) -> tuple[int, ...]:
    """The positions in all readings. Raises the first one's error where none has any."""
    rows: list[int] = []
    for one in found:
        if not isinstance(one, InputError):
            rows += one
    if not rows and isinstance(found[0], InputError):
        raise found[0]
    return tuple(dict.fromkeys(rows))
