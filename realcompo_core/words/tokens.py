"""Phrase -> token positions, exact: no guess is ever made.

The tokenizer is injected as a function from text to pieces, in the order of the conditioning's
rows. A piece's text ends in ``</w>`` where a word ends, as CLIP's byte-pair vocabulary has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import InputError
from ..layout.model import Layout, LayoutObject

WORD_END = "</w>"
DETERMINERS = frozenset(
    "a an the some this that these those his her its their my your our one two three four five six seven eight"  # noqa: SIM905
    " nine ten eleven twelve several many few both another each every no 1 2 3 4 5 6 7 8 9 10 11 12".split()
)
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


@dataclass(frozen=True)
class Piece:
    """One token: its vocabulary text and its positions (rows of the conditioning, 0 is the start token)."""

    text: str
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Word:
    """One word of a prompt and the positions of all its tokens."""

    text: str
    positions: tuple[int, ...]


Tokenizer = Callable[[str], list[Piece]]


def words_of(pieces: Sequence[Piece]) -> list[Word]:
    """Join sub-word pieces into words; a word may straddle two 77-token chunks."""
    words, text, positions = [], "", ()
    for piece in pieces:
        text, positions = text + piece.text, positions + piece.positions
        if text.endswith(WORD_END):
            words.append(Word(text.removesuffix(WORD_END), positions))
            text, positions = "", ()
    return [*words, Word(text, positions)] if text else words


def locate(layout: Layout, prompt: str, tokenizer: Tokenizer) -> tuple[tuple[int, ...], ...]:
    """Token positions of each object's phrase in the prompt, one tuple per object.

    Objects that share a phrase take its occurrences in order, or share the only one ("two
    corgis"). Longer phrases choose first, so that "cube" is not found inside "red cube" where it
    also stands alone. Articles and counts carry no object and are left out. Raises
    :class:`InputError` with the prompt's tokens where a phrase is absent or has too few places.
    """
    words = words_of(tokenizer(prompt))
    phrases = [
        tuple(word.text for word in words_of(tokenizer(placed.phrase))) for placed in layout.objects
    ]
    free = [i for i, placed in enumerate(layout.objects) if placed.tokens is None]
    located = {i: _checked(e, words) for i, e in enumerate(layout.objects) if e.tokens is not None}
    for i in sorted(free, key=lambda i: -len(phrases[i])):
        rivals = [j for j in free if phrases[j] == phrases[i]]
        taken = {
            p for j, positions in located.items() if phrases[j] != phrases[i] for p in positions
        }
        hits = find(phrases[i], words, len(rivals))
        hits = [hit for hit in hits if taken.isdisjoint(hit)] or hits
        located[i] = _choose(hits, rivals.index(i), len(rivals), layout.objects[i].phrase, words)
    return tuple(located[i] for i in range(len(phrases)))


def find(phrase: Sequence[str], words: Sequence[Word], wanted: int = 1) -> list[tuple[int, ...]]:
    """Occurrences of a phrase (its words) in a prompt, as the positions of the words that carry meaning.

    Tried word for word, then without leading determiners and outer punctuation, then with singular
    and plural taken as equal; the strictest way that finds ``wanted`` places wins, else the strictest
    that finds any.
    """
    start, stop = _core(phrase)
    core = list(phrase[start:stop])
    ways = ((list(phrase), _equal, start), (core, _equal, 0), (core, _same_noun, 0))
    found = [_occurrences(needle, words, same, skip, len(core)) for needle, same, skip in ways]
    return next(
        (hits for hits in found if len(hits) >= wanted), next((hits for hits in found if hits), [])
    )


def describe(words: Sequence[Word]) -> str:
    """The prompt's words with their token positions, for messages: ``a[1] red[2] cube[3]``."""
    return " ".join(f"{word.text}[{','.join(map(str, word.positions))}]" for word in words)


def singulars(word: str) -> set[str]:
    """The word and every singular it may be the plural of."""
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
    return forms


def _core(phrase: Sequence[str]) -> tuple[int, int]:
    """Start and stop of the part without outer punctuation and leading determiners, never empty."""
    start, stop = 0, len(phrase)
    while stop - start > 1 and not _is_word(phrase[stop - 1]):
        stop -= 1
    while stop - start > 1 and (phrase[start] in DETERMINERS or not _is_word(phrase[start])):
        start += 1
    return start, stop


def _occurrences(
    needle: list[str],
    words: Sequence[Word],
    same: Callable[[str, str], bool],
    skip: int,
    length: int,
) -> list[tuple[int, ...]]:
    windows = [words[start : start + len(needle)] for start in range(len(words) - len(needle) + 1)]
    hits = [
        window
        for window in windows
        if needle and all(map(same, needle, (word.text for word in window)))
    ]
    return [tuple(p for word in hit[skip : skip + length] for p in word.positions) for hit in hits]


def _is_word(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _equal(wanted: str, got: str) -> bool:
    return wanted == got


def _same_noun(wanted: str, got: str) -> bool:
    return not singulars(wanted).isdisjoint(singulars(got))


def _choose(
    hits: list, index: int, rivals: int, phrase: str, words: Sequence[Word]
) -> tuple[int, ...]:
    if not hits:
        fix = "Use words of the prompt for the phrase, or give the object token positions."
        raise InputError(
            f"phrase {phrase!r}", "words of the prompt", f"a prompt with {describe(words)}", fix
        )
    if len(hits) == 1:
        return hits[0]
    if index >= len(hits):
        fix = "Name each object differently, or give the objects token positions."
        expected = f"one place in the prompt for each of its {rivals} objects"
        raise InputError(
            f"phrase {phrase!r}", expected, f"{len(hits)} places in {describe(words)}", fix
        )
    return hits[index]


def _checked(placed: LayoutObject, words: Sequence[Word]) -> tuple[int, ...]:
    known = {position for word in words for position in word.positions}
    if not placed.tokens or not set(placed.tokens) <= known:
        expected = f"positions of the prompt's tokens {describe(words)}"
        got = str(list(placed.tokens or ()))
        raise InputError(f"tokens of {placed.phrase!r}", expected, got, "Leave them out to search.")
    return placed.tokens
