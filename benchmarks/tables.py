"""Figures as text: aligned tables, ratios, rounded numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(title: str, header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """Return aligned columns under a title, the first to the left and numbers to the right."""
    cells = [list(map(str, line)) for line in (header, *lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    text = [title]
    for first, *rest in cells:
        aligned = [first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]
        text.append("  " + "  ".join(aligned).rstrip())
    return "\n".join(text)


def ratio(value: float, base: float) -> str:
    """Return a quotient with two digits."""
    return f"{value / base:.2f}"


def rounded(value: Any) -> Any:
    """Return a structure whose floats have four digits after the point, at any depth."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)
