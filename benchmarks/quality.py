"""Does balancing help? Composition and realism of every arm on prompts that training never saw.

``python -m benchmarks.quality [--prompts 300] [--split held-out] [--base unet] [--spatial control]
[--workers 2]``, with ComfyUI at COMFYUI_PATH. Every picture is made by the pack's nodes in a real
ComfyUI. Scores are kept as they come, so a run that was stopped goes on; each remembers the code
that made it, the report counts them, and ``--fresh`` starts anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from demo.judging.detect import read
from demo.judging.prompts import CATEGORIES, Prompt, digest, judge, prompts
from demo.judging.realism import FEATURES, Realism, features

from . import ROOT
from .arms import ARMS, BASES, QUICK, SPATIAL, STEPS, Arm, PromptGraph
from .statistics import MEASURES, above, front, interval, measures, resamples

WEIGHTS = ROOT / "demo" / "weights"
CODE = ("realcompo_core", "nodes", "demo/toy", "demo/judging")
# Heights over the static arms' front of a measure against realism.
HEIGHTS = {"above": "composition", "success_above": "success"}


def weights_hash(base: str = "unet") -> str:
    """Return a hash of all trained weights that a base may need."""
    files = sorted(WEIGHTS.glob("*.safetensors"))
    if base == "unet":
        files = [path for path in files if path.stem != "transformer"]
    digests = [hashlib.sha256(path.read_bytes()).digest() for path in files]
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def code_hash() -> str:
    """Return a hash of all code that makes or scores a picture."""
    files = sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


class Studio:
    """Makes and scores pictures in one ComfyUI."""

    def __init__(self, host: Any, **options: Any) -> None:
        self.host, self.options = host, options
        graph = PromptGraph(prompts("development", 1)[0], 0)
        vae = host.run(graph, vae=graph.vae)["vae"]
        self.realism = Realism(lambda pictures: through(vae, pictures))

    def scores(self, prompt: Prompt, arm: Arm, seed: int) -> list[dict[str, Any]]:
        """Score each picture of a batch."""
        graph = PromptGraph(prompt, seed, **self.options)
        out = self.host.run(graph, pictures=graph.picture(graph.sample(arm)))
        pictures = out["pictures"].movedim(-1, 1)
        return [self._score(prompt, picture) for picture in pictures]

    def _score(self, prompt: Prompt, picture: torch.Tensor) -> dict[str, Any]:
        scores = asdict(judge(prompt, read(picture))) | {"realism": self.realism.score(picture)}
        line: dict[str, Any] = {name: round(float(value), 5) for name, value in scores.items()}
        values = features(picture).round(5).tolist()
        line["features"] = dict(zip(FEATURES, values, strict=True))
        line["pixels"] = hashlib.sha256(picture.numpy().tobytes()).hexdigest()[:16]
        return line


@torch.inference_mode()
def through(vae: Any, pictures: torch.Tensor) -> torch.Tensor:
    """Send small pictures [B, 3, 64, 64] through the autoencoder and back to their size."""
    large = torch.nn.functional.interpolate(pictures, scale_factor=2).movedim(1, -1)
    out = vae.decode(vae.encode(large)).movedim(-1, 1)
    return torch.nn.functional.interpolate(out, scale_factor=0.5, mode="area")


def work(share: Sequence[tuple[int, Prompt, Arm]], setup: Mapping[str, Any], path: Path) -> None:
    """Score a share of the prompts and arms, a line of JSON for each; ``setup`` is a graph's."""
    torch.set_num_threads(1)  # sums in one order: the same scores every time
    code = code_hash()
    from testkit.quiet_host import quiet_host

    with quiet_host() as host, path.open("a") as lines:
        studio = Studio(host, **setup)
        for index, prompt, arm in share:
            parent = multiprocessing.parent_process()
            if parent is None or not parent.is_alive():
                return
            line = {"arm": arm.name, "balancer": arm.balancer, "code": code, "prompt": index}
            line["pictures"] = studio.scores(prompt, arm, seed=index)
            lines.write(json.dumps(line) + "\n")
            lines.flush()


def run(
    arms: Sequence[Arm],
    of: Sequence[Prompt],
    setup: Mapping[str, Any],
    workers: int,
    folder: Path,
) -> list[dict]:
    """Score every arm on every prompt that has no score yet, and return all lines, in one order."""
    folder.mkdir(parents=True, exist_ok=True)
    mend(folder)
    done = {(line["arm"], line["prompt"]) for line in scored(arms, len(of), folder)}
    everything = product(enumerate(of), arms)
    todo = [(i, prompt, arm) for (i, prompt), arm in everything if (arm.name, i) not in done]
    if todo:
        jobs = start(todo, setup, workers, folder)
        watch(jobs, lambda: len(scored(arms, len(of), folder)), len(done) + len(todo))
        if any(job.exitcode for job in jobs):
            raise SystemExit("a worker failed; what it finished is kept")
    return scored(arms, len(of), folder)


