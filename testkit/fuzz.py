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
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from .controls import CONTROLS
from .host import Host, PromptError
from .live_run import relative
from .random_models import small_model
from .scene import Scene
from .stand_ins import NODES, STAND_INS, patched

CLOSE = 1e-2  # relative: what rounding may come to over a run
FROZEN = {"step_scale": 0.0, "release": 0.0, "guidance": 0.0, "prior": 0.0}
TOO_SLOW = ("dpm_adaptive",)  # chooses its own number of steps
# What stock samples to noise without numbers, and a RealCompo node refuses by name.
REFUSED = ("noise levels that are numbers", "finite predictions", "a finite latent")


@dataclass(frozen=True)
class Case:
    """What a graph is made of. The defaults are the simplest graph."""

    family: str = "small"
    sampler: str = "euler"
    scheduler: str = "normal"
    steps: int = 2
    denoise: float = 1.0
    cfg: float = 4.0
    width: int = 64
    height: int = 64
    batch: int = 1
    masked: bool = False
    gligen: bool = False
    control: str = ""
    text_patch: str = ""
    spatial_patch: str = ""
    shared: bool = True  # the spatial branch has the text branch's model
    text_conditioning: str = "plain"
    spatial_conditioning: str = "plain"
    recipe: str = "balanced"
    online: bool = True

    def __str__(self) -> str:
        """What differs from the simplest graph."""
        simplest = Case()
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        changed = {k: v for k, v in named.items() if v != getattr(simplest, k)}
        return ", ".join(f"{name}={value!r}" for name, value in changed.items()) or "simplest"


class Failure(AssertionError):
    """What does not hold of a graph."""


def choices(families: Sequence[str]) -> dict[str, list[Any]]:
    """Return what each part of a case may be."""
    from comfy.samplers import KSampler

    samplers = [name for name in KSampler.SAMPLERS if name not in TOO_SLOW]
    patches = ["", "", *STAND_INS, *NODES]
    conditionings = ["plain", "plain", *CONDITIONINGS]
    return {
        "family": list(families),
        "sampler": samplers,
        "scheduler": KSampler.SCHEDULERS,
        "steps": [1, 2, 3, 4],
        "denoise": [1.0, 1.0, 0.6],
        "cfg": [1.0, 4.0, 7.5],
        "width": [64, 64, 40, 96],
        "height": [64, 64, 48],
        "batch": [1, 1, 2],
        "masked": [False, False, True],
        "gligen": [False, True],
        "control": ["", "", "", *CONTROLS],
        "text_patch": patches,
        "spatial_patch": patches,
        "shared": [True, False],
        "text_conditioning": conditionings,
        "spatial_conditioning": conditionings,
        "recipe": ["balanced", "balanced", "paper", "official"],
        "online": [True, False],
    }


def draw(seed: int, families: Sequence[str]) -> Case:
    """Return the case of a seed, of parts that go together."""
    random = Random(seed)
    drawn = {name: random.choice(values) for name, values in choices(families).items()}
    case = Case(**drawn)
    if case.family == "small":
        case = replace(case, control="")  # its blocks are fewer than a ControlNet's
    if case.family not in ("small", "sd1") or case.control:
        case = replace(case, gligen=False)
    if case.family not in ("small", "sd1"):
        case = replace(case, control="")
    if case.shared:
        case = replace(case, spatial_patch="")
    if case.spatial_conditioning == "area":
        case = replace(case, gligen=False)  # stock places its boxes elsewhere
    return case


# Conditionings: what is done to one on its way to the sampler.


def area(scene: Scene, found: list) -> list:
    share = {"width": 0.5, "height": 1.0, "x": 0.5, "y": 0.0, "strength": 1.0}
    half = scene.add("ConditioningSetAreaPercentage", conditioning=found, **share)[0]
    return combined(scene, half, scene.negative)


def ranged(scene: Scene, found: list) -> list:
    """One prompt for the first half of the steps, another one for the rest."""
    first = scene.add("ConditioningSetTimestepRange", conditioning=found, start=0.0, end=0.5)[0]
    rest = scene.add("CLIPTextEncode", clip=scene.clip, text="a red cube on a table")[0]
    last = scene.add("ConditioningSetTimestepRange", conditioning=rest, start=0.5, end=1.0)[0]
    return combined(scene, first, last)


def masked(scene: Scene, found: list) -> list:
    mask = scene.add("SolidMask", value=0.7, width=64, height=64)[0]
    inputs = {"strength": 0.8, "set_cond_area": "default", "mask": mask}
    return scene.add("ConditioningSetMask", conditioning=found, **inputs)[0]


def longer(scene: Scene, found: list) -> list:
    other = scene.add("CLIPTextEncode", clip=scene.clip, text="a photo of a street in the rain")[0]
    inputs = {"conditioning_to": found, "conditioning_from": other}
    return scene.add("ConditioningConcat", **inputs)[0]


def combined(scene: Scene, one: list, other: list) -> list:
    return scene.add("ConditioningCombine", conditioning_1=one, conditioning_2=other)[0]


CONDITIONINGS = {"area": area, "ranged": ranged, "masked": masked, "longer": longer}


