"""Phrases for regions that come without one."""

from __future__ import annotations

from .errors import InputError


def assign(text: str, count: int) -> tuple[str, ...]:
    """A phrase for each of ``count`` regions: one a line in their order, or one line for all.

    Empty lines don't count. Raises :class:`InputError` where the numbers don't agree.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not count:
        return ()
    if len(lines) == 1:
        return tuple(lines * count)
    if len(lines) != count:
        fix = "Write one phrase a line, in the order of the regions, or a single line for all of them."
        raise InputError("phrases", f"{count} lines (or 1)", f"{len(lines)}", fix)
    return tuple(lines)
