"""One error for everything a user can get wrong."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


class InputError(ValueError):
    """A bad input, told in one sentence: where, what was expected, what was got, how to fix it.

    ``node`` is filled in by :func:`naming` on the way out, so that the core need not know nodes.
    """

    def __init__(self, field: str, expected: str, got: str, fix: str) -> None:
        super().__init__(field, expected, got, fix)
        self.node = ""
        self.field, self.expected, self.got, self.fix = field, expected, got, fix

    def __str__(self) -> str:
        where = f"{self.node}, {self.field}" if self.node else self.field
        return f"{where}: expected {self.expected}, got {self.got}. {self.fix}"


def brief(value: Any, most: int = 80) -> str:
    """Return a value as an error shows it: its ``repr``, of at most ``most`` characters."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def check_losses(separate: float, enhance: float) -> None:
    """Raise :class:`InputError` where both losses weigh 0: nothing would be minimised."""
    if separate == enhance == 0:
        fix = "Set one of the two weights above 0."
        raise InputError("separate", "a separate or an enhance loss", "both weights 0", fix)


@contextmanager
def within(place: str) -> Generator[None]:
    """Prefix the field of every :class:`InputError` raised inside with the place it stands in."""
    try:
        yield
    except InputError as error:
        error.field = f"{place}, {error.field}"
        raise


@contextmanager
def naming(node: str) -> Generator[None]:
    """Name the node in every :class:`InputError` raised inside; the innermost name wins."""
    try:
        yield
    except InputError as error:
        error.node = error.node or node
        raise
