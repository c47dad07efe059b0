"""Texts as rows of characters, each with the tokens that spell it: what phrases are compared by.

A tokenizer may cut a word where no reader would: CLIP's takes ``'d`` for a token of its own, so
that ``'Diffusion'`` is ``'d`` and ``iffusion``. A Chinese sentence is one word to it. Compared are
therefore characters, and between them gaps: where a word ends, where none does, and where one may.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

WORD_END = "</w>"
UNKNOWN = "\ufffd"  # stands for letters that a vocabulary has no token for
CONTRACTIONS = frozenset(("'s", "'t", "'m", "'d", "'ll", "'re", "'ve"))
# Characters that only set words off: "red_cube", "a robot (old)" and "a robot \(old\)" name what
# stands without them.
UNSAID = frozenset("_()[]{}\\")
SAME = str.maketrans("\u2018\u2019\u201a\u02bc\u00b4`\u201c\u201d\u201e", "''''''\"\"\"")
# Scripts without spaces between words: Thai, Lao, Chinese, Japanese.
UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True)
class Piece:
    """One token: its vocabulary text and its positions (rows of the conditioning, 0 is the start
    token).
    """

    text: str
    positions: tuple[int, ...]


Letter = tuple[str, tuple[int, ...]]  # a character and the positions of its tokens


class Gap(Enum):
    """What stands between two characters."""

    NONE = "a word goes on"
    SOFT = "a word may end"
    HARD = "a word ends"


@dataclass(frozen=True)
class Spelling:
    """Characters without spaces in lower case, the positions of the tokens of each, and the gap
    before each.

    ``unsaid`` are the positions of the brackets and underscores that were left out right before
    each.
    """

    text: str
    positions: tuple[tuple[int, ...], ...]
    gaps: tuple[Gap, ...]
    unsaid: tuple[tuple[int, ...], ...]

    def rows(self, start: int, end: int) -> tuple[int, ...]:
        """Return the token positions of the characters from ``start`` to ``end``, each once, in
        order.
        """
        found = list(self.positions[start])
        for i in range(start + 1, end):
            found += [*self.unsaid[i], *self.positions[i]]
        return tuple(dict.fromkeys(found))

    def gap(self, i: int) -> Gap:
        """Return the gap before the character ``i``; behind the last one a word ends."""
        return self.gaps[i] if i < len(self.gaps) else Gap.HARD

    def words(self) -> list[tuple[int, int]]:
        """Return start and end of every word, split where a word surely ends."""
        starts = [i for i, gap in enumerate(self.gaps) if gap is Gap.HARD]
        return list(zip(starts, [*starts[1:], len(self.text)][: len(starts)], strict=True))


def spelled(pieces: Sequence[Piece]) -> Spelling:
    """Spell out a text's tokens."""
    text = ""
    positions: list[tuple[int, ...]] = []
    gaps: list[Gap] = []
    unsaid: list[tuple[int, ...]] = []
    left_out: tuple[int, ...] = ()
    after_contraction = False
    for word in words_in(pieces):
        letters = read_out(word)
        begins = True
        for character, rows in letters:
            if character in UNSAID:
                left_out += rows
                continue
            gaps.append(_gap(text[-1:], character, begins=begins, soft=after_contraction))
            text += character
            positions.append(rows)
            unsaid.append(left_out)
            left_out = ()
            begins = False
        after_contraction = "".join(character for character, _ in letters) in CONTRACTIONS
    return Spelling(text, tuple(positions), tuple(gaps), tuple(unsaid))


def places_of(needle: Spelling, text: Spelling) -> Iterator[tuple[int, int]]:
    """Yield start and end of every place where a text holds a phrase's characters as words of
    their own.
    """
    size = len(needle.text)
    start = text.text.find(needle.text) if size else -1
    while start >= 0:
        if _is_whole(needle, text, start):
            yield start, start + size
        start = text.text.find(needle.text, start + 1)


def words_in(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Yield the tokens of each word; a word may straddle two 77-token chunks."""
    word: list[Piece] = []
    for piece in pieces:
        word.append(piece)
        if piece.text.endswith(WORD_END):
            yield word
            word = []
    if word:
        yield word


def read_out(word: Sequence[Piece]) -> list[Letter]:
    """Return a word's characters as a reader knows them, in lower case, each with its tokens'
    positions.
    """
    found: list[Letter] = []
    for piece in word:
        text = piece.text.removesuffix(WORD_END).translate(SAME).lower()
        found += [(character, piece.positions) for character in text]
    return found


def _is_whole(needle: Spelling, text: Spelling, start: int) -> bool:
    """Whether words begin, part and end here as they do in the phrase."""
    end = start + len(needle.text)
    if Gap.NONE in (text.gap(start), text.gap(end)):
        return False
    pairs = zip(needle.gaps[1:], text.gaps[start + 1 : end], strict=True)
    return all(one is other or Gap.SOFT in (one, other) for one, other in pairs)


def _gap(before: str, after: str, *, begins: bool, soft: bool) -> Gap:
    """The gap between two characters.

    A word begins after it, maybe one that a contraction cut off (``soft``).
    """
    if not before:
        return Gap.HARD
    if "'" in (before, after) or UNSPACED.match(before) or UNSPACED.match(after):
        return Gap.SOFT
    if begins:
        return Gap.SOFT if soft else Gap.HARD
    return Gap.NONE