def start(
    todo: Sequence[tuple[int, Prompt, Arm]], setup: Mapping[str, Any], workers: int, folder: Path
) -> list[SpawnProcess]:
    """Start workers that share what is to do."""
    context = multiprocessing.get_context("spawn")
    jobs = []
    for number in range(workers):
        share = (todo[number::workers], setup, folder / f"{number}.jsonl")
        jobs.append(context.Process(target=work, args=share))
        jobs[-1].start()
    return jobs


def scored(arms: Sequence[Arm], count: int, folder: Path) -> list[dict]:
    """Return the scores of these arms, as they are set now, on the first prompts, in one order."""
    order = {arm.name: number for number, arm in enumerate(arms)}
    balancers = {arm.name: arm.balancer for arm in arms}
    lines = [line for line in lines_of(folder) if balancers.get(line["arm"]) == line["balancer"]]
    found = {(order[line["arm"]], line["prompt"]): line for line in lines if line["prompt"] < count}
    return [found[key] for key in sorted(found)]


def lines_of(folder: Path) -> list[dict]:
    """Return all scores in a folder; a line that is not finished is left out."""
    lines = []
    for path in sorted(folder.glob("*.jsonl")):
        lines += map(json.loads, _whole(path))
    return lines


def mend(folder: Path) -> None:
    """Cut off the lines that a stopped run did not finish."""
    for path in folder.glob("*.jsonl"):
        path.write_text("".join(_whole(path)))


def _whole(path: Path) -> list[str]:
    return [text for text in path.read_text().splitlines(keepends=True) if text.endswith("\n")]


def watch(jobs: Sequence[SpawnProcess], count: Callable[[], int], total: int) -> None:
    """Print progress until all workers have ended."""
    started, before = time.monotonic(), count()
    while any(job.is_alive() for job in jobs):
        for job in jobs:
            job.join(timeout=10 / len(jobs))
        done = count()
        rate = (done - before) / (time.monotonic() - started)
        left = f", {(total - done) / rate / 60:.0f} min left" if rate else ""
        print(f"\r  {done}/{total} pictures{left}   ", end="", flush=True)
    print()


def table(lines: Sequence[dict], arms: Sequence[Arm], of: Sequence[Prompt]) -> dict[str, dict]:
    """Return every arm's measures with intervals.

    ``above`` is how far a dynamic arm stands over the static front of composition against realism,
    ``success_above`` over that of success against realism.
    """
    draws, everything = resamples(len(of)), np.arange(len(of))
    scores = {arm.name: _scores(lines, arm.name) for arm in arms}
    means = {name: measures(own, everything) for name, own in scores.items()}
    drawn = {name: measures(own, draws) for name, own in scores.items()}
    static = [arm.name for arm in arms if not arm.dynamic]
    out = {}
    for arm in arms:
        row = _row(means[arm.name], drawn[arm.name])
        row["by_category"] = _by_category(scores[arm.name]["composition"], of)
        for name, height in HEIGHTS.items() if arm.dynamic else ():
            row[name] = round(_above(height, arm.name, static, means), 4)
            heights = [_above(height, arm.name, static, drawn, i) for i in range(len(draws))]
            row["ci"][name] = interval(np.array(heights))
        out[arm.name] = row
    return out


def _row(means: dict[str, np.ndarray], drawn: dict[str, np.ndarray]) -> dict[str, Any]:
    row: dict[str, Any] = {name: round(float(means[name]), 4) for name in MEASURES}
    return row | {"ci": {name: interval(drawn[name]) for name in MEASURES}}


def _by_category(composition: np.ndarray, of: Sequence[Prompt]) -> dict[str, float]:
    categories = np.array([prompt.category for prompt in of])
    means = {}
    for category in CATEGORIES:
        own = composition[categories == category]
        if len(own):
            means[category] = round(float(own.mean()), 4)
    return means


def _scores(lines: Sequence[dict], arm: str) -> dict[str, np.ndarray]:
    """Return an arm's measures by prompt, each the mean over its pictures."""
    own = [line["pictures"] for line in lines if line["arm"] == arm]
    scores = {}
    for name in MEASURES:
        if name != "joint":
            scores[name] = np.array([_mean(pictures, name) for pictures in own])
    return scores


def _mean(pictures: Sequence[dict], name: str) -> float:
    return float(np.mean([picture[name] for picture in pictures]))


