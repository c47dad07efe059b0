"""Where a name ends and a verb begins: "the wooden spoon | stirs | creamy soup"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..words.tokens import IRREGULAR
from . import lexicon
from .lexicon import Mark, Meaning, Place, Relation
from .vocabulary import (
    COVERERS,
    INGS,
    KINDS_OF_CAN,
    MODALS,
    STRONG,
    THIRDS,
    Form,
    form_of,
    is_adjective,
    is_adverb,
    is_agent,
    is_idle,
    is_pair,
    is_past,
    may_be_noun,
)

# Nouns too, but described by what stands before them: "the warm light shone".
ALSO_ADJECTIVES = frozenset(("light", "metal", "plastic", "leather", "fabric", "rubber", "square"))
# Adjectives behind their noun: "a window open", "a tower tall above the town".
PREDICATES = frozenset(
    (
        "open",
        "closed",
        "ready",
        "alone",
        "asleep",
        "awake",
        "tall",
        "high",
        "low",
        "full",
        "empty",
        "upright",
        "alive",
        "still",
    )
)
ARTICLES = lexicon.DEFINITE | lexicon.INDEFINITE
NO_WORDS = frozenset((",", "and", "&", "+", "plus", "of"))
AGREEING = frozenset(("a", "an", "one", "another", "each", "every", "1"))


@dataclass(frozen=True)
class Run:
    """Words in a row without article, count or meaning inside.

    ``start`` is where the noun's words begin behind article and count. ``direct`` says that an
    article follows, else ``after`` is what does. ``joined`` says that "and" stands before: "the jar
    and the lid gleam".
    """

    words: tuple[str, ...]
    start: int
    after: Meaning
    direct: bool = False
    joined: bool = False

    @property
    def determiner(self) -> str:
        """Return the first article or count, "" for none."""
        return self.words[0] if self.start else ""


def is_plural(noun: str) -> bool:
    """Return whether a noun may be a plural, by its ending."""
    if noun in IRREGULAR or noun in lexicon.INVARIABLE:
        return True
    return noun.endswith("s") and not noun.endswith(("ss", "us", "is"))


def name_of(run: Run) -> tuple[int, int]:
    """Return where the name in a run ends and where the words behind its verb begin."""
    size = len(run.words)
    for i in range(run.start + 1, size):
        if _is_verb(run, i):
            return _name_end(run, i), _behind(run.words, i + 1)
    return _name_end(run, size), size


def leading_verbs(
    words: Sequence[str], before: Meaning, after: Meaning, *, direct: bool, acting: bool
) -> int:
    """Return how many words at the start of a run are verbs.

    Those of "and reads", "to reach", "is pouring".

    ``acting`` says that its clause had a verb already: "sits on a bench, reading books".
    """
    if direct and len(words) == 1:
        return 1
    first = 0
    while first < len(words) and (is_adverb(words[first]) or words[first] in MODALS):
        first += 1
    if first == len(words):
        return first
    alone = len(words) == first + 1
    if before is Mark.VERB and alone and form_of(words[first]) and (direct or _is_place(after)):
        return len(words)
    goes_on = acting and before in (Mark.JOIN, Mark.COMMA) and words[first] in INGS
    if goes_on or _may_lead(words[first], before, alone=alone):
        return _behind(words, first + 1)
    return 0


def _may_lead(word: str, before: Meaning, *, alone: bool) -> bool:
    form = form_of(word)
    if before is Mark.VERB:
        return form in (Form.ING, Form.PAST) or (form is not None and not may_be_noun(word))
    if before in (Mark.TO, Mark.IT):
        return form is Form.PLAIN
    if before in (Mark.JOIN, Mark.COMMA):
        pure = form is Form.PAST and not word.endswith("ed")
        return (form is Form.THIRD or pure) and (alone or not may_be_noun(word))
    return False


def is_a_can(words: Sequence[str]) -> bool:
    """Return whether words end in a can that is a thing: "a watering can"."""
    return len(words) > 1 and words[-1] == "can" and words[-2] in KINDS_OF_CAN


def _behind(words: Sequence[str], i: int) -> int:
    """The first word from ``i`` on that is no adverb."""
    while i < len(words) and is_adverb(words[i]):
        i += 1
    return i


def _name_end(run: Run, end: int) -> int:
    """Where the noun's words end before ``end``.

    Adverbs and "can" are cut off, the first word never.
    """
    words = run.words
    while end - run.start > 1:
        last, before = words[end - 1], words[end - 2]
        modal = last in MODALS and not is_a_can(words[:end])
        dangling = last == "of" or (before == "of" and last in ARTICLES)
        said = last in PREDICATES and not is_adjective(before) and before not in NO_WORDS
        if not (modal or dangling or said or is_adverb(last)):
            break
        end -= 1
    return end


def _is_verb(run: Run, i: int) -> bool:
    """Whether the word at ``i`` is a verb behind the name's noun."""
    end = _name_end(run, i)
    word, noun = run.words[i], run.words[end - 1]
    if run.words[i - 1] == "of" or not _is_noun(run, end - 1):
        return False
    if is_adverb(word) or word in MODALS or not word[0].isalnum():
        return False
    last = i + 1 == len(run.words)
    if last and run.direct:
        return not is_adjective(word)
    form = form_of(word)
    if form is Form.ING:
        return last or _is_ing_verb(word, run.words[i + 1], noun)
    if form is Form.PAST:
        return _is_past_verb(run, i, noun)
    if form is Form.THIRD:
        return _is_third_person(run, i, noun)
    if form is Form.PLAIN:
        return _is_plain_verb(run, i, noun, modal=end < i)
    return last and _contradicts(run, word) and _is_place(run.after)


