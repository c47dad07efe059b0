"""What the toy world's models can do: objects drawn and placed by number, attention at mid noise, loading and speed.

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

from demo.judging.questions import Prompt, prompts
from demo.toy.paint import paint
from testkit.quiet_host import quiet_host

from . import ROOT
from .arms import SAMPLING, Arm, Bench
from .quality import Studio, weights_hash

BRANCHES = {
    "text": ("text", "photo"),
    "control": ("spatial", "flat"),
    "gligen": ("spatial", "flat"),
}
MID_NOISE = 0.5  # of the schedule


def drawn(host: Any, of: list[Prompt], branch: str) -> dict[int, dict[str, float]]:
    """Success and share of objects in their boxes, by number of objects, of one branch alone."""
    kind, _ = BRANCHES[branch]
    studio, found = (
        Studio(host, spatial="control" if branch == "text" else branch),
        defaultdict(list),
    )
    for seed, prompt in enumerate(of):
        found[len(prompt.scene.things)] += studio.scores(prompt, Arm(branch, stock=kind), seed)
    return {
        count: {
            "pictures": len(scores),
            **{
                name: round(mean(s[name] for s in scores), 3)
                for name in ("success", "placed", "realism")
            },
        }
        for count, scores in sorted(found.items())
    }


def attention(host: Any, of: list[Prompt], branch: str) -> float:
    """Mean share of an object's attention inside its box, in true scenes of the branch's look at mid noise."""
    kind, look = BRANCHES[branch]
    shares = []
    for seed, prompt in enumerate(of):
        bench = Bench(prompt, seed, spatial="control" if branch == "text" else branch)
        picture = F.interpolate(
            paint([prompt.scene], look, torch.Generator().manual_seed(seed)), scale_factor=2
        )
        host.functions["picture"] = lambda _, picture=picture: picture.movedim(1, -1)
        image = bench.add("TestApply", value=bench.vae, function="picture")[0]
        latent = bench.add("VAEEncode", pixels=image, vae=bench.vae)[0]
        positive = getattr(bench, kind)
        watched = bench.add(
            "RealCompoAttentionCapture",
            model=bench.model,
            conditioning=positive,
            downsample=0,
            layers="all",
        )
        once = SAMPLING | {"steps": 1, "cfg": 1.0, "denoise": MID_NOISE, "seed": seed}
        sampled = bench.add(
            "KSampler",
            model=watched[0],
            positive=positive,
            negative=bench.negative,
            latent_image=latent,
            **once,
        )
        host.forget()  # the picture is not part of the graph's key
        maps = host.run(bench, latent=sampled[0], maps=watched[1])["maps"]
        shares.append(1 - float(maps.steps[0].readings["model"][0].losses.mean()))
    return round(mean(shares), 3)


def timed(host: Any, prompt: Prompt) -> dict[str, float]:
    """Seconds to load all weights, and of one dynamic run of 25 steps."""
    host.forget()
    bench = Bench(prompt, 0)
    started = time.perf_counter()
    host.run(bench, model=bench.model)
    loaded = time.perf_counter()
    host.run(bench, latent=bench.sample(Arm("dynamic")))
    return {
        "load": round(loaded - started, 2),
        "dynamic run": round(time.perf_counter() - loaded, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=120)
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "bench" / "toy.json")
    options = parser.parse_args()
    of = prompts("held-out", options.prompts)
    with quiet_host() as host:
        report: dict[str, Any] = {
            "weights": weights_hash(),
            "prompts": len(of),
            "seconds": timed(host, of[0]),
        }
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
