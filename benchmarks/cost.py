"""What an image costs: model evaluations by exact count, time, and memory, beside the stock KSampler's.

``python -m benchmarks.cost [--quick] [--output FILE]``, with ComfyUI at COMFYUI_PATH. Small models with
random weights: counts are those of any model, times and bytes are to be compared with each other only.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from testkit.host import Host
from testkit.quiet_host import quiet_host
from testkit.scene import Scene

from . import ROOT
from .meters import counted_rows, on_cuda, seconds, timed, weighed

CELL = 8  # pixels
WARMUP = 0.4
ROW_STEPS = 50
BUDGET = {1: 1.5, 2: 1.25}  # row equivalents over the floor, at most, by how often is balanced
THINGS = (
    "cat",
    "dog",
    "bird",
    "fish",
    "tree",
    "car",
    "boat",
    "house",
    "chair",
    "table",
    "lamp",
    "cup",
    "book",
    "ball",
    "hat",
    "shoe",
)

Outputs = Callable[[Scene, dict], dict[str, list]]


@dataclass(frozen=True)
class Plan:
    """How much is measured. Sizes are latent cells along a side."""

    rounds: int = 3
    row_cells: int = 8  # small, for the number of rows doesn't depend on it
    wall_cells: int = 16
    wall_steps: int = 10
    row_equivalent_cells: int = 32
    peak_cells: int = 64
    sizes: tuple[int, ...] = (16, 32, 64)
    objects: tuple[int, ...] = (1, 4, 16)


QUICK = Plan(
    1,
    row_cells=4,
    wall_cells=4,
    wall_steps=5,
    row_equivalent_cells=8,
    peak_cells=8,
    sizes=(4, 8, 16),
)


def stock(*conditionings: str) -> Outputs:
    """A stock KSampler for each of the scene's conditionings."""
    return lambda scene, sampling: {
        name: scene.stock(getattr(scene, name), **sampling)[0] for name in conditionings
    }


def realcompo(**settings: Any) -> Outputs:
    """RealCompo KSampler, its balancer with these settings."""

    def outputs(scene: Scene, sampling: dict) -> dict[str, list]:
        links = scene.realcompo({"warmup": WARMUP} | settings, **sampling)
        return {"latent": links[0], "trace": links[1]}

    return outputs


BALANCED = {
    "dynamic": {"online": True, "every": 1},
    "dynamic_every_2": {"online": True, "every": 2},
    "look_ahead": {"online": False, "every": 1},
    "look_ahead_every_2": {"online": False, "every": 2},
}
ARMS = {
    "stock": stock("text"),
    "two_stock": stock("text", "spatial"),
    "fixed": realcompo(mode="fixed"),
    **{name: realcompo(**settings) for name, settings in BALANCED.items()},
    "text_only": realcompo(mode="text only"),
    "spatial_only": realcompo(mode="spatial only"),
}


@dataclass(frozen=True)
class Image:
    """One sampled image: what the nodes put out, and the seconds it took with everything else ready."""

    seconds: float
    outputs: dict[str, Any]


class Bench:
    """Samples images in a host, each with a seed of its own, so that no result comes from its cache."""

    def __init__(self, host: Host) -> None:
        self.host, self.seeds = host, itertools.count()
        self.branch = host.pack("nodes.host.sampling.branch").Branch

    def image(
        self, outputs: Outputs, cells: int, *, scene: dict | None = None, **sampling: Any
    ) -> Image:
        graph = Scene(width=CELL * cells, height=CELL * cells, **scene or {})
        ready = {
            "model": graph.model,
            "text": graph.text,
            "spatial": graph.spatial,
            "negative": graph.negative,
        }
        self.host.run(graph, **ready)
        wanted = outputs(graph, {"seed": next(self.seeds)} | sampling)
        found: dict[str, Any] = {}
        return Image(seconds(lambda: found.update(self.host.run(graph, **wanted))), found)

    def unet(self) -> torch.nn.Module:
        scene = Scene()
        return self.host.run(scene, model=scene.model)["model"].model.diffusion_model


def measure(bench: Bench, plan: Plan) -> dict[str, Any]:
    """Everything that the report holds."""
    rows, gradient_rows = measure_rows(bench, plan)
    return {
        "rows": rows,
        "gradient_rows": gradient_rows,
        "row_equivalent_of_gradient_pass": row_equivalent(bench, plan, online=False),
        "row_equivalent_of_online_pass": row_equivalent(bench, plan, online=True),
        "wall_s": measure_wall(bench, plan),
        "wall_steps": plan.wall_steps,
        "peak_mb": measure_peaks(bench, plan),
        "scaling": measure_scaling(bench, plan),
    } | surroundings()