def _is_noun(run: Run, i: int) -> bool:
    word = run.words[i]
    if i < run.start or word in NO_WORDS:
        return False
    if not is_adjective(word):
        return not (i == run.start and is_past(word))
    return word in ALSO_ADJECTIVES and i > run.start


def _is_ing_verb(word: str, following: str, noun: str) -> bool:
    if is_pair(word, following):
        return False
    return word in INGS or is_agent(noun) or is_plural(noun)


def _is_past_verb(run: Run, i: int, noun: str) -> bool:
    word, rest = run.words[i], run.words[i + 1 :]
    if not rest:
        poses = word in lexicon.POSTURES and _is_place(run.after)
        return poses or not may_be_noun(word) or is_agent(noun) or is_plural(noun)
    if all(is_idle(other) for other in rest):
        return True
    if may_be_noun(word) or noun in COVERERS:
        return False
    agrees = run.determiner in AGREEING and not _contradicts(run, rest[-1])
    return not agrees or is_plural(noun) or is_agent(noun)


def _is_third_person(run: Run, i: int, noun: str) -> bool:
    word = run.words[i]
    if not may_be_noun(word) or _contradicts(run, word):
        return True
    if is_plural(noun):
        return False
    if is_agent(noun):
        return True
    return i + 1 == len(run.words) and THIRDS[word] in STRONG and _is_place(run.after)


def _is_plain_verb(run: Run, i: int, noun: str, *, modal: bool) -> bool:
    word, last = run.words[i], i + 1 == len(run.words)
    if modal:
        return True
    if run.determiner in AGREEING and not run.joined:
        return False
    if not may_be_noun(word):
        return True
    several = is_plural(noun) and noun not in lexicon.SINGULAR_PAIRS and noun != "sports"
    if several:
        return not last or _is_place(run.after)
    placed = isinstance(run.after, Relation | Place) or run.after is Mark.EACH_OTHER
    return run.joined and last and word in STRONG and placed


def _contradicts(run: Run, word: str) -> bool:
    """Whether a word in -s stands behind "a": it can't be the noun."""
    if run.determiner not in AGREEING or "of" in run.words or word in lexicon.SINGULAR_IN_S:
        return False
    return is_plural(word) and word not in lexicon.SINGULAR_PAIRS | lexicon.INVARIABLE


def _is_place(after: Meaning) -> bool:
    """Whether what follows may stand behind a verb: a preposition, a place, a new clause."""
    return isinstance(after, Relation | Place) or after in _BEHIND_VERBS


_BEHIND_VERBS = (
    Mark.BREAK,
    Mark.EACH_OTHER,
    Mark.TO,
    Mark.AS,
    Mark.FOR,
    Mark.IT,
    Mark.WITH,
    Mark.SKIP,
)
