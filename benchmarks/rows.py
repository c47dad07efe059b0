"""Rows (evaluations of one sample) that an image takes, by arithmetic, and what it may take."""

from __future__ import annotations

WARMUP = 0.4
STEPS = 50  # of the image whose rows are counted
BUDGET = {1: 1.5, 2: 1.25}  # row equivalents over the floor, at most, by how often is balanced


def floor(steps: int) -> int:
    """Return the fewest rows of two guided branches: the spatial branch alone, then both."""
    warmup = round(WARMUP * steps)
    return 2 * warmup + 4 * (steps - warmup)


def balanced_steps(every: int) -> int:
    """Return how many steps of the image are balanced: never its last."""
    return len(range(round(WARMUP * STEPS), STEPS - 1, every))


def guided_steps(every: int) -> int:
    """Return in how many steps of the warm-up the spatial branch's attention moves the latent."""
    return len(range(0, round(WARMUP * STEPS), every))


def extra_rows(every: int, balancing: float, guiding: float) -> float:
    """Return what the image's gradients cost, in rows.

    ``balancing`` is what each branch's costs at a balanced step, ``guiding`` what one costs in the
    warm-up, which is online however the rest is balanced.
    """
    return 2 * balanced_steps(every) * balancing + guided_steps(every) * guiding
