"""Prompts that are not English: told, instead of one object that is the whole sentence."""

from __future__ import annotations

import re

WORD = re.compile(r"[^\W\d_]+")
# Small words of English that none of the others has.
WORDS = "the of and with are at by under above next to near behind"
ENGLISH = frozenset(WORDS.split())
# Small words that no sentence of the language goes without.
SMALL_WORDS = {
    "French": "le la les un une des du de et sur avec dans sous à au aux est en qui près",
    "German": "der die das den dem ein eine einen einem einer und mit auf im neben über vor ist",
    "Spanish": "el la los las un una unos unas y con en de del sobre junto al está bajo",
    "Italian": "il lo la gli i un uno una e con su di del della nel sul accanto al è sotto",
    "Portuguese": "o a os as um uma e com em de do da no na sobre ao lado está",
    "Dutch": "de het een en met op in naast onder van is zit achter",
}
SHARED = frozenset("a an as in is on the and of met die".split())  # noqa: SIM905 (with English)
LANGUAGES = [frozenset(words.split()) - SHARED for words in SMALL_WORDS.values()]
FEWEST_WORDS = 5  # of a phrase that is a sentence
SMALL = 2  # of them must be different small words
# Scripts that are written without spaces, and letters of all others but Latin.
UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f]")
LATIN = re.compile(r"[a-z\u00c0-\u024f]", re.IGNORECASE)
LONGEST_WORD = 6  # characters of a script without spaces


def is_foreign(prompt: str, phrases: list[str]) -> bool:
    """Return whether a prompt is a sentence of another language, judged by a phrase that was
    read out of it.
    """
    if ENGLISH.intersection(WORD.findall(prompt.lower())):
        return False
    return any(_is_sentence(phrase) for phrase in phrases)


def _is_sentence(phrase: str) -> bool:
    if len(UNSPACED.findall(phrase)) > LONGEST_WORD:
        return True
    words = WORD.findall(phrase.lower())
    if len(words) < FEWEST_WORDS - 1:
        return False
    if not any(LATIN.search(word) for word in words):
        return True
    known = max(len(language.intersection(words)) for language in LANGUAGES)
    return len(words) >= FEWEST_WORDS and known >= SMALL
