"""Does Separate-and-Enhance help? Attention and success before and after, on unseen prompts.

``python -m benchmarks.sepen [--prompts 60] [--steps 200]``, with ComfyUI at COMFYUI_PATH. The
demo's models are finetuned by SepEn Train on a concept list without the split's own kinds of
objects, with each loss alone and with both, or guided by SepEn Guidance, and draw the same prompts
with the same noise. Overlap is the separate loss and activation the strongest attention of the
weakest object, each the mean over a run's steps.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from demo.judging.detect import read
from demo.judging.prompts import Prompt, digest, judge, prompts
from demo.judging.realism import Realism
from demo.toy.picture import TRAINING_PAIRS
from realcompo_core.sampling.losses import activation, separate_loss
from realcompo_core.sampling.trace import Trace
from testkit.graph import Graph
from testkit.host import Host
from testkit.quiet_host import quiet_host

from . import ROOT
from .arms import PIXELS, SAMPLING, PromptGraph
from .quality import through, weights_hash
from .statistics import interval, resamples

MULTIPLE = ("overlap", "activation", "success", "composition")
SINGLE = ("success", "realism")
TEMPLATES = """a photo of a {a} and a {b}
a {a} and a {b} on the grass
a {a}, a {b} and a {c}
a {a} above a {b}"""
TRAINING = {
    "prompt": "",
    "objects": "",
    "batch": 4,
    "seed": 0,
    "norm": True,
    "norm_weight": 0.5,
    "overlap": "pairs",
    "resolution": PIXELS,
    "downsample": 0,
    "layers": "all",
    "rank": 0,
    "checkpointing": False,
    "dtype": "model",
    "checkpoint_every": 0,
    "prefix": "loras/SepEn",
    "resume": "none",
}
GUIDANCE = {
    "scale": 20.0,
    "iterations": 1,
    "start": 0.0,
    "end": 0.5,
    "downsample": 0,
    "layers": "all",
}


@dataclass(frozen=True)
class Arm:
    """A way to finetune, by the weights of the losses, both 0 for none; or to guide with them."""

    name: str
    separate: float = 0.0
    enhance: float = 0.0
    guides: bool = False

    @property
    def trains(self) -> bool:
        """Tell whether there is anything to finetune."""
        return not self.guides and self.separate + self.enhance > 0

    @property
    def losses(self) -> dict[str, float]:
        """Return the weights as the nodes' inputs."""
        return {"separate": self.separate, "enhance": self.enhance}


BEFORE, AFTER = Arm("before"), Arm("both", 1.0, 0.5)
ARMS = (
    BEFORE,
    Arm("separate only", 1.0, 0.0),
    Arm("enhance only", 0.0, 0.5),
    AFTER,
    Arm("guidance", 1.0, 0.5, True),
)


class Studio:
    """Finetunes and draws in one ComfyUI."""

    def __init__(self, host: Host, options: argparse.Namespace) -> None:
        self.host = host
        self.training = {"steps": options.steps, "learning_rate": options.learning_rate}
        graph = Graph()
        models = graph.add("RealCompoDemoModels", style="photo")
        vae = host.run(graph, vae=models[2])["vae"]
        self.realism = Realism(lambda pictures: through(vae, pictures))

    def finetune(self, arm: Arm) -> str:
        """Train an arm's model, and return the report; from then on the arm draws with it."""
        graph = Graph()
        models = graph.add("RealCompoDemoModels", style="photo")
        names = "\n".join(f"{colour} {shape}" for colour, shape in TRAINING_PAIRS)
        concepts = graph.add("SepEnConcepts", concepts=names, templates=TEMPLATES, attributes="")[0]
        inputs = TRAINING | self.training | arm.losses | {"concepts": concepts}
        trained = graph.add("SepEnTrain", model=models[0], clip=models[1], **inputs)
        out = self.host.run(graph, model=trained[0], report=trained[3])
        self.host.functions[arm.name] = lambda _: out["model"]
        return out["report"]

    def model(self, graph: PromptGraph, arm: Arm) -> list:
        """Return the model that an arm draws with."""
        if arm.guides:
            return graph.add("SepEnGuidance", model=graph.model, **GUIDANCE | arm.losses)[0]
        if arm.trains:
            return graph.add("TestApply", value=graph.model, function=arm.name)[0]
        return graph.model

    def scores(self, prompt: Prompt, arm: Arm, seed: int) -> dict[str, float]:
        """Draw one picture, and return everything that is measured of it."""
        graph = PromptGraph(prompt, seed)
        watched = graph.add(
            "RealCompoAttentionCapture",
            model=self.model(graph, arm),
            conditioning=graph.text,
            downsample=0,
            layers="all",
        )
        sampled = graph.add(
            "KSampler",
            model=watched[0],
            positive=graph.text,
            negative=graph.negative,
            latent_image=graph.latent,
            seed=seed,
            **SAMPLING,
        )
        out = self.host.run(graph, pictures=graph.picture(sampled[0]), maps=watched[1])
        picture = out["pictures"].movedim(-1, 1)[0]
        verdict = judge(prompt, read(picture))
        drawn = {
            "success": verdict.success,
            "composition": verdict.composition,
            "realism": self.realism.score(picture),
        }
        return drawn | attention(out["maps"])


