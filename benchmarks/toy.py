"""What the toy world's models can do: objects drawn and placed, attention at mid noise, speed.

``python -m benchmarks.toy [--prompts 120]``, on held-out prompts, through real nodes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import torch.nn.functional as F

from demo.judging.prompts import Prompt, prompts
from demo.toy.paint import paint
from testkit.quiet_host import quiet_host

from . import ROOT
from .arms import Arm, PromptGraph
from .quality import Studio, weights_hash

BRANCHES: dict[str, tuple[str, str, dict[str, Any]]] = {
    # by model, the branch that it is, the look that it was trained on, and its graph's
    "text": ("text", "photo", {}),
    "control": ("spatial", "flat", {}),
    "gligen": ("spatial", "flat", {"spatial": "gligen"}),
    "transformer": ("text", "photo", {"spatial": "", "base": "transformer"}),
}
MEASURES = ("success", "placed", "realism")
MID_NOISE = 0.5  # of the schedule


def drawn(host: Any, of: list[Prompt], branch: str) -> dict[int, dict[str, float]]:
    """Score pictures of one branch alone, by number of objects."""
    kind, _, setup = BRANCHES[branch]
    arm, studio = Arm(branch, stock=kind), Studio(host, **setup)
    found: dict[int, list[dict]] = defaultdict(list)
    for seed, prompt in enumerate(of):
        found[len(prompt.scene.things)] += studio.scores(prompt, arm, seed)
    return {count: _means(scores) for count, scores in sorted(found.items())}


def _means(scores: list[dict]) -> dict[str, float]:
    means: dict[str, float] = {"pictures": len(scores)}
    for name in MEASURES:
        means[name] = round(mean(score[name] for score in scores), 3)
    return means


def attention(host: Any, of: list[Prompt], branch: str) -> float:
    """Return the mean share of an object's attention inside its box, at mid noise.

    It is read in true scenes of the branch's look.
    """
    shares = [inside(host, prompt, branch, seed) for seed, prompt in enumerate(of)]
    return round(mean(shares), 3)


def inside(host: Any, prompt: Prompt, branch: str, seed: int) -> float:
    """Return that share for one scene."""
    kind, look, setup = BRANCHES[branch]
    small = paint([prompt.scene], look, torch.Generator().manual_seed(seed))
    picture = F.interpolate(small, scale_factor=2).movedim(1, -1)
    host.functions["picture"] = lambda _: picture
    graph = PromptGraph(prompt, seed, **setup)
    image = graph.add("TestApply", value=graph.vae, function="picture")[0]
    latent = graph.add("VAEEncode", pixels=image, vae=graph.vae)[0]
    positive = getattr(graph, kind)
    watched = graph.add(
        "RealCompoAttentionCapture",
        model=graph.model,
        conditioning=positive,
        downsample=0,
        layers="all",
    )
    once = {"steps": 1, "cfg": 1.0, "denoise": MID_NOISE, "seed": seed}
    prompts = {"positive": positive, "negative": graph.negative}
    sampling = {**graph.base.sampling, **once}
    sampled = graph.add("KSampler", model=watched[0], latent_image=latent, **prompts, **sampling)
    host.forget()  # the picture is not part of the graph's key
    maps = host.run(graph, latent=sampled[0], maps=watched[1])["maps"]
    return 1 - float(maps.steps[0].readings["model"][0].losses.mean())


def timed(host: Any, prompt: Prompt) -> dict[str, float]:
    """Time loading all weights, and one dynamic run of 25 steps."""
    host.forget()
    graph = PromptGraph(prompt, 0)
    started = time.perf_counter()
    host.run(graph, model=graph.model)
    loaded = time.perf_counter()
    host.run(graph, latent=graph.sample(Arm("dynamic")))
    sampled = time.perf_counter()
    return {"load": round(loaded - started, 2), "dynamic run": round(sampled - loaded, 2)}


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=120)
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "bench" / "toy.json")
    options = parser.parse_args()
    of = prompts("held-out", options.prompts)
    with quiet_host() as host:
        report: dict[str, Any] = {"weights": weights_hash("transformer"), "prompts": len(of)}
        report["seconds"] = timed(host, of[0])
        for branch in BRANCHES:
            report[branch] = {
                "by objects": drawn(host, of, branch),
                "attention inside": attention(host, of[:40], branch),
            }
            print(branch, json.dumps(report[branch], indent=1))
    print("seconds", report["seconds"])
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
