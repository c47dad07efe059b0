"""A prompt as a row of plain words and of words that have a meaning for the picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from . import lexicon
from .lexicon import Mark, Meaning, Place, Relation
from .vocabulary import ADVERBS, is_adjective, is_participle

TOKEN = re.compile(r"[^\W_]+(?:[-'\u2019][^\W_]+)*|[^\w\s]|\n")
# Text in quotes, each mark with space or punctuation on its outer side: no apostrophe is one.
QUOTED = re.compile(
    r"(?<!\w)(?:\"([^\"\n]{1,300})\"|\u201c([^\u201d\n]{1,300})\u201d|'([^'\n]{1,300})'"
    r"|\u2018([^\u2019\n]{1,300})\u2019)(?!\w)"
)
QUOTES = frozenset("\"'\u201c\u201d\u2018\u2019\u00ab\u00bb")  # that hold no writing: passed over
PUNCTUATION = {",": Mark.COMMA, "&": Mark.JOIN, "+": Mark.JOIN}


@dataclass(frozen=True)
class Token:
    """A word in lower case and its place in the text."""

    text: str
    start: int
    end: int


Symbol = Token | Meaning


def symbols_of(text: str) -> list[Symbol]:
    """Split a plain text into words and meanings, in order; text in quotes is left out."""
    tokens = _tokens(text)
    symbols: list[Symbol] = []
    i = 0
    while i < len(tokens):
        length, meaning = meaning_at(tokens, i)
        if _is_idle_adverb(tokens, i, meaning):
            i += 1
        elif meaning is None or _belongs(tokens, i, length, meaning, symbols):
            symbols += tokens[i : i + max(length, 1)]
            i += max(length, 1)
        else:
            symbols.append(meaning)
            i += length
    return symbols


def meaning_at(tokens: Sequence[Token], i: int) -> tuple[int, Meaning | None]:
    """Return the length and meaning of the longest phrase that begins at a token, (0, None) for
    none.
    """
    if i >= len(tokens):
        return 0, Mark.BREAK
    text = tokens[i].text
    if not text[0].isalnum():
        return 1, PUNCTUATION.get(text, Mark.BREAK)
    for length in range(min(lexicon.LONGEST, len(tokens) - i), 0, -1):
        words = tuple(token.text for token in tokens[i : i + length])
        if words in lexicon.MEANINGS:
            return length, lexicon.MEANINGS[words]
    return _comparison(tokens, i)


def is_determiner(word: str) -> bool:
    """Return whether a word is an article, a possessive or a count."""
    return word in lexicon.DEFINITE or word in lexicon.INDEFINITE or number(word) is not None


def number(word: str) -> int | None:
    """Return what a count says, None for other words."""
    if word in lexicon.NUMBERS:
        return lexicon.NUMBERS[word]
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 2 else None


def _tokens(text: str) -> list[Token]:
    found = [
        Token(match[0].lower().replace("\u2019", "'"), *match.span())
        for match in TOKEN.finditer(text)
        if match[0] not in QUOTES
    ]
    quoted = _writings(text)
    if not quoted:
        return found
    outside = [token for token in found if not _is_within(token, quoted)]
    return outside if any(token.text[0].isalnum() for token in outside) else found


def _writings(text: str) -> list[tuple[int, int]]:
    """Start and end of every quote of words that stand written, "says" before it included."""
    found = []
    for match in QUOTED.finditer(text):
        words = list(TOKEN.finditer(text, max(match.start() - 60, 0), match.start()))[-2:]
        said = [word.start() for word in words if word[0].lower() in lexicon.SAYING]
        if said or _is_title(match, words):
            found.append((min(said, default=match.start()), match.end()))
    return found


def _is_title(quote: re.Match, before: Sequence[re.Match]) -> bool:
    """Whether a quote holds several words, or what stands before it announces writing."""
    inside = next(part for part in quote.groups() if part is not None)
    announced = any(word[0].lower() in lexicon.WRITING for word in before)
    return announced or len(inside.split()) > 1


def _is_within(token: Token, spans: Sequence[tuple[int, int]]) -> bool:
    return any(start <= token.start < end for start, end in spans)


def _comparison(tokens: Sequence[Token], i: int) -> tuple[int, Meaning | None]:
    """The length of "larger than", "more colourful than" or "as big as", which part two things."""
    words = [token.text for token in tokens[i : i + 3]]
    if len(words) > 1 and words[1] == "than":
        return 2, Mark.BREAK
    if len(words) == 3 and words[0] in ("more", "less") and words[2] == "than":
        return 3, Mark.BREAK
    return (1, Mark.BREAK) if words[0] == "than" else (0, None)


def _is_idle_adverb(tokens: Sequence[Token], i: int, meaning: Meaning | None) -> bool:
    """Whether an adverb only shades the preposition behind it: "slightly above a dog"."""
    if tokens[i].text not in ADVERBS or meaning is not None:
        return False
    rest = i + 1
    while rest < len(tokens) and tokens[rest].text in ADVERBS:
        rest += 1
    return isinstance(meaning_at(tokens, rest)[1], Relation | Place)


def _belongs(
    tokens: Sequence[Token], i: int, length: int, meaning: Meaning, symbols: Sequence[Symbol]
) -> bool:
    """Whether a word with a meaning is part of a name: "a bowl of soup", "a nearby hill"."""
    chunk = _tail(symbols)
    if meaning is Mark.OF:
        return bool(chunk)
    following = i + length
    if not chunk or following >= len(tokens) or not _names_more(tokens, following):
        return False
    if meaning in (Mark.JOIN, Mark.COMMA):
        more = _names_more(tokens, following + 1)
        return _is_description(chunk, tokens[following].text, more)
    return _describes(tokens[i].text, chunk[-1].text)


def _describes(word: str, before: str) -> bool:
    """Whether a preposition stands for an adjective here: "a nearby hill", "a run down bus"."""
    if word in lexicon.ALSO_DESCRIBING:
        return is_determiner(before)
    return word in lexicon.PARTICLES and before in lexicon.WITH_PARTICLES


def _names_more(tokens: Sequence[Token], i: int) -> bool:
    """Whether a plain word stands here, as the noun does behind its adjective."""
    return meaning_at(tokens, i)[1] is None and not is_determiner(tokens[i].text)


def _is_description(chunk: Sequence[Token], after: str, more: bool) -> bool:
    """Whether adjectives go on behind "and" or a comma: all that was said of the noun is one.

    ``after`` is the word behind, ``more`` says that another one follows.
    """
    content = _since_determiner(chunk)
    if not content:
        return False
    if all(is_adjective(word) for word in content):
        return more or not is_participle(after)
    if not more or not (is_adjective(after) or is_participle(after)):
        return False
    if len(content) > 1:
        return is_adjective(content[0])
    return len(chunk) > 1 and is_participle(content[0])


def _since_determiner(chunk: Sequence[Token]) -> list[str]:
    """The words behind the last article or count, the last one first."""
    content: list[str] = []
    for token in reversed(chunk):
        if is_determiner(token.text):
            break
        content.append(token.text)
    return content


def _tail(symbols: Sequence[Symbol]) -> list[Token]:
    """The words since the last meaning."""
    tail: list[Token] = []
    for symbol in reversed(symbols):
        if not isinstance(symbol, Token):
            break
        tail.append(symbol)
    return tail[::-1]
