"""Where labels stand so that none covers another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Rect = tuple[int, int, int, int]
"""Top, left, bottom and right in pixels; bottom and right are outside."""
Size = tuple[int, int]
"""Height and width in pixels."""


def place(regions: Sequence[Rect], labels: Sequence[Size], canvas: Size) -> list[Rect]:
    """A place on the canvas for each region's label: the first of its candidates that is free, else the freest.

    A label that is larger than the canvas has its place cut to it.
    """
    placed: list[Rect] = []
    for region, label in zip(regions, labels, strict=True):
        height, width = min(label[0], canvas[0]), min(label[1], canvas[1])
        corners = [
            _within(top, left, (height, width), canvas)
            for top, left in _candidates(region, (height, width))
        ]
        placed.append(min(corners, key=lambda rect: sum(overlap(rect, other) for other in placed)))
    return placed


def overlap(one: Rect, other: Rect) -> int:
    """Pixels that two rectangles share."""
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    return max(height, 0) * max(width, 0)


def _candidates(region: Rect, label: Size) -> Iterator[tuple[int, int]]:
    """Top left corners: inside the region's corners, above, below, then ever lower and higher beside its left edge."""
    top, left, bottom, right = region
    height, width = label
    yield from (
        (top, left),
        (top, right - width),
        (bottom - height, left),
        (bottom - height, right - width),
    )
    yield from ((top - height, left), (bottom, left))
    for step in range(1, 16):
        yield from ((top + step * height, left), (top - step * height, left))


def _within(top: int, left: int, label: Size, canvas: Size) -> Rect:
    top = max(0, min(top, canvas[0] - label[0]))
    left = max(0, min(left, canvas[1] - label[1]))
    return top, left, top + label[0], left + label[1]
