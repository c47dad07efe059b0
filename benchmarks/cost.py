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
from comfy_host import Host
from scenes import Scene

from . import ROOT
from .comfyui import quiet_host
from .meters import counted_rows, on_cuda, seconds, timed, weighed

CELL = 8  # pixels
WARMUP = 0.4
ROW_STEPS = 50
BUDGET = {"dynamic": 1.5, "dynamic_every_2": 1.25}  # row equivalents over the floor, at most
THINGS = ("cat", "dog", "bird", "fish", "tree", "car", "boat", "house",
          "chair", "table", "lamp", "cup", "book", "ball", "hat", "shoe")  # fmt: skip

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


QUICK = Plan(1, row_cells=4, wall_cells=4, wall_steps=5, row_equivalent_cells=8, peak_cells=8, sizes=(4, 8, 16))


def stock(*conditionings: str) -> Outputs:
    """A stock KSampler for each of the scene's conditionings."""
    return lambda scene, sampling: {
        name: scene.stock(getattr(scene, name), **sampling)[0] for name in conditionings
    }  # fmt: skip


def realcompo(**settings: Any) -> Outputs:
    """RealCompo KSampler, its balancer with these settings."""

    def outputs(scene: Scene, sampling: dict) -> dict[str, list]:
        links = scene.realcompo({"warmup": WARMUP} | settings, **sampling)
        return {"latent": links[0], "trace": links[1]}

    return outputs


