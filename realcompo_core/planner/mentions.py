"""A prompt as a row of things mentioned and the words that put them in place.

Rules, no language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..words.tokens import DETERMINERS
from . import lexicon
from .lexicon import Kind, Mark, Meaning, Place, Relation
from .phrases import Run, is_a_can, is_plural, leading_verbs, name_of
from .symbols import Token, is_determiner, number, symbols_of
from .vocabulary import Form, form_of, is_idle

MAXIMUM_COUNT = 30  # more are one crowd


@dataclass(frozen=True)
class Mention:
    """Words that name something: ``start`` to ``end`` of the text.

    ``noun`` are those without article and count.

    ``determiner`` is the first article or count, "" without. ``verb`` is what the thing does to
    what comes next, "" for nothing. ``cut`` says that a verb stood behind it: "a cat sitting".
    """

    start: int
    end: int
    noun: tuple[str, ...]
    determiner: str
    count: int
    verb: str = ""
    cut: bool = False

    @property
    def head(self) -> str:
        """Return the word that says what it is: "a bowl of soup" is a bowl."""
        return self.name[-1]

    @property
    def name(self) -> tuple[str, ...]:
        """Return the noun's words before "of"."""
        end = self.noun.index("of") if "of" in self.noun[1:] else len(self.noun)
        return self.noun[:end]


Item = Mention | Relation | Place | Mark


def mentions(text: str) -> list[Item]:
    """Return the plain text's mentions, prepositions, places and marks, in order."""
    items: list[Item] = []
    chunk: list[Token] = []
    for symbol in [*symbols_of(text), Mark.BREAK]:
        if isinstance(symbol, Token):
            chunk.append(symbol)
            continue
        _add_names(items, chunk, symbol)
        chunk = []
        _add_meaning(items, symbol)
    return [Mark.BREAK if item in (Mark.TO, Mark.AS, Mark.FOR) else item for item in items]


def _add_names(items: list[Item], chunk: Sequence[Token], after: Meaning) -> None:
    """Add the mentions in a run of plain words, and settle what stands before them."""
    if not chunk:
        return
    before = items[-1] if items else Mark.BREAK
    if before is Mark.VERB and not _has_subject(items):
        before = Mark.BREAK  # "there are flying cars"
    found, cut = _named(chunk, items, before, after)
    if before is Mark.AS and not (cut or after is Mark.VERB):
        items[-1] = Mark.SKIP
    if before is Mark.FOR and number(chunk[0].text) is None:
        items[-1] = Mark.SKIP
    items += found


def _add_meaning(items: list[Item], meaning: Meaning) -> None:
    """Add a meaning as it stands behind others.

    "which" binds to the thing right before, over a comma.
    """
    if isinstance(meaning, Relation) and meaning.its:
        items += [replace(meaning, its=False), Mark.IT]
    elif meaning is Mark.WHICH:
        if items[-1:] == [Mark.COMMA]:
            items.pop()
        items.append(Mark.VERB)
    else:
        items.append(meaning)


def _named(
    chunk: Sequence[Token], items: Sequence[Item], before: Item, after: Meaning
) -> tuple[list[Item], bool]:
    """The mentions in plain words, each article or count beginning one, and whether a verb was
    among them.
    """
    parts = _parts(chunk)
    found: list[Item] = []
    cut = False
    verb = ""
    acting = _has_verb(items)
    for i, whole in enumerate(parts):
        part = _subject_of(whole)
        direct = i + 1 < len(parts)
        skipped = _leading(part, before, after, direct=direct, acting=acting)
        if skipped:
            verb = part[0].text if before is Mark.VERB else ""
            cut = True
        mentioned = _mentioned(part[skipped:], before, after, direct=direct)
        if mentioned and verb:
            found += _action(verb)
            verb = ""
        cut = cut or any(mention.cut for mention in mentioned)
        found += mentioned
        before = Mark.OF
    return found, cut


def _has_subject(items: Sequence[Item]) -> bool:
    """Whether the clause so far names something."""
    for item in reversed(items):
        if item is Mark.BREAK:
            return False
        if isinstance(item, Mention):
            return True
    return False


def _has_verb(items: Sequence[Item]) -> bool:
    """Whether the clause so far has a verb."""
    for item in reversed(items):
        if item is Mark.BREAK:
            return False
        if item is Mark.VERB or (isinstance(item, Mention) and item.cut):
            return True
    return False


