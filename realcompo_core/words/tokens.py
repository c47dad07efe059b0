"""Phrase -> token positions, exact: no guess is ever made.

The tokenizer is injected as a function from text to pieces, in the order of the conditioning's
rows. A piece's text ends in ``</w>`` where a word ends, as CLIP's byte-pair vocabulary has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from ..errors import InputError
from ..layout.model import Layout
from .spelling import (
    UNKNOWN,
    WORD_END,
    Gap,
    Piece,
    Spelling,
    places_of,
    read_out,
    spelled,
    words_in,
)

__all__ = ["WORD_END", "Piece", "Tokenizer", "Word", "describe", "find", "search", "words_of"]
_DETERMINERS = (
    "a an the some this that these those his her its their my your our one two three four five "
    "six seven eight nine ten eleven twelve several many few both another each every no 1 2 3 4 "
    "5 6 7 8 9 10 11 12"
)
DETERMINERS = frozenset(_DETERMINERS.split())
IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "people": "person",
    "mice": "mouse",
    "geese": "goose",
    "feet": "foot",
    "teeth": "tooth",
    "oxen": "ox",
    "dice": "die",
    "cacti": "cactus",
}


LONGER = 5  # characters that a noun's other number may have more: "children"
OUTER = re.compile(r"^[\W_]+|[\W_]+$")


@dataclass(frozen=True)
class Word:
    """One word of a prompt and the positions of all its tokens."""

    text: str
    positions: tuple[int, ...]


Tokenizer = Callable[[str], list[Piece]]
Found = tuple[int, ...] | InputError  # token positions, or why there are none


@dataclass(frozen=True)
class Phrase:
    """A phrase as it stands, and its words that carry meaning.

    Without articles, counts and outer punctuation.
    """

    whole: Spelling
    core: Spelling

    @property
    def key(self) -> str:
        """Return what objects of one phrase share."""
        return self.whole.text

    @classmethod
    def of(cls, text: str, tokenizer: Tokenizer) -> Phrase:
        """Spell a phrase out."""
        whole = spelled(tokenizer(text))
        core = spelled(tokenizer(core_of(text)))
        return cls(whole, core if core.text and core.text in whole.text else whole)


def words_of(pieces: Sequence[Piece]) -> list[Word]:
    """Join sub-word pieces into words; a word may straddle two 77-token chunks."""
    words = []
    for word in words_in(pieces):
        text = "".join(character for character, _ in read_out(word))
        positions = chain.from_iterable(piece.positions for piece in word)
        words.append(Word(text, tuple(dict.fromkeys(positions))))
    return words


def search(
    layout: Layout, pieces: Sequence[Piece], tokenizer: Tokenizer, words: Sequence[Word]
) -> list[Found]:
    """Return the positions of each object's phrase among a prompt's pieces, or why it has none.

    ``words`` are the prompt's, of all text encoders: errors show them, and an object that names its
    positions may name any of theirs.
    """
    text = spelled(pieces)
    phrases = [Phrase.of(placed.phrase, tokenizer) for placed in layout.objects]
    found: dict[int, Found] = {}
    free: list[int] = []
    for i, placed in enumerate(layout.objects):
        if placed.tokens is None:
            free.append(i)
        else:
            found[i] = _checked(placed.phrase, placed.tokens, words)
    for i in sorted(free, key=lambda i: -len(phrases[i].key)):
        rivals = [j for j in free if phrases[j].key == phrases[i].key]
        hits = _untaken(find(phrases[i], text), i, phrases, found)
        found[i] = _choose(hits, rivals.index(i), len(rivals), layout.objects[i].phrase, words)
    return [found[i] for i in range(len(phrases))]


def _untaken(
    hits: list[tuple[int, ...]],
    i: int,
    phrases: Sequence[Phrase],
    found: dict[int, Found],
) -> list[tuple[int, ...]]:
    """The places that no other phrase has taken; all of them where none is left."""
    taken: set[int] = set()
    for j, rows in found.items():
        if phrases[j].key != phrases[i].key and not isinstance(rows, InputError):
            taken.update(rows)
    return [hit for hit in hits if taken.isdisjoint(hit)] or hits


def find(phrase: Phrase, text: Spelling) -> list[tuple[int, ...]]:
    """Return every place of a phrase in a prompt, as the positions of the words that carry meaning.

    Tried as it stands, then without leading articles, counts and outer punctuation, then with
    singular and plural taken as equal; the first way that finds a place wins. A phrase with letters
    that the vocabulary does not know has none.
    """
    if UNKNOWN in phrase.whole.text:
        return []
    lead = phrase.whole.text.rfind(phrase.core.text)
    size = len(phrase.core.text)
    whole = [
        text.rows(start + lead, start + lead + size) for start, _ in places_of(phrase.whole, text)
    ]
    if whole:
        return whole
    core = [text.rows(*place) for place in places_of(phrase.core, text)]
    return core or _in_either_number(phrase.core, text)


def core_of(phrase: str) -> str:
    """Return a phrase without outer punctuation and leading articles and counts.

    Of these the last word stays.
    """
    words = OUTER.sub("", phrase).split()
    while len(words) > 1 and words[0].lower() in DETERMINERS:
        words = words[1:]
    return OUTER.sub("", " ".join(words))


def describe(words: Sequence[Word]) -> str:
    """Return the prompt's words with their token positions, for messages.

    ``a[1] red[2] cube[3]``.
    """
    return " ".join(f"{word.text}[{','.join(map(str, word.positions))}]" for word in words)


@lru_cache(maxsize=4096)
def singulars(word: str) -> frozenset[str]:
    """Return the word and every singular it may be the plural of."""
    forms = {word, IRREGULAR.get(word, word)}
    if word.endswith("ies"):
        forms.add(word[:-3] + "y")
    if word.endswith("ves"):
        forms |= {word[:-3] + "f", word[:-3] + "fe"}
    if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
        forms.add(word[:-2])
    if word.endswith("s") and not word.endswith(
        "ss"
    ):  # "tenni" is no word, but "corgi" and "emu" are
        forms.add(word[:-1])
    return frozenset(forms)


def _in_either_number(core: Spelling, text: Spelling) -> list[tuple[int, ...]]:
    wanted = [core.text[start:end] for start, end in core.words()]
    hits = []
    for first, gap in enumerate(text.gaps if wanted else ()):
        end = first
        for wish in wanted:
            end = _noun_end(wish, text, end)
        if gap is not Gap.NONE and end > 0:
            hits.append(text.rows(first, end))
    return hits


def _noun_end(wish: str, text: Spelling, start: int) -> int:
    """Where a noun ends that begins here in either number; -1 where another word stands."""
    if start < 0 or not text.text.startswith(wish[0], start):
        return -1
    for end in range(start + 1, min(start + len(wish) + LONGER, len(text.text)) + 1):
        if text.gap(end) is not Gap.NONE and _same_noun(wish, text.text[start:end]):
            return end
        if text.gap(end) is Gap.HARD:
            break
    return -1


def _same_noun(wanted: str, got: str) -> bool:
    return wanted == got or not singulars(wanted).isdisjoint(singulars(got))


def _choose(
    hits: list[tuple[int, ...]], index: int, rivals: int, phrase: str, words: Sequence[Word]
) -> Found:
    if not hits:
        fix = "Use words of the prompt for the phrase, or give the object token positions."
        got = f"a prompt with {describe(words)}"
        return InputError(f"phrase {phrase!r}", "words of the prompt", got, fix)
    if len(hits) == 1:
        return hits[0]
    if index < len(hits):
        return hits[index]
    fix = "Name each object differently, or give the objects token positions."
    expected = f"one place in the prompt for each of its {rivals} objects"
    got = f"{len(hits)} places in {describe(words)}"
    return InputError(f"phrase {phrase!r}", expected, got, fix)


def _checked(phrase: str, tokens: tuple[int, ...], words: Sequence[Word]) -> Found:
    known: set[int] = set()
    for word in words:
        known.update(word.positions)
    if tokens and known.issuperset(tokens):
        return tokens
    expected = f"positions of the prompt's tokens {describe(words)}"
    fix = "Leave them out to search."
    return InputError(f"tokens of {phrase!r}", expected, str(list(tokens)), fix)