def measure_rows(bench: Bench, plan: Plan) -> tuple[dict[str, int], dict[str, int]]:
    """Rows of one image by arm, gradient passes included, and those of the gradient passes alone."""
    rows, gradient_rows = {"floor": floor(ROW_STEPS)}, {}
    for name, outputs in ARMS.items():
        say(f"rows: {name}")
        with counted_rows(bench.unet()) as counted:
            trace = bench.image(outputs, plan.row_cells, steps=ROW_STEPS).outputs.get("trace")
        rows[name] = counted.count
        if trace is not None:
            assert counted.count == trace.rows.total(), (
                f"{name}: {counted.count} rows, the trace says {trace.rows}"
            )
            gradient_rows[name] = sum(
                count for kind, count in trace.rows.items() if "attention" in kind
            )
    return rows, gradient_rows


def floor(steps: int) -> int:
    """The fewest rows that two guided branches can do with: the spatial branch alone, then both."""
    warmup = round(WARMUP * steps)
    return 2 * warmup + 4 * (steps - warmup)


def balanced(every: int) -> int:
    """Balanced steps of the image whose rows are counted: never its last."""
    return len(range(round(WARMUP * ROW_STEPS), ROW_STEPS - 1, every))


def guided_steps(every: int) -> int:
    """Steps of that image's warm-up at which the spatial branch's attention moves the latent."""
    return len(range(0, round(WARMUP * ROW_STEPS), every))


def extra_rows(every: int, balancing: float, guiding: float) -> float:
    """What that image's gradients cost, in rows: ``balancing`` each branch's at a balanced step, ``guiding`` one in
    warm-up, which is online however the rest is balanced."""
    return 2 * balanced(every) * balancing + guided_steps(every) * guiding


def row_equivalent(bench: Bench, plan: Plan, online: bool) -> float:
    """How many plain one-row predictions a gradient pass takes as long as, both branches together; online, without the
    prediction that it is part of.

    A figure of this host and device: on the CPU, predictions use a slower attention, one without a backward.
    """
    say(f"row equivalent of a gradient pass: {'online' if online else 'look-ahead'}")
    sampling = {
        "cells": plan.row_equivalent_cells,
        "steps": 5,
        "cfg": 1.0,
    }  # at cfg 1 a prediction is one row
    with timed(bench.branch, "predict") as predictions:
        bench.image(realcompo(mode="fixed", warmup=0.0), **sampling)
    with timed(bench.branch, gradient_pass(online)) as passes:
        bench.image(realcompo(warmup=0.0, online=online), **sampling)
    return warm_median(passes) / warm_median(predictions) - online


def gradient_pass(online: bool) -> str:
    """The branch's method that makes one."""
    return "predict_and_pull" if online else "pull"


def warm_median(calls: Sequence[float]) -> float:
    """The median sum over the branches, which take turns, but for the first, which is slow to start."""
    return median(
        [text + spatial for text, spatial in zip(calls[::2], calls[1::2], strict=True)][1:]
    )


def measure_wall(bench: Bench, plan: Plan) -> dict[str, float]:
    """Median seconds of one image by arm; arms take turns, and a first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in ARMS}
    for turn in range(plan.rounds + 1):
        for name, outputs in ARMS.items():
            say(
                f"wall time, {f'round {turn} of {plan.rounds}' if turn else 'warm-up round'}: {name}"
            )
            times[name].append(bench.image(outputs, plan.wall_cells, steps=plan.wall_steps).seconds)
    return {name: median(found[1:]) for name, found in times.items()}


def measure_peaks(bench: Bench, plan: Plan) -> dict[str, float]:
    """MiB over base that the larger of the two branches' gradient passes holds."""
    ways = {
        "plain": {"online": True, "checkpointing": False},
        "checkpointed": {"online": True, "checkpointing": True},
        "look_ahead": {"online": False, "checkpointing": False},
        "look_ahead_checkpointed": {"online": False, "checkpointing": True},
    }
    return {name: peak(bench, plan, **settings) for name, settings in ways.items()}


def peak(bench: Bench, plan: Plan, *, online: bool, checkpointing: bool) -> float:
    say(
        f"peak memory: {'online' if online else 'look-ahead'}, {'checkpointed' if checkpointing else 'plain'}"
    )
    outputs = realcompo(warmup=0.0, online=online, checkpointing=checkpointing)
    with weighed(bench.branch, gradient_pass(online)) as passes:
        bench.image(outputs, plan.peak_cells, steps=2, cfg=1.0)
    return max(passes) / 2**20


def measure_scaling(bench: Bench, plan: Plan) -> dict[str, list[dict[str, float]]]:
    """By latent size, and by number of objects of a prompt that stays the same and names them all."""
    prompt = ", ".join(THINGS)
    return {
        "size": [two_steps(bench, cells, "size", cells) for cells in plan.sizes],
        "objects": [
            two_steps(bench, plan.wall_cells, "objects", count, prompt=prompt, layout=grid(count))
            for count in plan.objects
        ],
    }


