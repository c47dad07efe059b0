"""What an image costs beside the stock KSampler's: exact counts of evaluations, time, and memory.

``python -m benchmarks.cost [--quick] [--output FILE]``, with ComfyUI at COMFYUI_PATH. Small models
with random weights: counts are those of any model, times and bytes are to be compared with each
other only.
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
from testkit.random_models import MODELS, WIDE, write
from testkit.scene import Scene

from . import ROOT
from .cost_report import report
from .meters import counted_rows, seconds, timed, weighed
from .rows import STEPS, WARMUP, floor
from .tables import rounded, say

CELL = 8  # pixels
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
    """Return a stock KSampler for each of the scene's conditionings."""

    def outputs(scene: Scene, sampling: dict) -> dict[str, list]:
        links = {name: getattr(scene, name) for name in conditionings}
        return {name: scene.stock(link, **sampling)[0] for name, link in links.items()}

    return outputs


def realcompo(**settings: Any) -> Outputs:
    """Return RealCompo KSampler, its balancer with these settings."""

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
    """One sampled image: what the nodes put out, and its seconds with everything else ready."""

    seconds: float
    outputs: dict[str, Any]


class Bench:
    """Samples images in a host, each with a seed of its own: no result comes from its cache."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.seeds = itertools.count()
        self.branch = host.pack("nodes.host.sampling.prepared_model").PreparedModel

    def image(
        self, outputs: Outputs, cells: int, *, scene: dict | None = None, **sampling: Any
    ) -> Image:
        """Sample an image of ``cells`` latent cells a side."""
        graph = Scene(width=CELL * cells, height=CELL * cells, family=WIDE, **scene or {})
        ready = ("model", "text", "spatial", "negative")
        self.host.run(graph, **{name: getattr(graph, name) for name in ready})
        wanted = outputs(graph, {"seed": next(self.seeds)} | sampling)
        found: dict[str, Any] = {}
        return Image(seconds(lambda: found.update(self.host.run(graph, **wanted))), found)

    def unet(self) -> torch.nn.Module:
        """Return the module that evaluations run through."""
        scene = Scene(family=WIDE)
        return self.host.run(scene, model=scene.model)["model"].model.diffusion_model


def measure(bench: Bench, plan: Plan) -> dict[str, Any]:
    """Measure everything that the report holds."""
    rows, gradient_rows = measure_rows(bench, plan)
    figures = {
        "rows": rows,
        "gradient_rows": gradient_rows,
        "row_equivalent_of_gradient_pass": row_equivalent(bench, plan, online=False),
        "row_equivalent_of_online_pass": row_equivalent(bench, plan, online=True),
        "wall_s": measure_wall(bench, plan),
        "wall_steps": plan.wall_steps,
        "peak_mb": measure_peaks(bench, plan),
        "scaling": measure_scaling(bench, plan),
    }
    return figures | surroundings()


def measure_rows(bench: Bench, plan: Plan) -> tuple[dict[str, int], dict[str, int]]:
    """Count an image's rows by arm: all, and those of gradient passes."""
    rows, gradient_rows = {"floor": floor(STEPS)}, {}
    for name, outputs in ARMS.items():
        say(f"rows: {name}")
        with counted_rows(bench.unet()) as counted:
            trace = bench.image(outputs, plan.row_cells, steps=STEPS).outputs.get("trace")
        rows[name] = counted.count
        if trace is None:
            continue
        if counted.count != trace.rows.total():
            raise AssertionError(f"{name}: {counted.count} rows, the trace says {trace.rows}")
        kinds = [kind for kind in trace.rows if "attention" in kind]
        gradient_rows[name] = sum(trace.rows[kind] for kind in kinds)
    return rows, gradient_rows


def row_equivalent(bench: Bench, plan: Plan, online: bool) -> float:
    """Return how many plain one-row predictions a gradient pass takes as long as.

    Both branches count together; online, without the prediction that it is part of. It is a figure
    of this host and device: on the CPU, predictions use a slower attention, without a backward.
    """
    say(f"row equivalent of a gradient pass: {'online' if online else 'look-ahead'}")
    # At cfg 1 a prediction is one row.
    sampling: dict[str, Any] = {"cells": plan.row_equivalent_cells, "steps": 5, "cfg": 1.0}
    with timed(bench.branch, "predict") as predictions:
        bench.image(realcompo(mode="fixed", warmup=0.0), **sampling)
    with timed(bench.branch, gradient_pass(online)) as passes:
        bench.image(realcompo(warmup=0.0, online=online), **sampling)
    return warm_median(passes) / warm_median(predictions) - online


