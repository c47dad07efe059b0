"""Lists and objects in a model's text: JSON, and what says the same with one meaning only.

Read are single quotes, trailing commas, comments, round brackets and Python's words too. Nothing is
executed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

MAXIMUM_STARTS = 64  # places in a text where a value is tried
MAXIMUM_DEPTH = 12
NUMBER = r"[-+]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][-+]?\d{1,3})?"
OPENING = re.compile(r"[\[{]")
FENCE = re.compile(r"```[a-zA-Z]*\n(.*?)```", re.DOTALL)
SPACE = re.compile(r"(?:\s|//[^\n]*)*")
# A text in quotes; an apostrophe inside is one that no comma, colon or bracket follows.
TEXT = re.compile(
    r"\"((?:[^\"\\\n]|\\.)*)\""
    r"|'((?:[^'\\\n]|\\.|'(?![ \t]{0,8}[,:\]})\n]))*)'(?=[ \t]{0,8}[,:\]})\n])"
    r"|\u201c([^\u201c\u201d\n]*)\u201d"
)
ATOM = re.compile(rf"({NUMBER})(?![\w.])|(true|false|null|none|nan)\b", re.IGNORECASE)
CLOSING = {"[": "]", "{": "}", "(": ")"}
WORDS = {"true": True, "false": False}
DECODER = json.JSONDecoder(parse_int=float, parse_constant=float)


class Found(NamedTuple):
    """A value and where it stands in its text.

    ``strict`` says that it is JSON as the standard has it.
    """

    value: Any
    start: int
    end: int
    strict: bool


def values_of(text: str) -> Iterator[tuple[str, list[Found]]]:
    """Yield each part of a text with its values.

    The fenced blocks that have any, else the whole.
    """
    blocks = [(block, list(_values_in(block))) for block in FENCE.findall(text)]
    held = [(block, found) for block, found in blocks if found]
    yield from held or [(text, list(_values_in(text)))]


def _values_in(text: str) -> Iterator[Found]:
    position = 0
    for _ in range(MAXIMUM_STARTS):
        start = OPENING.search(text, position)
        if not start:
            return
        found = _value_at(text, start.start())
        if found is None:
            position = start.end()
            continue
        yield found
        position = found.end


def _value_at(text: str, start: int) -> Found | None:
    try:
        value, end = DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        pass
    else:
        return Found(value, start, end, strict=True)
    reader = _Reader(text, start)
    try:
        value = reader.value(0)
    except ValueError:
        return None
    return Found(value, start, reader.position, strict=False)


class _Reader:
    """Reads one value, as JSON or as Python writes it; raises ValueError for anything else."""

    def __init__(self, text: str, position: int) -> None:
        self.text = text
        self.position = position

    def value(self, depth: int) -> Any:
        self._skip()
        opening = self.text[self.position : self.position + 1]
        if opening in CLOSING and opening:
            if depth >= MAXIMUM_DEPTH:
                raise ValueError("too deep")
            self.position += 1
            return self._mapping(depth) if opening == "{" else self._list(depth, CLOSING[opening])
        found = TEXT.match(self.text, self.position)
        if found:
            self.position = found.end()
            return _unescaped(next(part for part in found.groups() if part is not None))
        return self._atom()

    def _atom(self) -> float | bool | None:
        found = ATOM.match(self.text, self.position)
        if not found:
            raise ValueError("no value")
        self.position = found.end()
        return float(found[1]) if found[1] else WORDS.get(found[2].lower())

    def _list(self, depth: int, closing: str) -> list[Any]:
        items: list[Any] = []
        while not self._takes(closing):
            items.append(self.value(depth + 1))
            if not self._takes(",") and not self._sees(closing):
                raise ValueError("no comma")
        return items

    def _mapping(self, depth: int) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while not self._takes("}"):
            key = self.value(depth + 1)
            if not isinstance(key, str) or not self._takes(":"):
                raise ValueError("no key")
            items[key] = self.value(depth + 1)
            if not self._takes(",") and not self._sees("}"):
                raise ValueError("no comma")
        return items

    def _skip(self) -> None:
        space = SPACE.match(self.text, self.position)
        self.position = space.end() if space else self.position

    def _sees(self, character: str) -> bool:
        self._skip()
        return self.text.startswith(character, self.position)

    def _takes(self, character: str) -> bool:
        if not self._sees(character):
            return False
        self.position += len(character)
        return True


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
