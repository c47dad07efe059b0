"""Does Separate-and-Enhance help? Attention and success before and after finetuning, on prompts that it never saw.

``python -m benchmarks.sepen [--prompts 60] [--steps 200]``, with ComfyUI at COMFYUI_PATH. The demo's models are
finetuned by SepEn Train on a concept list without the split's own kinds of objects, with each loss alone and with
both, or guided by SepEn Guidance, and draw the same prompts with the same noise. Overlap is the separate loss and
activation the strongest attention of the weakest object, each the mean over a run's steps.
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
from demo.judging.questions import Prompt, digest, judge, prompts
from demo.judging.realism import Realism
from demo.toy.picture import TRAINING_PAIRS
from realcompo_core.sampling.losses import activation, separate_loss
from realcompo_core.sampling.trace import Trace
from testkit.graph import Graph
from testkit.host import Host
from testkit.quiet_host import quiet_host

from . import ROOT
from .arms import PIXELS, SAMPLING, Bench
from .quality import through, weights_hash
from .statistics import interval, resamples

MULTIPLE = ("overlap", "activation", "success", "composition")
SINGLE = ("success", "realism")
TEMPLATES = "a photo of a {a} and a {b}\na {a} and a {b} on the grass\na {a}, a {b} and a {c}\na {a} above a {b}"
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
    """A way to finetune: the weights of the two losses, both 0 for none; or to guide with them."""

    name: str
    separate: float = 0.0
    enhance: float = 0.0
    guides: bool = False

    @property
    def trains(self) -> bool:
        return not self.guides and self.separate + self.enhance > 0


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
        self.host, self.training = (
            host,
            {"steps": options.steps, "learning_rate": options.learning_rate},
        )
        vae = host.run(graph := Graph(), vae=graph.add("RealCompoDemoModels", style="photo")[2])[
            "vae"
        ]
        self.realism = Realism(lambda pictures: through(vae, pictures))

    def finetune(self, arm: Arm) -> str:
        """Train an arm's model, and return the report; from then on the arm draws with it."""
        graph = Graph()
        models = graph.add("RealCompoDemoModels", style="photo")
        names = "\n".join(f"{colour} {shape}" for colour, shape in TRAINING_PAIRS)
        concepts = graph.add("SepEnConcepts", concepts=names, templates=TEMPLATES, attributes="")[0]
        losses = {"separate": arm.separate, "enhance": arm.enhance}
        inputs = TRAINING | self.training | losses
        trained = graph.add(
            "SepEnTrain", model=models[0], clip=models[1], concepts=concepts, **inputs
        )
        out = self.host.run(graph, model=trained[0], report=trained[3])
        self.host.functions[arm.name] = lambda _: out["model"]
        return out["report"]

    def model(self, bench: Bench, arm: Arm) -> list:
        """The model that an arm draws with."""
        if arm.guides:
            losses = {"separate": arm.separate, "enhance": arm.enhance}
            return bench.add("SepEnGuidance", model=bench.model, **GUIDANCE | losses)[0]
        return (
            bench.add("TestApply", value=bench.model, function=arm.name)[0]
            if arm.trains
            else bench.model
        )

    def scores(self, prompt: Prompt, arm: Arm, seed: int) -> dict[str, float]:
        """Everything that is measured of one picture."""
        bench = Bench(prompt, seed)
        watched = bench.add(
            "RealCompoAttentionCapture",
            model=self.model(bench, arm),
            conditioning=bench.text,
            downsample=0,
            layers="all",
        )
        sampled = bench.add(
            "KSampler",
            model=watched[0],
            positive=bench.text,
            negative=bench.negative,
            latent_image=bench.latent,
            seed=seed,
            **SAMPLING,
        )
        out = self.host.run(bench, pictures=bench.picture(sampled[0]), maps=watched[1])
        picture = out["pictures"].movedim(-1, 1)[0]
        verdict = judge(prompt, read(picture))
        drawn = {
            "success": verdict.success,
            "composition": verdict.composition,
            "realism": self.realism.score(picture),
        }
        return drawn | attention(out["maps"])


def attention(trace: Trace) -> dict[str, float]:
    """Overlap and activation, each the mean over the steps of a run."""
    maps = [reading.attention for step in trace.steps for reading in step.readings["model"]]
    several = [m for m in maps if m.shape[1] > 1]
    overlap = float(np.mean([float(separate_loss(m).mean()) for m in several])) if several else 0.0
    return {
        "overlap": overlap,
        "activation": float(np.mean([float(activation(m).amin(1).mean()) for m in maps])),
    }


def drawn(split: str, count: int, objects: range) -> list[Prompt]:
    """The split's first prompts with that many objects, all of different kinds."""
    found = (p for p in prompts(split, 40 * count) if len(p.scene.things) in objects)
    return [p for p in found if len({t.kind for t in p.scene.things}) == len(p.scene.things)][
        :count
    ]


def table(scores: dict[str, list[dict[str, float]]], measures: Sequence[str]) -> dict[str, dict]:
    """Each arm's means with intervals, and how far it is from ``before``, prompt by prompt; arms without scores not."""
    draws = resamples(len(scores[BEFORE.name]))
    values = {
        arm: {m: np.array([row[m] for row in rows]) for m in measures}
        for arm, rows in scores.items()
        if rows
    }
    return {arm: row(found, values[BEFORE.name], draws) for arm, found in values.items()}


def row(
    found: dict[str, np.ndarray], before: dict[str, np.ndarray], draws: np.ndarray
) -> dict[str, Any]:
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
        cells = [
            f"{row[m]:.3f} [{row['change_ci'][m][0]:+.3f} {row['change_ci'][m][1]:+.3f}]"
            for m in measures
        ]
        print(f"{arm:16s}" + "".join(f"{cell:>26s}" for cell in cells))


def measure(host: Host, options: argparse.Namespace) -> dict[str, Any]:
    """Train every arm, draw everything, and tabulate."""
    studio = Studio(host, options)
    multiple, single = (
        drawn(options.split, options.prompts, range(2, 5)),
        drawn(options.split, options.singles, range(1, 2)),
    )
    found: dict[str, dict[str, list]] = {"multiple": {}, "single": {}}
    for arm in ARMS:
        print(f"{arm.name}\n{studio.finetune(arm) if arm.trains else ''}", flush=True)
        for kind, of in (("multiple", multiple), ("single", [] if arm.guides else single)):
            found[kind][arm.name] = [
                studio.scores(prompt, arm, seed) for seed, prompt in enumerate(of)
            ]
    ablation, kept = table(found["multiple"], MULTIPLE), table(found["single"], SINGLE)
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=60, help="with several objects")
    parser.add_argument("--singles", type=int, default=30, help="prompts with one object")
    parser.add_argument("--split", choices=("development", "held-out"), default="held-out")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "bench" / "sepen.json")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)  # sums in one order: the same scores every time
    with quiet_host() as host:
        report = measure(host, options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\nweights {report['weights']}, prompts {report['prompts']}; {options.output}")


if __name__ == "__main__":
    main()
