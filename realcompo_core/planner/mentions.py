"""A prompt as a row of things mentioned and the words that put them in place; rules, no language model."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import takewhile

from ..words.tokens import DETERMINERS, IRREGULAR
from . import lexicon
from .lexicon import Mark, Meaning, Place, Relation

TOKEN = re.compile(r"[^\W_]+(?:[-'\u2019][^\W_]+)*|[^\w\s]|\n")
MAXIMUM_COUNT = 30  # more are one crowd
PUNCTUATION = {",": Mark.COMMA, "&": Mark.JOIN, "+": Mark.JOIN}


@dataclass(frozen=True)
class Token:
    """A word in lower case and its place in the text."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Mention:
    """Words that name something: ``start`` to ``end`` of the text; ``noun`` are those without article and count.

    ``determiner`` is the first article or count, "" without; ``acting`` says that a verb was cut off its end.
    """

    start: int
    end: int
    noun: tuple[str, ...]
    determiner: str
    count: int
    acting: bool = False

    @property
    def head(self) -> str:
        """The word that says what it is: "a bowl of soup" is a bowl."""
        end = self.noun.index("of") if "of" in self.noun[1:] else len(self.noun)
        return self.noun[end - 1]


Item = Mention | Relation | Place | Mark


def mentions(text: str) -> list[Item]:
    """The plain text's mentions, prepositions, places and marks, in order."""
    items: list[Item] = []
    chunk: list[Token] = []
    for symbol in [*_symbols(text), Mark.BREAK]:
        if isinstance(symbol, Token):
            chunk.append(symbol)
            continue
        items += _named(chunk, symbol)
        chunk = []
        items += _marks(symbol, items)
    return items


def _marks(meaning: Meaning, before: list[Item]) -> list[Item]:
    """A meaning as it stands behind others: "which" binds to the thing right before, over a comma."""
    if isinstance(meaning, Relation) and meaning.its:
        return [replace(meaning, its=False), Mark.IT]
    if meaning is Mark.WHICH:
        before[:] = before[:-1] if before[-1:] == [Mark.COMMA] else before
        return [Mark.VERB]
    return [meaning]


def is_plural(noun: str) -> bool:
    """Whether a noun may be a plural, by its ending."""
    known = noun in IRREGULAR or noun in lexicon.INVARIABLE
    return known or (noun.endswith("s") and not noun.endswith(("ss", "us", "is")))


def _symbols(text: str) -> list[Token | Meaning]:
    tokens = [
        Token(match[0].lower().replace("\u2019", "'"), *match.span())
        for match in TOKEN.finditer(text)
    ]
    symbols: list[Token | Meaning] = []
    i = 0
    while i < len(tokens):
        length, meaning = _meaning(tokens, i)
        if _is_idle(tokens, i, symbols):
            i += 1
        elif meaning is None or _belongs(tokens, i, length, meaning, symbols):
            symbols += tokens[i : i + max(length, 1)]
            i += max(length, 1)
        else:
            symbols.append(meaning)
            i += length
    return symbols


def _meaning(tokens: list[Token], i: int) -> tuple[int, Meaning | None]:
    """The longest phrase of the lexicon that begins at a token: its length and meaning; (0, None) if none does."""
    if i >= len(tokens):
        return 0, Mark.BREAK
    text = tokens[i].text
    if not text[0].isalnum():
        return 1, PUNCTUATION.get(text, Mark.BREAK)
    for length in range(min(lexicon.LONGEST, len(tokens) - i), 0, -1):
        words = tuple(token.text for token in tokens[i : i + length])
        if words in lexicon.MEANINGS:
            return length, lexicon.MEANINGS[words]
    return 0, None


def _belongs(tokens: list[Token], i: int, length: int, meaning: Meaning, symbols: list) -> bool:
    """Whether a word with a meaning is part of a name here: "a bowl of soup", "a black and white cat"."""
    chunk = _tail(symbols)
    if meaning is Mark.OF:
        return bool(chunk)
    if (
        meaning not in (Mark.JOIN, Mark.COMMA)
        or i + length >= len(tokens)
        or _meaning(tokens, i + length)[1]
    ):
        return False
    content = list(
        takewhile(lambda word: not _is_determiner(word), (token.text for token in reversed(chunk)))
    )
    free = not _is_determiner(tokens[i + length].text)
    return free and bool(content) and all(word in lexicon.ADJECTIVES for word in content)