def attention(trace: Trace) -> dict[str, float]:
    """Return overlap and activation, each the mean over the steps of a run."""
    maps = [reading.attention for step in trace.steps for reading in step.readings["model"]]
    overlaps = [float(separate_loss(own).mean()) for own in maps if own.shape[1] > 1]
    activations = [float(activation(own).amin(1).mean()) for own in maps]
    overlap = float(np.mean(overlaps)) if overlaps else 0.0
    return {"overlap": overlap, "activation": float(np.mean(activations))}


def drawn(split: str, count: int, objects: range) -> list[Prompt]:
    """Return the split's first prompts with that many objects, all of different kinds."""
    found = []
    for prompt in prompts(split, 40 * count):
        things = prompt.scene.things
        if len(things) in objects and len({thing.kind for thing in things}) == len(things):
            found.append(prompt)
    return found[:count]


def table(scores: dict[str, list[dict[str, float]]], measures: Sequence[str]) -> dict[str, dict]:
    """Return each scored arm's means with intervals, and its change from ``before`` by prompt."""
    draws = resamples(len(scores[BEFORE.name]))
    before = columns(scores[BEFORE.name], measures)
    rows = {arm: columns(found, measures) for arm, found in scores.items() if found}
    return {arm: row(found, before, draws) for arm, found in rows.items()}


def columns(rows: list[dict[str, float]], measures: Sequence[str]) -> dict[str, np.ndarray]:
    """Return rows of numbers as an array for each measure."""
    values = {}
    for measure in measures:
        values[measure] = np.array([row[measure] for row in rows])
    return values


def row(
    found: dict[str, np.ndarray], before: dict[str, np.ndarray], draws: np.ndarray
) -> dict[str, Any]:
    """Return means and changes of one arm, with intervals."""
    out: dict[str, Any] = {name: round(float(v.mean()), 4) for name, v in found.items()}
    out["ci"] = {name: interval(v[draws].mean(-1)) for name, v in found.items()}
    moved = {name: v - before[name] for name, v in found.items()}
    out["change"] = {name: round(float(v.mean()), 4) for name, v in moved.items()}
    out["change_ci"] = {name: interval(v[draws].mean(-1)) for name, v in moved.items()}
    return out


def show(title: str, rows: dict[str, dict], measures: Sequence[str]) -> None:
    """Print a table: means, and in brackets the interval of the change against ``before``."""
    print(f"\n{title:16s}" + "".join(f"{m:>26s}" for m in measures))
    for arm, row in rows.items():
        print(f"{arm:16s}" + "".join(f"{_cell(row, measure):>26s}" for measure in measures))


def _cell(row: dict, measure: str) -> str:
    low, high = row["change_ci"][measure]
    return f"{row[measure]:.3f} [{low:+.3f} {high:+.3f}]"


def measure(host: Host, options: argparse.Namespace) -> dict[str, Any]:
    """Train every arm, draw everything, and tabulate."""
    studio = Studio(host, options)
    multiple = drawn(options.split, options.prompts, range(2, 5))
    single = drawn(options.split, options.singles, range(1, 2))
    several: dict[str, list] = {}
    alone: dict[str, list] = {}
    for arm in ARMS:
        print(f"{arm.name}\n{studio.finetune(arm) if arm.trains else ''}", flush=True)
        several[arm.name] = [studio.scores(prompt, arm, i) for i, prompt in enumerate(multiple)]
        if not arm.guides:
            alone[arm.name] = [studio.scores(prompt, arm, i) for i, prompt in enumerate(single)]
    ablation, kept = table(several, MULTIPLE), table(alone, SINGLE)
    show(f"{len(multiple)} prompts", ablation, MULTIPLE)
    show(f"{len(single)} of one object", kept, SINGLE)
    return {
        "before": ablation[BEFORE.name],
        "after": ablation[AFTER.name],
        "ablation": ablation,
        "single": kept,
        "split": options.split,
        "weights": weights_hash(),
        "training": TRAINING | studio.training,
        "prompts": {"count": len(multiple), "hash": digest(multiple)},
    }


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=60, help="with several objects")
    parser.add_argument("--singles", type=int, default=30, help="prompts with one object")
    parser.add_argument("--split", choices=("development", "held-out"), default="held-out")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "bench" / "sepen.json")
    return parser.parse_args()


def main() -> None:
    """Measure, print and write the report."""
    options = arguments()
    torch.set_num_threads(1)  # sums in one order: the same scores every time
    with quiet_host() as host:
        report = measure(host, options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\nweights {report['weights']}, prompts {report['prompts']}; {options.output}")


if __name__ == "__main__":
    main()