ARMS = {
    "stock": stock("text"),
    "two_stock": stock("text", "spatial"),
    "fixed": realcompo(mode="fixed"),
    "dynamic": realcompo(),
    "dynamic_every_2": realcompo(every=2),
    "dynamic_online": realcompo(online=True),
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
        self.branch = host.pack("nodes.host.branch").Branch

    def image(self, outputs: Outputs, cells: int, *, scene: dict | None = None, **sampling: Any) -> Image:
        graph = Scene(width=CELL * cells, height=CELL * cells, **scene or {})
        ready = {"model": graph.model, "text": graph.text, "spatial": graph.spatial, "negative": graph.negative}
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
        "row_equivalent_of_gradient_pass": row_equivalent(bench, plan),
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
            assert counted.count == trace.rows.total(), f"{name}: {counted.count} rows, the trace says {trace.rows}"
            gradient_rows[name] = sum(count for kind, count in trace.rows.items() if "attention" in kind)
    return rows, gradient_rows


def floor(steps: int) -> int:
    """The fewest rows that two guided branches can do with: the spatial branch alone, then both."""
    warmup = round(WARMUP * steps)
    return 2 * warmup + 4 * (steps - warmup)


def row_equivalent(bench: Bench, plan: Plan) -> float:
    """How many plain one-row predictions a gradient pass takes as long as, both branches together.

    A figure of this host and device: on the CPU, predictions use a slower attention, one without a backward.
    """
    say("row equivalent of a gradient pass: dynamic")
    outputs = realcompo(warmup=0.0)
    with timed(bench.branch, "pull") as pulls, timed(bench.branch, "predict") as predictions:
        bench.image(outputs, plan.row_equivalent_cells, steps=4, cfg=1.0)  # at cfg 1 a prediction is one row
    return median(of_both_branches(pulls)) / median(of_both_branches(predictions))


def of_both_branches(calls: Sequence[float]) -> list[float]:
    """Sums over the branches, which take turns."""
    return [text + spatial for text, spatial in zip(calls[::2], calls[1::2], strict=True)]


def measure_wall(bench: Bench, plan: Plan) -> dict[str, float]:
    """Median seconds of one image by arm; arms take turns, and a first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in ARMS}
    for turn in range(plan.rounds + 1):
        for name, outputs in ARMS.items():
            say(f"wall time, {f'round {turn} of {plan.rounds}' if turn else 'warm-up round'}: {name}")
            times[name].append(bench.image(outputs, plan.wall_cells, steps=plan.wall_steps).seconds)
    return {name: median(found[1:]) for name, found in times.items()}


def measure_peaks(bench: Bench, plan: Plan) -> dict[str, float]:
    """MiB over base that the larger of the two branches' gradient passes holds."""
    peaks = {}
    for name, checkpointing in (("plain", False), ("checkpointed", True)):
        say(f"peak memory: dynamic, {name}")
        outputs = realcompo(warmup=0.0, checkpointing=checkpointing)
        with weighed(bench.branch, "pull") as pulls:
            bench.image(outputs, plan.peak_cells, steps=2, cfg=1.0)
        peaks[name] = max(pulls) / 2**20
    return peaks


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
    """Seconds of a dynamic image of two steps, of which one balances, and of one of its gradient passes."""
    say(f"scaling, {key} {value}: dynamic")
    with timed(bench.branch, "pull") as pulls:
        image = bench.image(realcompo(warmup=0.0), cells, scene=scene, steps=2)
    return {key: value, "seconds": image.seconds, "gradient_pass_seconds": mean(pulls)}


def grid(count: int) -> str:
    """A layout of things on four columns and rows."""
    places = [(thing, number % 4 / 4, number // 4 / 4) for number, thing in enumerate(THINGS[:count])]
    return "\n".join(f"{thing}: {x} {y} {x + 0.25} {y + 0.25}" for thing, x, y in places)


def surroundings() -> dict[str, str]:
    import comfy.model_management
    from comfyui_version import __version__

    device = comfy.model_management.get_torch_device()
    return {"torch": torch.__version__, "host_version": __version__, "device": str(device)}


def report(found: dict[str, Any]) -> str:
    """The figures as text."""
    tables = [rows_table(found), budget_table(found), wall_table(found), peak_table(found), *scaling_tables(found)]
    head = f"ComfyUI {found['host_version']}, torch {found['torch']}, {found['device']}, random weights"
    return "\n\n".join([head, *tables])


def rows_table(found: dict[str, Any]) -> str:
    rows, gradient_rows = found["rows"], found["gradient_rows"]
    lines = [
        (arm, count, gradient_rows.get(arm, 0), ratio(count, rows["floor"]), ratio(count, rows["stock"]))
        for arm, count in rows.items()
    ]
    title = f"Rows of an image of {ROW_STEPS} steps (a gradient pass counts as one)"
    return table(title, ("arm", "rows", "of them gradient", "/ floor", "/ stock"), lines)


def budget_table(found: dict[str, Any]) -> str:
    each = found["row_equivalent_of_gradient_pass"]
    lines = []
    for arm, budget in BUDGET.items():
        gradient = found["gradient_rows"][arm]
        total = found["rows"][arm] - gradient + gradient * each
        over = total / found["rows"]["floor"]
        lines.append((arm, f"{total:.1f}", f"{over:.2f}", f"{budget:.2f}", "within" if over <= budget else "OVER"))
    title = f"Row equivalents: a gradient pass takes as long as {each:.2f} one-row predictions on this host"
    return table(title, ("arm", "total", "/ floor", "budget", ""), lines)


def wall_table(found: dict[str, Any]) -> str:
    wall = found["wall_s"]
    lines = [(arm, f"{time:.2f}", ratio(time, wall["fixed"]), ratio(time, wall["stock"])) for arm, time in wall.items()]
    title = f"Seconds of an image of {found['wall_steps']} steps, median (fixed does the floor's work)"
    return table(title, ("arm", "seconds", "/ fixed", "/ stock"), lines)


def peak_table(found: dict[str, Any]) -> str:
    peaks = found["peak_mb"]
    lines = [(name, f"{peak:.1f}", ratio(peak, peaks["plain"])) for name, peak in peaks.items()]
    means = "the allocator's" if on_cuda() else "live tensors, without kernels' scratch memory"
    return table(f"Peak memory of a gradient pass over base ({means})", ("", "MiB", "/ plain"), lines)


def scaling_tables(found: dict[str, Any]) -> list[str]:
    title = "Seconds of a dynamic image of two steps, one of them balanced, by"
    tables = []
    for key, words in (("size", "cells along a side"), ("objects", "number of objects")):
        measured = found["scaling"][key]
        lines = [(x[key], f"{x['seconds']:.2f}", f"{x['gradient_pass_seconds']:.2f}") for x in measured]
        tables.append(table(f"{title} {words}", (key, "seconds", "a gradient pass"), lines))
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
    parser.add_argument("--quick", action="store_true", help="small latents and one round: it works, times mean little")
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "bench" / "cost.json", help="the JSON file")
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
