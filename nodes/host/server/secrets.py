"""What a server says, without the keys, addresses and names that it may repeat."""

from __future__ import annotations

import re

LONGEST = 200  # characters that are shown of a server's own words
SHARED = 6  # characters in a row that give a secret away
ADDRESS = re.compile(
    r"\b[a-z][a-z0-9+.-]*://\S+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?|\[[0-9a-f:]{3,}\](?::\d+)?"
    r"|\b(?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+|/\S*)|\blocalhost(?::\d+)?|(?<![\w.])(?:/[\w.@-]+){2,}"
    r"|\b[a-z]:\\\S+|\S+@\S+",
    re.IGNORECASE,
)
# Long runs of letters and digits, and what is announced as a key.
KEY = re.compile(
    r"\b(?:bearer|key|token)\s*[:=]\s*\S+|\bbearer\s+\S+|\b(?:sk|pk|gsk|hf|xai|aiza)[-_][\w*.-]+"
    r"|(?=[\w-]*\d)[\w-]{20,}",
    re.IGNORECASE,
)
HIDDEN = "***"


def scrubbed(text: str, secrets: list[str]) -> str:
    """Return a text without secrets, and without any word that shares six characters with one."""
    for secret in filter(None, secrets):
        text = text.replace(secret, HIDDEN)
    text = KEY.sub(HIDDEN, ADDRESS.sub(HIDDEN, text))
    parts = _parts(secrets)
    return re.sub(r"\S+", lambda word: HIDDEN if _tells(word[0], parts) else word[0], text)


def said(text: str, secrets: list[str]) -> str:
    """Return a server's own words for a message: one line, without secrets, cut short.

    "" for none.
    """
    if text.lstrip().startswith("<"):
        return ""  # a page, not a message
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 8 * LONGEST]).split())
    line = scrubbed(line, secrets)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def _parts(secrets: list[str]) -> frozenset[str]:
    parts: set[str] = set()
    for secret in secrets:
        parts |= _runs(secret)
    return frozenset(parts)


def _runs(text: str) -> set[str]:
    """All six characters in a row of a text."""
    lower = text.lower()
    return {lower[i : i + SHARED] for i in range(len(lower) - SHARED + 1)}


def _tells(word: str, parts: frozenset[str]) -> bool:
    return not parts.isdisjoint(_runs(word))
