"""What ``benchmarks.cost`` measured, as tables."""

from __future__ import annotations

from typing import Any

from .meters import on_cuda
from .rows import BUDGET, STEPS, extra_rows
from .tables import ratio, table

SCALING = (
    "Seconds of a dynamic image of two steps, one of them balanced, and of a prediction with a "
    "gradient, by"
)


def report(found: dict[str, Any], balanced: dict[str, dict]) -> str:
    """Return the figures as text; ``balanced`` are the settings of the arms that balance."""
    host = f"ComfyUI {found['host_version']}, torch {found['torch']}, {found['device']}"
    tables = [rows_table(found), budget_table(found, balanced), wall_table(found)]
    tables += [peak_table(found), *scaling_tables(found)]
    return "\n\n".join([f"{host}, random weights", *tables])


def rows_table(found: dict[str, Any]) -> str:
    """Compare counted rows with the floor and with the stock sampler's."""
    rows, gradient_rows = found["rows"], found["gradient_rows"]
    lines = []
    for arm, count in rows.items():
        ratios = ratio(count, rows["floor"]), ratio(count, rows["stock"])
        lines.append((arm, count, gradient_rows.get(arm, 0), *ratios))
    title = f"Rows of an image of {STEPS} steps (a gradient pass counts as one)"
    return table(title, ("arm", "rows", "of them gradient", "/ floor", "/ stock"), lines)


def budget_table(found: dict[str, Any], balanced: dict[str, dict]) -> str:
    """Compare row equivalents with their budget."""
    ahead, online = found["row_equivalent_of_gradient_pass"], found["row_equivalent_of_online_pass"]
    lines = []
    for arm, settings in balanced.items():
        every = settings["every"]
        extra = extra_rows(every, online if settings["online"] else ahead, online)
        total = found["rows"][arm] - found["gradient_rows"][arm] + extra
        over, budget = total / found["rows"]["floor"], BUDGET[every]
        verdict = "within" if over <= budget else "OVER"
        lines.append((arm, f"{total:.1f}", f"{over:.2f}", f"{budget:.2f}", verdict))
    passes = f"a look-ahead pass is {ahead:.2f} one-row predictions on this host"
    title = f"Row equivalents: {passes}, online {online:.2f}"
    return table(title, ("arm", "total", "/ floor", "budget", ""), lines)


def wall_table(found: dict[str, Any]) -> str:
    """Compare times with the stock sampler's and with a fixed blend's."""
    wall = found["wall_s"]
    lines = []
    for arm, time in wall.items():
        lines.append((arm, f"{time:.2f}", ratio(time, wall["fixed"]), ratio(time, wall["stock"])))
    steps = found["wall_steps"]
    title = f"Seconds of an image of {steps} steps, median (fixed does the floor's work)"
    return table(title, ("arm", "seconds", "/ fixed", "/ stock"), lines)


def peak_table(found: dict[str, Any]) -> str:
    """Compare the memory of ways to compute a gradient."""
    peaks = found["peak_mb"]
    lines = [(name, f"{peak:.1f}", ratio(peak, peaks["plain"])) for name, peak in peaks.items()]
    means = "the allocator's" if on_cuda() else "live tensors, without kernels' scratch memory"
    title = f"Peak memory of a gradient pass over base ({means})"
    return table(title, ("", "MiB", "/ plain"), lines)


def scaling_tables(found: dict[str, Any]) -> list[str]:
    """Show times by latent size and by number of objects."""
    tables = []
    for key, words in (("size", "cells along a side"), ("objects", "number of objects")):
        lines = []
        for row in found["scaling"][key]:
            seconds = f"{row['seconds']:.2f}", f"{row['gradient_pass_seconds']:.2f}"
            lines.append((row[key], *seconds))
        tables.append(table(f"{SCALING} {words}", (key, "seconds", "a prediction"), lines))
    return tables
