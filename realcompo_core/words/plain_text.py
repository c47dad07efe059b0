"""Prompts as plain words, without a model's tokenizer."""

from __future__ import annotations

import re

from ..errors import InputError
from .spelling import WORD_END, Piece

MAXIMUM_PROMPT = 10_000  # characters
# What CLIP's tokenizers take for one word: contractions, letters, single digits, runs of anything
# else.
WORD = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|(?:[^\w\s]|_)+", re.IGNORECASE)
WEIGHT = re.compile(r":\s*[+-]?\d*\.?\d*\s*\)")
FOREIGN = re.compile(
    r"\bembedding:[^\s,()]*|<[^<>\n]{1,200}>"
)  # embeddings and tags name no object
ESCAPED = re.compile(r"\\([()])")
LITERAL = {"(": "\ufdd0", ")": "\ufdd1"}  # code points that no text has


def plain(prompt: str) -> str:
    """Return the prompt without weights and embeddings: ``a (red:1.2) ball`` is ``a red ball``.

    ``\\(`` stays a bracket.

    Raises :class:`InputError` for an empty prompt or one over 10,000 characters.
    """
    if len(prompt) > MAXIMUM_PROMPT:
        raise InputError(
            "prompt", f"at most {MAXIMUM_PROMPT} characters", str(len(prompt)), "Shorten it."
        )
    text = ESCAPED.sub(lambda match: LITERAL[match[1]], prompt)
    text = FOREIGN.sub(",", WEIGHT.sub(")", text)).replace("(", "").replace(")", "")
    for bracket, stand_in in LITERAL.items():
        text = text.replace(stand_in, bracket)
    if not text.strip():
        raise InputError(
            "prompt", "a description of the picture", "nothing", "Write what the picture shows."
        )
    return text


def pieces(text: str) -> list[Piece]:
    """Return the words of a plain text as tokens of their own, numbered from 1."""
    return [Piece(word.lower() + WORD_END, (i,)) for i, word in enumerate(WORD.findall(text), 1)]


def letters(text: str) -> list[Piece]:
    """Return the characters of a plain text as tokens of their own, numbered by their place in
    the text from 0.
    """
    found = []
    for match in WORD.finditer(text):
        last = match.end() - 1
        for i in range(match.start(), match.end()):
            found.append(Piece(text[i] + (WORD_END if i == last else ""), (i,)))
    return found
