"""Random graphs, each held against the stock sampler: ``python -m testkit.fuzz --help``.

Of each graph it must hold that

- the modes of one branch are the stock sampler on that branch, bit for bit;
- so is the mode fixed at weight 1 and 0;
- a balance that is read for but never moved is the fixed one, to rounding;
- a dynamic run is finite and has a trace;
- a stock run afterwards is the same as before.

A graph that fails is made smaller as long as it still fails.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from .bare_scene import FAMILIES, TRANSFORMERS
from .fuzz_graph import CONDITIONINGS, CONTROLLED, CONTROLS, FILES, NEGATIVES, Case, Graph
from .host import Host, PromptError
from .live_run import relative
from .stand_ins import MORE_NODES, NODES, OTHERWISE_BATCHED, STAND_INS

CLOSE = 1e-2  # relative: what rounding may come to over a run
FROZEN = {"step_scale": 0.0, "release": 0.0, "guidance": 0.0, "prior": 0.0}
TOO_SLOW = ("dpm_adaptive",)  # chooses its own number of steps
# What stock samples to noise without numbers, and a RealCompo node refuses by name.
REFUSED = (
    "noise levels that are numbers",
    "finite predictions",
    "a finite latent",
    "leaves the inpainting mask",
    "sampling type",
)
SCHEDULING = ("ModelSamplingContinuousEDM", "ModelSamplingDiscrete")
MASKING = "DifferentialDiffusion"
WEIGHTED = [*FAMILIES, "sd1", "sd1", "sdxl", "sd2 v", FILES]


class Failure(AssertionError):
    """What does not hold of a graph."""


def choices(host: Host, families: Sequence[str]) -> dict[str, list[Any]]:
    """Return what each part of a case may be."""
    from comfy.samplers import KSampler

    nodes = [name for name in (*NODES, *MORE_NODES) if name in host.nodes]
    patches = ["", *STAND_INS, *OTHERWISE_BATCHED, *nodes]
    patches += [""] * (len(patches) // 2)
    return {
        "family": list(families),
        "sampler": [name for name in KSampler.SAMPLERS if name not in TOO_SLOW],
        "scheduler": list(KSampler.SCHEDULERS),
        "steps": [1, 2, 2, 3],
        "denoise": [1.0, 1.0, 0.6],
        "cfg": [1.0, 4.0, 7.5],
        "width": [64, 64, 40, 96],
        "height": [64, 64, 48],
        "batch": [1, 1, 2],
        "masked": [False, False, True],
        "gligen": [False, True],
        "control": ["", "", *CONTROLS],
        "text_patch": patches,
        "spatial_patch": patches,
        "shared": [True, False],
        "text_conditioning": ["plain", "plain", *CONDITIONINGS],
        "spatial_conditioning": ["plain", "plain", *CONDITIONINGS],
        "negative": ["plain", "plain", *NEGATIVES],
        "recipe": ["balanced", "balanced", "paper", "official"],
        "online": [True, False],
        "checkpointing": [False, False, True],
    }


def draw(host: Host, seed: int, families: Sequence[str] = WEIGHTED) -> Case:
    """Return the case of a seed, of parts that go together."""
    random = Random(seed)
    drawn = {name: random.choice(values) for name, values in choices(host, families).items()}
    case = Case(**drawn)
    if case.family not in CONTROLLED:
        case = replace(case, control="")
    if case.family != FILES or case.spatial_conditioning == "area":  # stock places boxes elsewhere
        case = replace(case, gligen=False)
    if case.family in TRANSFORMERS:  # of which a tiny one has a size of its own
        case = replace(case, width=64, height=64)
    return _of_one_sampler(case)


def _of_one_sampler(case: Case) -> Case:
    """The case without what makes the sampler itself another one on one branch alone.

    The sampler is the text branch's: its noise levels, and its changes of the inpainting mask.
    """
    if case.shared:
        return replace(case, spatial_patch="")
    for patch in SCHEDULING:
        if patch in (case.text_patch, case.spatial_patch):
            return replace(case, shared=True, text_patch=patch, spatial_patch="")
    if case.text_patch == MASKING:
        return replace(case, masked=False)
    return case


def check(host: Host, case: Case) -> str:
    """Hold a case's graph against the stock sampler; say what was left out.

    Raises :class:`Failure` for what does not hold.
    """
    try:
        graph = Graph(host, case)
        stock = {side: graph.stock(side) for side in ("text", "spatial")}
    except PromptError as error:
        return f"stock fails: {error}"
    if not all(latent.isfinite().all() for latent in stock.values()):
        return "stock is not finite"
    try:
        _check_sides(graph, stock)
        _check_dynamic(graph)
        _check_after(graph, stock)
    except PromptError as error:
        if any(part in str(error) for part in REFUSED):
            return f"refused: {error}"
        raise Failure(f"stock runs, and RealCompo fails: {error}") from error
    except Failure:
        if _stock_varies(host, case):
            return "stock depends on the run before"  # a patch keeps its state
        raise
    return ""


def _check_after(graph: Graph, stock: dict[str, Tensor]) -> None:
    if not torch.equal(graph.stock("text"), stock["text"]):
        raise Failure("a stock run afterwards is another one")


def _stock_varies(host: Host, case: Case) -> bool:
    """Whether stock itself makes another picture of a graph the second time."""
    graph = Graph(host, case)
    sides = ["text", "spatial"] * 2
    found = [graph.stock(side) for side in sides]
    return not (torch.equal(found[0], found[2]) and torch.equal(found[1], found[3]))


def _check_sides(graph: Graph, stock: dict[str, Tensor]) -> None:
    for side, weight in (("text", 1.0), ("spatial", 0.0)):
        ways = {f"{side} only": {"mode": f"{side} only"}}
        ways[f"fixed {weight:g}"] = {"mode": "fixed", "text_weight": weight}
        for name, settings in ways.items():
            difference = float((graph.ours(**settings)[0] - stock[side]).abs().max())
            if difference:
                raise Failure(f"{name} is not stock {side}: {difference:.3g} apart")


def _check_dynamic(graph: Graph) -> None:
    case = graph.case
    how = {"online": case.online, "checkpointing": case.checkpointing}
    fixed, _ = graph.ours(mode="fixed", text_weight=0.5)
    frozen, _ = graph.ours(**how, **FROZEN)
    if relative(frozen, fixed) > CLOSE:
        raise Failure(f"frozen is not fixed: {relative(frozen, fixed):.3g} apart, relative")
    moved, trace = graph.ours(recipe=case.recipe, step_scale=1e-2, warmup=0.3, **how)
    if not moved.isfinite().all() or not trace.steps:
        raise Failure("a dynamic run is not finite, or without a trace")


def shrink(host: Host, case: Case, told: str) -> tuple[Case, str]:
    """Return the smallest case that still fails, and how it does."""
    simplest, again = Case(), True
    while again:
        again = False
        for part in fields(case):
            simpler = replace(case, **{part.name: getattr(simplest, part.name)})
            found = None if simpler == case else failure_of(host, simpler)
            if found is not None:
                case, told, again = simpler, found, True
    return case, told


def failure_of(host: Host, case: Case) -> str | None:
    """Return what does not hold of a case, if anything."""
    try:
        check(host, case)
    except Failure as failure:
        return str(failure)
    return None


def main() -> int:
    """Try seeds; the exit status is 1 where one of them fails."""
    parser = argparse.ArgumentParser(description="Random graphs against the stock sampler.")
    parser.add_argument("--seeds", type=int, default=100, help="how many graphs")
    parser.add_argument("--first", type=int, default=0, help="the first one's seed")
    parser.add_argument("--families", default=",".join(WEIGHTED), help="as often as named")
    parser.add_argument("--keep-going", action="store_true", help="try all seeds all the same")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        host = Host(Path(folder))
        logging.disable(logging.ERROR)
        seeds = range(options.first, options.first + options.seeds)
        found = _try(host, seeds, options.families.split(","), options.keep_going)
        host.close()
    print(", ".join(f"{count} {outcome}" for outcome, count in found.most_common()))
    return min(found["failed"], 1)


def _try(host: Host, seeds: range, families: list[str], keep_going: bool) -> Counter[str]:
    """Check every seed's case, and print each; count what came of them."""
    found: Counter[str] = Counter()
    for seed in seeds:
        case = draw(host, seed, families)
        print(f"seed {seed}: {case}", flush=True)
        try:
            left_out = check(host, case)
        except Failure as failure:
            found["failed"] += 1
            smallest, told = shrink(host, case, str(failure))
            print(f"  FAILS: {failure}\n  smallest: {smallest}\n  which: {told}", flush=True)
            if not keep_going:
                break
            continue
        found[left_out.partition(":")[0] or "held"] += 1
        if left_out:
            print(f"  {left_out.splitlines()[0][:150]}", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