class Graph:
    """The graph of a case, on a host."""

    def __init__(self, host: Host, case: Case) -> None:
        host.forget()  # patches of other cases, and what they remember
        self.host, self.case, self.runs = host, case, 0
        self.scene = self._scene()
        if case.control:
            CONTROLS[case.control](host, self.scene)
        self.text = self._changed(self.scene.text, case.text_conditioning)
        self.spatial = self._changed(self.scene.spatial, case.spatial_conditioning)
        self.text_model = self._model(case.text_patch)
        self.spatial_model = self.text_model if case.shared else self._model(case.spatial_patch)
        if case.masked:
            mask = self.scene.add("SolidMask", value=1.0, width=32, height=64)[0]
            canvas = self.scene.add("SolidMask", value=0.0, width=64, height=64)[0]
            place = {"destination": canvas, "source": mask, "x": 0, "y": 0, "operation": "add"}
            half = self.scene.add("MaskComposite", **place)[0]
            inputs = {"samples": self.scene.latent, "mask": half}
            self.scene.latent = self.scene.add("SetLatentNoiseMask", **inputs)[0]

    def stock(self, side: str) -> Tensor:
        """Return the stock sampler's latent on a branch."""
        text = side == "text"
        positive, model = (
            (self.text, self.text_model) if text else (self.spatial, self.spatial_model)
        )
        return self._run(self.scene.stock(positive, model, **self._sampling()))[0]

    def ours(self, **settings: Any) -> tuple[Tensor, Any]:
        """Return RealCompo's latent and trace."""
        inputs = {
            "model": self.text_model,
            "spatial_model": self.spatial_model,
            "positive": self.text,
            "spatial_positive": self.spatial,
        }
        return self._run(self.scene.realcompo(settings, **inputs, **self._sampling()), trace=True)

    def _run(self, links: Any, trace: bool = False) -> tuple[Tensor, Any]:
        torch.manual_seed(3)  # what a model draws besides must not depend on earlier runs
        wanted = {"latent": links[0]} | ({"trace": links[1]} if trace else {})
        out = self.host.run(self.scene, **wanted)
        return out["latent"]["samples"], out.get("trace")

    def _scene(self) -> Scene:
        case = self.case
        size: dict[str, Any] = {"width": case.width, "height": case.height, "batch": case.batch}
        if case.family != "small":
            scene = Scene.of(case.family, **size)
            return scene
        scene = Scene(**size, gligen=case.gligen)
        self.host.functions["small"] = lambda _: small_model()
        scene.model = scene.apply(scene.latent, "small")
        if not case.gligen:
            text = {"clip": scene.clip, "text": "a drawing of a red cube and a blue ball"}
            layout = {"layout": scene.layout}
            scene.spatial = scene.add("RealCompoLayoutConditioning", **text, **layout)[1]
        return scene

    def _changed(self, found: list, how: str) -> list:
        return CONDITIONINGS[how](self.scene, found) if how in CONDITIONINGS else found

    def _model(self, patch: str) -> list:
        model = self.scene.model
        return patched(self.host, self.scene, model, patch) if patch else model

    def _sampling(self) -> dict[str, Any]:
        case = self.case
        names = {"sampler_name": case.sampler, "scheduler": case.scheduler}
        numbers = {"steps": case.steps, "denoise": case.denoise, "cfg": case.cfg}
        return names | numbers | {"latent_image": self._latent()}

    def _latent(self) -> list:
        """The latent from a node of its own, so that the host does not take a run for another."""
        self.runs += 1
        name = f"run {self.runs}"
        self.host.functions[name] = lambda latent: latent
        return self.scene.apply(self.scene.latent, name)


def check(host: Host, case: Case) -> str:
    """Hold a case's graph against the stock sampler; say what was left out.

    Raises :class:`Failure` for what does not hold.
    """
    graph = Graph(host, case)
    try:
        stock = {side: graph.stock(side) for side in ("text", "spatial")}
        again = {side: graph.stock(side) for side in ("text", "spatial")}
    except PromptError as error:
        return f"stock fails: {error}"
    if not all(latent.isfinite().all() for latent in stock.values()):
        return "stock is not finite"
    if not all(torch.equal(stock[side], again[side]) for side in stock):
        return "stock depends on the run before"  # a patch keeps its state
    try:
        _check_sides(graph, stock)
        _check_dynamic(graph)
    except PromptError as error:
        if any(part in str(error) for part in REFUSED):
            return f"refused: {error}"
        raise Failure(f"stock runs, and RealCompo fails: {error}") from error
    if not torch.equal(graph.stock("text"), stock["text"]):
        raise Failure("a stock run afterwards is another one")
    return ""


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
    fixed, _ = graph.ours(mode="fixed", text_weight=0.5)
    frozen, _ = graph.ours(online=case.online, **FROZEN)
    if relative(frozen, fixed) > CLOSE:
        raise Failure(f"frozen is not fixed: {relative(frozen, fixed):.3g} apart, relative")
    moved, trace = graph.ours(recipe=case.recipe, online=case.online, step_scale=1e-2, warmup=0.3)
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
    parser.add_argument("--families", default="small,small,small,sd1,sd2 v,sdxl,zero snr,lcm")
    parser.add_argument("--keep-going", action="store_true", help="try all seeds all the same")
    options = parser.parse_args()
    families, failed = options.families.split(","), 0
    with tempfile.TemporaryDirectory() as folder:
        host = Host(Path(folder))
        logging.disable(logging.ERROR)
        for seed in range(options.first, options.first + options.seeds):
            case = draw(seed, families)
            print(f"seed {seed}: {case}", flush=True)
            try:
                left_out = check(host, case)
            except Failure as failure:
                failed += 1
                smallest, told = shrink(host, case, str(failure))
                print(f"  FAILS: {failure}\n  smallest: {smallest}\n  which: {told}", flush=True)
                if not options.keep_going:
                    break
                continue
            if left_out:
                print(f"  {left_out.splitlines()[0][:150]}", flush=True)
        host.close()
    print(f"{failed} of {options.seeds} fail")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