def _is_idle(tokens: list[Token], i: int, symbols: list) -> bool:
    """Verbs and adverbs before a preposition or at an end: "a cat sits slightly above a dog"."""
    word = tokens[i].text
    rest = next(
        (j for j in range(i + 1, len(tokens)) if tokens[j].text not in lexicon.ADVERBS), len(tokens)
    )
    after = _meaning(tokens, rest)[1]
    if word in lexicon.ADVERBS and _meaning(tokens, i)[1] is None:
        return isinstance(after, Relation | Place)
    chunk = _tail(symbols)
    named = bool(chunk) and not _is_determiner(chunk[-1].text)
    ends = after is not None or _is_determiner(tokens[rest].text)
    if not ends or not (named or symbols[-1:] == [Mark.WHICH]):
        return False
    return word in lexicon.VERBS or (
        named and word in lexicon.PLURAL_VERBS and is_plural(chunk[-1].text)
    )


def _tail(symbols: list) -> list[Token]:
    """The words since the last meaning."""
    start = next(
        (i for i in range(len(symbols), 0, -1) if not isinstance(symbols[i - 1], Token)), 0
    )
    return symbols[start:]


def _is_determiner(word: str) -> bool:
    return word in lexicon.DEFINITE or word in lexicon.INDEFINITE or _number(word) is not None


def _number(word: str) -> int | None:
    if word in lexicon.NUMBERS:
        return lexicon.NUMBERS[word]
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 2 else None


def _named(chunk: list[Token], after: Meaning) -> list[Mention]:
    """The mentions in a run of plain words; each article or count begins one."""
    parts: list[list[Token]] = [[]]
    for i, token in enumerate(chunk):
        begins = (
            _is_determiner(token.text)
            and parts[-1]
            and parts[-1][-1].text != "of"
            and i + 1 < len(chunk)
        )
        if begins and not all(_is_determiner(word.text) for word in parts[-1]):
            parts.append([])
        parts[-1].append(token)
    followers = [Mark.VERB] * (len(parts) - 1) + [after]
    found = [
        _mention(_subject_of(part), follower)
        for part, follower in zip(parts, followers, strict=True)
    ]
    return [mention for mention in found if mention]


def _subject_of(part: list[Token]) -> list[Token]:
    """What a picture is of: "a photo of a cat" mentions a cat."""
    for i, token in enumerate(part):
        if i and token.text in lexicon.DEPICTING and part[i - 1].text in lexicon.MEDIA:
            return _subject_of(part[i + 1 :])
    return part


def _mention(part: list[Token], after: Meaning) -> Mention | None:
    count, start, keep = _quantity(part)
    end = _end(part, start, after)
    noun = tuple(token.text for token in part[start:end])
    determiner = part[0].text if start else ""
    if all(word == "of" or (not determiner and _is_no_noun(word, after)) for word in noun):
        return None
    return Mention(
        part[keep].start, part[end - 1].end, noun, determiner, count, acting=end < len(part)
    )


def _quantity(part: list[Token]) -> tuple[int, int, int]:
    """How many, where the noun's words start, and where the phrase does: it keeps articles and counts only."""
    words = tuple(token.text for token in part)
    for length in range(min(4, len(words)), 0, -1):
        if words[:length] in lexicon.QUANTITIES and len(words) > length:
            count = lexicon.QUANTITIES[words[:length]]
            pair = "pair" in words[:length] and words[-1] in lexicon.SINGULAR_PAIRS
            kept = 0 if DETERMINERS.issuperset(words[:length]) else length
            return (1 if pair else count), length, kept
    start = next((i for i, word in enumerate(words) if not _is_determiner(word)), len(words))
    counts = [
        _number(word) or 1 for word in words[:start] if is_plural(words[-1]) or not word.isdigit()
    ]
    return max([1, *(count for count in counts if count <= MAXIMUM_COUNT)]), start, 0


def _end(part: list[Token], start: int, after: Meaning) -> int:
    """Where the noun's words end: verbs and adverbs behind them are cut off, the first word never."""
    end = len(part)
    while end - start > 1 and _is_verb(part[end - 1].text, after):
        end -= 1
    return end


def _is_no_noun(word: str, after: Meaning) -> bool:
    return word in lexicon.ADJECTIVES or _is_verb(word, after)


def _is_verb(word: str, after: Meaning) -> bool:
    if word.endswith("ing"):
        return len(word) > 4 and word not in lexicon.NOUNS_IN_ING
    if word.endswith("ed"):
        return after not in (Mark.JOIN, Mark.COMMA) and word not in lexicon.NOUNS_IN_ED
    return word == "of" or (
        word.endswith("ly") and len(word) > 3 and word not in lexicon.NOUNS_IN_LY
    )
