"""Means with bootstrap intervals, and the front that the static arms draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

DRAWS, SEED = 2000, 1
MEASURES = ("composition", "realism", "joint", "success", "placed")


def harmonic(a: Any, b: Any) -> Any:
    """Return 2ab / (a + b), and 0 where both are 0."""
    return 2 * a * b / np.maximum(a + b, 1e-12)


def resamples(count: int, draws: int = DRAWS) -> np.ndarray:
    """Return indices [draws, count] of prompts drawn with replacement.

    They are the same for every arm, so arms stay paired.
    """
    return np.random.default_rng(SEED).integers(0, count, (draws, count))


def measures(scores: Mapping[str, np.ndarray], picks: np.ndarray) -> dict[str, np.ndarray]:
    """Return each measure's mean over ``picks`` [..., prompts] of scores by prompt.

    ``joint`` is made of the means.
    """
    means = {name: values[picks].mean(-1) for name, values in scores.items()}
    return means | {"joint": harmonic(means["composition"], means["realism"])}


def interval(values: np.ndarray) -> list[float]:
    """Return the middle 95% of bootstrap values."""
    return [round(float(v), 4) for v in np.percentile(values, (2.5, 97.5))]


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the (realism, composition) points that no other beats in both, by rising realism."""
    best, kept = -1.0, []
    for realism, composition in sorted(points, reverse=True):
        if composition > best:
            kept.append((realism, composition))
            best = composition
    return kept[::-1]


def above(point: tuple[float, float], points: Sequence[tuple[float, float]]) -> float:
    """Return how much more composition a point has than the static front at its realism.

    The front is straight between its corners.
    """
    corners = front(points)
    realism, composition = zip(*corners, strict=True)
    if point[0] > realism[-1]:
        return float(point[1])  # more real than any static arm
    return float(point[1] - np.interp(point[0], realism, composition))
