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


def leading_verbs(run: Run, before: object, *, acting: bool) -> int:
    """Return how many words at the start of a run are verbs.

    Those of "and reads", "to reach", "is pouring". ``before`` is what stands before the run,
    ``acting`` says that its clause had a verb already: "sits on a bench, reading books".
    """
    words = run.words
    if run.direct and len(words) == 1:
        return 1
    first = 0
    while first < len(words) and _is_unstressed(words[first]):
        first += 1
    if first == len(words):
        return first
    leads = _may_lead(run, first, before) or (acting and _goes_on(words[first], before))
    return _behind(words, first + 1) if leads else 0


def _is_unstressed(word: str) -> bool:
    return is_adverb(word) or word in MODALS


def _goes_on(word: str, before: object) -> bool:
    return before in (Mark.JOIN, Mark.COMMA) and word in INGS


def _may_lead(run: Run, first: int, before: object) -> bool:
    word = run.words[first]
    alone = len(run.words) == first + 1
    form = form_of(word)
    if form is None:
        return False
    if before is Mark.VERB:
        return _is_predicate(run, first, form)
    if before in (Mark.TO, Mark.IT):
        return form is Form.PLAIN
    if before in (Mark.JOIN, Mark.COMMA):
        return _tells(form, word) and (alone or not may_be_noun(word))
    return False


def _is_predicate(run: Run, i: int, form: Form) -> bool:
    """Whether a verb goes on behind "is" or "which"."""
    if form in (Form.ING, Form.PAST) or not may_be_noun(run.words[i]):
        return True
    return i + 1 == len(run.words) and (run.direct or _is_place(run.after))


def _tells(form: Form, word: str) -> bool:
    """Whether a verb's form is no adjective's: "reads", "ran"."""
    return form is Form.THIRD or (form is Form.PAST and not word.endswith("ed"))


def is_a_can(words: Sequence[str]) -> bool:
    """Return whether words end in a can that is a thing: "a watering can"."""
    return len(words) > 1 and words[-1] == "can" and words[-2] in KINDS_OF_CAN


def _behind(words: Sequence[str], i: int) -> int:
    """The first word from ``i`` on that is no adverb."""
    while i < len(words) and is_adverb(words[i]):
        i += 1
    return i


def _name_end(run: Run, end: int) -> int:
    """Where the noun's words end before ``end``: the first word is never cut off."""
    while end - run.start > 1 and _is_cut_off(run.words[:end]):
        end -= 1
    return end


def _is_cut_off(words: Sequence[str]) -> bool:
    """Whether the last word is no part of a name: an adverb, "can", "of the", "open"."""
    before, last = words[-2], words[-1]
    if last == "of" or is_adverb(last):
        return True
    if last in MODALS:
        return not is_a_can(words)
    if last in ARTICLES:
        return before == "of"
    return last in PREDICATES and not is_adjective(before) and before not in NO_WORDS


def _is_verb(run: Run, i: int) -> bool:
    """Whether the word at ``i`` is a verb behind the name's noun."""
    word = run.words[i]
    end = _name_end(run, i)
    if run.words[i - 1] == "of" or not _is_noun(run, end - 1):
        return False
    if _is_unstressed(word) or not word[0].isalnum():
        return False
    if run.direct and i + 1 == len(run.words):
        return not is_adjective(word)
    return _acts(run, i, run.words[end - 1], modal=end < i)


def _acts(run: Run, i: int, noun: str, *, modal: bool) -> bool:
    """Whether a word behind a noun is a verb by its form."""
    word = run.words[i]
    last = i + 1 == len(run.words)
    form = form_of(word)
    if form is Form.PLAIN:
        return _is_plain_verb(run, i, noun, modal=modal)
    checks = {Form.ING: _is_ing_verb, Form.PAST: _is_past_verb, Form.THIRD: _is_third_person}
    if form is not None:
        return checks[form](run, i, noun)
    return last and _contradicts(run, word) and _is_place(run.after)


def _is_noun(run: Run, i: int) -> bool:
    word = run.words[i]
    if i < run.start or word in NO_WORDS:
        return False
    if not is_adjective(word):
        return not (i == run.start and is_past(word))
    return word in ALSO_ADJECTIVES and i > run.start


def _is_ing_verb(run: Run, i: int, noun: str) -> bool:
    word = run.words[i]
    if i + 1 == len(run.words):
        return True
    if is_pair(word, run.words[i + 1]):
        return False
    return word in INGS or is_agent(noun) or is_plural(noun)


def _is_past_verb(run: Run, i: int, noun: str) -> bool:
    word, rest = run.words[i], run.words[i + 1 :]
    named = may_be_noun(word)
    acts = is_agent(noun) or is_plural(noun)
    if not rest:
        return acts or not named or _poses(word, run.after)
    if all(is_idle(other) for other in rest):
        return True
    if named or noun in COVERERS:
        return False
    return acts or _is_no_name(run, rest[-1])


def _poses(word: str, after: Meaning) -> bool:
    return word in lexicon.POSTURES and _is_place(after)


def _is_no_name(run: Run, last: str) -> bool:
    """Whether article and last word can't be one name: "a man chased cats"."""
    return run.determiner not in AGREEING or _contradicts(run, last)


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
    word = run.words[i]
    if modal:
        return True
    if run.determiner in AGREEING and not run.joined:
        return False
    if not may_be_noun(word):
        return True
    last = i + 1 == len(run.words)
    if _is_several(noun):
        return not last or _is_place(run.after)
    return last and run.joined and word in STRONG and _is_placed(run.after)


def _is_several(noun: str) -> bool:
    return is_plural(noun) and noun not in lexicon.SINGULAR_PAIRS and noun != "sports"


def _is_placed(after: Meaning) -> bool:
    return isinstance(after, Relation | Place) or after is Mark.EACH_OTHER


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