def gradient_pass(online: bool) -> str:
    """Return the name of the branch's method that makes one."""
    return "predict_and_pull" if online else "pull"


def warm_median(calls: Sequence[float]) -> float:
    """Return the median sum over the branches, which take turns, without the first, slow one."""
    both = [text + spatial for text, spatial in zip(calls[::2], calls[1::2], strict=True)]
    return median(both[1:])


def measure_wall(bench: Bench, plan: Plan) -> dict[str, float]:
    """Return median seconds of an image by arm; arms take turns, a first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in ARMS}
    for turn in range(plan.rounds + 1):
        current = f"round {turn} of {plan.rounds}" if turn else "warm-up round"
        for name, outputs in ARMS.items():
            say(f"wall time, {current}: {name}")
            times[name].append(bench.image(outputs, plan.wall_cells, steps=plan.wall_steps).seconds)
    return {name: median(found[1:]) for name, found in times.items()}


def measure_peaks(bench: Bench, plan: Plan) -> dict[str, float]:
    """Return the MiB over base of the larger of the two branches' gradient passes."""
    ways = {
        "plain": {"online": True, "checkpointing": False},
        "checkpointed": {"online": True, "checkpointing": True},
        "look_ahead": {"online": False, "checkpointing": False},
        "look_ahead_checkpointed": {"online": False, "checkpointing": True},
    }
    return {name: peak(bench, plan, **settings) for name, settings in ways.items()}


def peak(bench: Bench, plan: Plan, *, online: bool, checkpointing: bool) -> float:
    """Return the MiB over base of one way to compute the gradient."""
    way = "online" if online else "look-ahead"
    say(f"peak memory: {way}, {'checkpointed' if checkpointing else 'plain'}")
    outputs = realcompo(warmup=0.0, online=online, checkpointing=checkpointing)
    with weighed(bench.branch, gradient_pass(online)) as passes:
        bench.image(outputs, plan.peak_cells, steps=2, cfg=1.0)
    return max(passes) / 2**20


def measure_scaling(bench: Bench, plan: Plan) -> dict[str, list[dict[str, float]]]:
    """Time by latent size, and by number of objects of one prompt that names them all."""
    prompt = ", ".join(THINGS)
    sizes = [two_steps(bench, cells, "size", cells) for cells in plan.sizes]
    objects = []
    for count in plan.objects:
        scene = {"prompt": prompt, "layout": grid(count)}
        objects.append(two_steps(bench, plan.wall_cells, "objects", count, **scene))
    return {"size": sizes, "objects": objects}


def two_steps(bench: Bench, cells: int, key: str, value: int, **scene: str) -> dict[str, float]:
    """Time a dynamic image of two steps, of which one balances, and its gradient passes."""
    say(f"scaling, {key} {value}: dynamic")
    with timed(bench.branch, gradient_pass(online=True)) as passes:
        image = bench.image(realcompo(warmup=0.0), cells, scene=scene, steps=2)
    return {key: value, "seconds": image.seconds, "gradient_pass_seconds": mean(passes)}


def grid(count: int) -> str:
    """Return a layout of things on four columns and rows."""
    lines = []
    for number, thing in enumerate(THINGS[:count]):
        x, y = number % 4 / 4, number // 4 / 4
        lines.append(f"{thing}: {x} {y} {x + 0.25} {y + 0.25}")
    return "\n".join(lines)


def surroundings() -> dict[str, str]:
    """Return the versions and the device that figures belong to."""
    import comfy.model_management
    from comfyui_version import __version__

    device = comfy.model_management.get_torch_device()
    return {"torch": torch.__version__, "host_version": __version__, "device": str(device)}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    output = ROOT / "output" / "bench" / "cost.json"
    quick = "small latents and one round: it works, times mean little"
    parser = argparse.ArgumentParser(prog="benchmarks.cost", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--output", type=Path, default=output, help="the JSON file")
    return parser.parse_args()


def main() -> None:
    """Measure, print and write the report."""
    options = arguments()
    with quiet_host() as host:
        write(MODELS, [WIDE])
        found = rounded(measure(Bench(host), QUICK if options.quick else Plan()))
        text = report(found, BALANCED)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=2) + "\n")
    say(f"\n{text}\n\n{options.output}")


if __name__ == "__main__":
    main()