def two_steps(bench: Bench, cells: int, key: str, value: int, **scene: str) -> dict[str, float]:
    """Seconds of a dynamic image of two steps, of which one balances, and of one of its predictions with a gradient."""
    say(f"scaling, {key} {value}: dynamic")
    with timed(bench.branch, gradient_pass(online=True)) as passes:
        image = bench.image(realcompo(warmup=0.0), cells, scene=scene, steps=2)
    return {key: value, "seconds": image.seconds, "gradient_pass_seconds": mean(passes)}


def grid(count: int) -> str:
    """A layout of things on four columns and rows."""
    places = [
        (thing, number % 4 / 4, number // 4 / 4) for number, thing in enumerate(THINGS[:count])
    ]
    return "\n".join(f"{thing}: {x} {y} {x + 0.25} {y + 0.25}" for thing, x, y in places)


def surroundings() -> dict[str, str]:
    import comfy.model_management
    from comfyui_version import __version__

    device = comfy.model_management.get_torch_device()
    return {"torch": torch.__version__, "host_version": __version__, "device": str(device)}


def report(found: dict[str, Any]) -> str:
    """The figures as text."""
    tables = [
        rows_table(found),
        budget_table(found),
        wall_table(found),
        peak_table(found),
        *scaling_tables(found),
    ]
    head = f"ComfyUI {found['host_version']}, torch {found['torch']}, {found['device']}, random weights"
    return "\n\n".join([head, *tables])


def rows_table(found: dict[str, Any]) -> str:
    rows, gradient_rows = found["rows"], found["gradient_rows"]
    lines = [
        (
            arm,
            count,
            gradient_rows.get(arm, 0),
            ratio(count, rows["floor"]),
            ratio(count, rows["stock"]),
        )
        for arm, count in rows.items()
    ]
    title = f"Rows of an image of {ROW_STEPS} steps (a gradient pass counts as one)"
    return table(title, ("arm", "rows", "of them gradient", "/ floor", "/ stock"), lines)


def budget_table(found: dict[str, Any]) -> str:
    ahead, online = found["row_equivalent_of_gradient_pass"], found["row_equivalent_of_online_pass"]
    lines = []
    for arm, settings in BALANCED.items():
        extra = extra_rows(settings["every"], online if settings["online"] else ahead, online)
        total, budget = (
            found["rows"][arm] - found["gradient_rows"][arm] + extra,
            BUDGET[settings["every"]],
        )
        over = total / found["rows"]["floor"]
        lines.append(
            (
                arm,
                f"{total:.1f}",
                f"{over:.2f}",
                f"{budget:.2f}",
                "within" if over <= budget else "OVER",
            )
        )
    title = f"Row equivalents: a look-ahead pass is {ahead:.2f} one-row predictions on this host, online {online:.2f}"
    return table(title, ("arm", "total", "/ floor", "budget", ""), lines)


def wall_table(found: dict[str, Any]) -> str:
    wall = found["wall_s"]
    lines = [
        (arm, f"{time:.2f}", ratio(time, wall["fixed"]), ratio(time, wall["stock"]))
        for arm, time in wall.items()
    ]
    title = (
        f"Seconds of an image of {found['wall_steps']} steps, median (fixed does the floor's work)"
    )
    return table(title, ("arm", "seconds", "/ fixed", "/ stock"), lines)


def peak_table(found: dict[str, Any]) -> str:
    peaks = found["peak_mb"]
    lines = [(name, f"{peak:.1f}", ratio(peak, peaks["plain"])) for name, peak in peaks.items()]
    means = "the allocator's" if on_cuda() else "live tensors, without kernels' scratch memory"
    return table(
        f"Peak memory of a gradient pass over base ({means})", ("", "MiB", "/ plain"), lines
    )


def scaling_tables(found: dict[str, Any]) -> list[str]:
    title = "Seconds of a dynamic image of two steps, one of them balanced, and of a prediction with a gradient, by"
    tables = []
    for key, words in (("size", "cells along a side"), ("objects", "number of objects")):
        measured = found["scaling"][key]
        lines = [
            (x[key], f"{x['seconds']:.2f}", f"{x['gradient_pass_seconds']:.2f}") for x in measured
        ]
        tables.append(table(f"{title} {words}", (key, "seconds", "a prediction"), lines))
    return tables


def ratio(value: float, base: float) -> str:
    return f"{value / base:.2f}"


def table(title: str, header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """Aligned columns under a title, the first to the left and numbers to the right."""
    cells = [list(map(str, line)) for line in (header, *lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligned = [[line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in cells]
    return "\n".join([title, *("  " + "  ".join(line).rstrip() for line in aligned)])


def rounded(value: Any) -> Any:
    """Floats to four digits after the point, at any depth."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value


def say(line: str) -> None:
    print(line, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.cost", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small latents and one round: it works, times mean little",
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "output" / "bench" / "cost.json", help="the JSON file"
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    with quiet_host() as host:
        found = rounded(measure(Bench(host), QUICK if options.quick else Plan()))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=2) + "\n")
    say(f"\n{report(found)}\n\n{options.output}")


if __name__ == "__main__":
    main()
