"""What the tokens of a text encoder spell.

CLIP's vocabulary marks where a word ends, T5's and Gemma's where one begins, those of Qwen, Llama
and Mistral keep the space before it. All of them are spelled out as the text that they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import chain

from ....realcompo_core.words.plain_text import letters
from ....realcompo_core.words.spelling import UNKNOWN, WORD_END, Piece

SPACE = "\u2581"  # as SentencePiece writes it
BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # and a byte of a letter that it has no piece for
LACKING = "<unk>"
STRAY = re.compile("[\udc80-\udcff]")  # bytes of a letter that was cut off

Row = tuple[int, ...]  # where in a conditioning a token stands


class Vocabulary:
    """A vocabulary: from tokens to the letters that they spell.

    ``texts`` are its tokens' texts as it writes them.
    """

    def __init__(self, texts: Mapping[int, str]) -> None:
        self.texts = texts
        self.in_bytes = not any(SPACE in text for text in texts.values())

    def pieces(self, tokens: Iterable[tuple[int, Row]]) -> list[Piece]:
        """Return the letters of some tokens, in their order, as the core's pieces.

        A letter has the rows of all the tokens that spell it.
        """
        spelled = bytearray()
        owners: list[Row] = []
        for token, row in tokens:
            part = self._bytes(self.texts.get(token, LACKING))
            spelled += part
            owners += [row] * len(part)
        text = spelled.decode(errors="surrogateescape")
        rows = []
        start = 0
        for letter in text:
            end = start + len(letter.encode(errors="surrogateescape"))
            rows.append(tuple(dict.fromkeys(chain.from_iterable(owners[start:end]))))
            start = end
        found = letters(STRAY.sub(UNKNOWN, text))
        return [Piece(letter.text, rows[letter.positions[0]]) for letter in found]

    def _bytes(self, text: str) -> bytes:
        if text == LACKING:
            return UNKNOWN.encode()
        if self.in_bytes:
            word = text.removesuffix(WORD_END)
            return _of_letters(word) + b" " * (word != text)
        byte = BYTE.fullmatch(text)
        return bytes.fromhex(byte[1]) if byte else text.replace(SPACE, " ").encode()


def _of_letters(text: str) -> bytes:
    """The bytes that a byte-pair vocabulary writes as these letters."""
    if all(letter in BYTES for letter in text):
        return bytes(BYTES[letter] for letter in text)
    return text.encode()


def _byte_letters() -> dict[str, int]:
    """The letter that byte-pair vocabularies write for each byte.

    Itself where it can be printed.
    """
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(byte): byte for byte in printed}
    rest = [byte for byte in range(256) if byte not in letters.values()]
    return letters | {chr(256 + i): byte for i, byte in enumerate(rest)}


BYTES = _byte_letters()