def _above(
    height: str,
    arm: str,
    static: Sequence[str],
    of: dict[str, dict[str, np.ndarray]],
    draw: Any = (),
) -> float:
    points = {name: (of[name]["realism"][draw], of[name][height][draw]) for name in (arm, *static)}
    return above(points.pop(arm), list(points.values()))


def show(rows: dict[str, dict]) -> None:
    """Print the table."""
    heads = [*MEASURES, *HEIGHTS]
    print(f"{'arm':34s}" + "".join(f"{head:>22s}" for head in heads))
    for name, row in rows.items():
        print(f"{name:34s}" + "".join(f"{_cell(row, head):>22s}" for head in heads))


def _cell(row: dict, head: str) -> str:
    if head not in row:
        return ""
    low, high = row["ci"][head]
    return f"{row[head]:.3f} [{low:.3f} {high:.3f}]"


def plot(rows: dict[str, dict], path: Path) -> None:
    """Draw composition against realism, with the static arms' front."""
    from matplotlib.figure import Figure

    figure = Figure((11, 8), layout="tight")
    axes = figure.subplots()
    points = {name: (row["realism"], row["composition"]) for name, row in rows.items()}
    static = [points[name] for name, row in rows.items() if "above" not in row]
    corners = zip(*front(static), strict=True)
    axes.plot(*corners, color="grey", linestyle="--", label="front of the static arms")
    for name, point in points.items():
        dynamic = "above" in rows[name]
        axes.plot(*point, "o", color="tab:orange" if dynamic else "tab:blue")
        side = {"ha": "left", "xytext": (6, 0)} if dynamic else {"ha": "right", "xytext": (-6, 0)}
        axes.annotate(name, point, textcoords="offset points", va="center", size=8, **side)
    axes.margins(x=0.25)
    axes.set(xlabel="realism", ylabel="composition")
    axes.legend(loc="lower left")
    figure.savefig(path, dpi=120)


def parser(about: str | None = __doc__) -> argparse.ArgumentParser:
    """Return the command line's parser."""
    options = argparse.ArgumentParser(description=about)
    options.add_argument("--prompts", type=int, default=300)
    options.add_argument("--split", choices=("development", "held-out"), default="held-out")
    options.add_argument("--base", choices=BASES, default="unet")
    options.add_argument("--spatial", choices=SPATIAL, help="instead of the base's own")
    options.add_argument("--batch", type=int, default=1, help="pictures of each prompt")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--fresh", action="store_true", help="forget earlier scores")
    options.add_argument("--output", type=Path, default=ROOT / "output" / "quality")
    return options


def spatial_of(options: argparse.Namespace) -> str:
    """Return which spatial branch was asked for, else the base's own."""
    return options.spatial or BASES[options.base].spatial


def compare(arms: Sequence[Arm], options: argparse.Namespace, name: str) -> dict[str, dict]:
    """Score, tabulate, print, draw and write ``<name>.json``."""
    of = prompts(options.split, options.prompts)
    weights = weights_hash(options.base)
    setup = {"batch": options.batch, "spatial": spatial_of(options), "base": options.base}
    parts = (options.split, setup["spatial"], weights, digest(of[:6]), STEPS, options.batch)
    folder = options.output / "-".join(map(str, parts))
    if options.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    lines = run(arms, of, setup, options.workers, folder)
    rows = table(lines, arms, of)
    show(rows)
    code = Counter(line.get("code", "unknown") for line in lines)
    report = {
        "split": options.split,
        **setup,
        "weights": weights,
        "code": dict(code),
        "prompts": {"count": len(of), "hash": digest(of)},
        "arms": rows,
    }
    (options.output / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    plot(rows, options.output / f"{name}.png")
    files = f"{options.output / name}.json and .png"
    print(f"weights {weights}, prompts {report['prompts']}; {files}")
    if len(code) > 1:
        versions = f"made by more than one version of the code ({report['code']})"
        print(f"{versions}; --fresh makes all anew")
    return rows


def main() -> None:
    """Compare all arms, or few on few prompts."""
    known = parser()
    known.add_argument("--quick", action="store_true", help="few prompts and arms")
    known.add_argument("--arms", nargs="+", metavar="ARM", help="the names of some")
    options = known.parse_args()
    if options.quick:
        options.prompts = min(options.prompts, 18)
    name = f"composition-{options.split}-{spatial_of(options)}-{options.prompts}x{options.batch}"
    if name == "composition-held-out-control-300x1":
        name = "composition"
    if options.base != "unet":
        name = f"{name}-{options.base}"
    compare(_chosen(options), options, name)


def _chosen(options: argparse.Namespace) -> Sequence[Arm]:
    if options.quick:
        return QUICK
    return [arm for arm in ARMS if not options.arms or arm.name in options.arms]


if __name__ == "__main__":
    main()
