"""Where labels stand so that none covers another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Rect = tuple[int, int, int, int]
"""Top, left, bottom and right in pixels; bottom and right are outside."""
Size = tuple[int, int]
"""Height and width in pixels."""


def place(regions: Sequence[Rect], labels: Sequence[Size], canvas: Size) -> list[Rect]:
    """Return a place on the canvas for each region's label.

    It is the first of the label's candidates that is free, else the freest. A label that is larger
    than the canvas has its place cut to it.
    """
    placed: list[Rect] = []
    for region, label in zip(regions, labels, strict=True):
        size = min(label[0], canvas[0]), min(label[1], canvas[1])
        places = [_within(*corner, size, canvas) for corner in _candidates(region, size)]
        placed.append(min(places, key=lambda rect: sum(overlap(rect, other) for other in placed)))
    return placed


def overlap(one: Rect, other: Rect) -> int:
    """Return how many pixels two rectangles share."""
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    return max(height, 0) * max(width, 0)


def _candidates(region: Rect, label: Size) -> Iterator[tuple[int, int]]:
    """Yield top left corners, the best first.

    They lie in the region's corners, above and below it, then ever lower and higher along its left
    edge.
    """
    top, left, bottom, right = region
    height, width = label
    for row in (top, bottom - height):
        yield from ((row, left), (row, right - width))
    yield from ((top - height, left), (bottom, left))
    for step in range(1, 16):
        yield from ((top + step * height, left), (top - step * height, left))


def _within(top: int, left: int, label: Size, canvas: Size) -> Rect:
    top = max(0, min(top, canvas[0] - label[0]))
    left = max(0, min(left, canvas[1] - label[1]))
    return top, left, top + label[0], left + label[1]