def _action(verb: str) -> list[Item]:
    """How who acts stands to what it is done to: "a woman is pouring milk"."""
    if verb in lexicon.POSTURES:
        return []
    return [Relation(Kind.ON if verb in lexicon.RIDING else Kind.NEXT)]


def _leading(
    part: Sequence[Token], before: Item, after: Meaning, *, direct: bool, acting: bool
) -> int:
    if not part or is_determiner(part[0].text):
        return 0
    words = tuple(token.text for token in part)
    return leading_verbs(Run(words, 0, after, direct=direct), before, acting=acting)


def _parts(chunk: Sequence[Token]) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    for i, token in enumerate(chunk):
        begins = is_determiner(token.text) and parts[-1] and parts[-1][-1].text != "of"
        if begins and i + 1 < len(chunk) and not _is_bare(parts[-1]):
            parts.append([])
        parts[-1].append(token)
    return parts


def _is_bare(part: Sequence[Token]) -> bool:
    return all(is_determiner(token.text) for token in part)


def _subject_of(part: list[Token]) -> list[Token]:
    """What a picture is of: "a photo of a cat" mentions a cat."""
    for i, token in enumerate(part):
        if i and token.text in lexicon.DEPICTING and part[i - 1].text in lexicon.MEDIA:
            return _subject_of(part[i + 1 :])
    return part


def _mentioned(
    part: Sequence[Token], before: Item, after: Meaning, *, direct: bool
) -> list[Mention]:
    """The mentions in words with at most one article, each verb parting two."""
    found: list[Mention] = []
    while part:
        words = tuple(token.text for token in part)
        start, keep = _starts(words)
        run = Run(words, start, after, direct=direct, joined=before is Mark.JOIN)
        end, rest = name_of(run)
        mention = _mention(part, run, keep, end)
        if mention:
            verb = _verb(words, end, rest, direct=direct)
            found.append(replace(mention, verb=verb, cut=end < rest))
        part = part[rest:]
    return found


def _verb(words: Sequence[str], end: int, rest: int, *, direct: bool) -> str:
    """The verb that links a thing to the next one."""
    if end == rest or not (direct or rest < len(words) or end < len(words)):
        return ""
    verb = words[end]
    return "" if verb in lexicon.POSTURES else verb


def _mention(part: Sequence[Token], run: Run, keep: int, end: int) -> Mention | None:
    noun = run.words[run.start : end]
    if not noun or all(word in lexicon.POINTERS for word in noun):
        return None
    idle = all(map(is_idle, noun)) and not is_a_can(noun)
    if idle and run.determiner in ("", "one", "each"):
        return None
    count = _count(run, end)
    return Mention(part[keep].start, part[end - 1].end, noun, run.determiner, count)


def _starts(words: Sequence[str]) -> tuple[int, int]:
    """Where the noun's words start, and where the phrase does.

    It keeps articles and counts only.
    """
    length = _quantity(words)
    if length:
        return length, 0 if DETERMINERS.issuperset(words[:length]) else length
    start = 0
    while start < len(words) and is_determiner(words[start]):
        start += 1
    return start, 0


def _quantity(words: Sequence[str]) -> int:
    """How many words at the start are an amount: "a couple of"."""
    for length in range(min(4, len(words) - 1), 0, -1):
        amount = tuple(words[:length])
        if amount not in lexicon.QUANTITIES:
            continue
        dances = amount[-1] == "couple" and form_of(words[length]) is Form.THIRD
        return 0 if dances else length
    return 0


def _count(run: Run, end: int) -> int:
    """How many the article and the counts before a noun say."""
    amount = run.words[: run.start]
    head = run.words[end - 1]
    if amount in lexicon.QUANTITIES:
        pair = "pair" in amount and head in lexicon.SINGULAR_PAIRS
        return 1 if pair else lexicon.QUANTITIES[amount]
    counts = [1]
    for i, word in enumerate(amount):
        value = number(word) or 1
        if word.isdigit() and not is_plural(head) and not _counts_singulars(run, i, end):
            continue
        if value <= MAXIMUM_COUNT:
            counts.append(value)
    return max(counts)


def _counts_singulars(run: Run, i: int, end: int) -> bool:
    """Whether a digit counts a noun without a plural ending.

    "4 fire hydrant", not "a 2 story house".
    """
    measures = end > run.start + 1 and run.words[run.start] in lexicon.UNITS
    return i == 0 and not measures
