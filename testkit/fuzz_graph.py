"""The graph of a random case: two branches, what is done to each, and its stock runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import torch
from torch import Tensor

from . import tiny_unets
from .bare_scene import TRANSFORMERS, BareScene
from .controls import apply
from .graph import Links
from .host import Host
from .random_models import small_model
from .scene import Scene
from .stand_ins import patched

FILES = "files"  # models of the host's own loaders, with a text encoder and GLIGEN
JOINT_CONTROLS = {"flux": "flux union", "sd3": "sd3 instantx"}
CONTROLLED = (*tiny_unets.UNETS, *JOINT_CONTROLS)


# ControlNets, each on a branch, with settings.
CONTROLS: dict[str, list[tuple[str, dict[str, float]]]] = {
    "one": [("spatial", {})],
    "chained": [
        ("spatial", {"end_percent": 0.6}),
        ("spatial", {"strength": 0.5, "start_percent": 0.2}),
    ],
    "both branches": [("spatial", {}), ("text", {"strength": 0.4})],
}


@dataclass(frozen=True)
class Case:
    """What a graph is made of. The defaults are the simplest graph."""

    family: str = "sd1"
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
    negative: str = "plain"
    recipe: str = "balanced"
    online: bool = True
    checkpointing: bool = False

    def __str__(self) -> str:
        """What differs from the simplest graph."""
        simplest = Case()
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        changed = {k: v for k, v in named.items() if v != getattr(simplest, k)}
        return ", ".join(f"{name}={value!r}" for name, value in changed.items()) or "simplest"


# Conditionings: what is done to one on its way to the sampler.


def area(graph: Graph, found: list) -> list:
    share = {"width": 0.5, "height": 1.0, "x": 0.5, "y": 0.0, "strength": 1.0}
    half = graph.add("ConditioningSetAreaPercentage", conditioning=found, **share)
    return combined(graph, half, graph.scene.negative)


def ranged(graph: Graph, found: list) -> list:
    """One prompt for the first half of the steps, another one for the rest."""
    first = graph.add("ConditioningSetTimestepRange", conditioning=found, start=0.0, end=0.5)
    rest = graph.add("ConditioningSetTimestepRange", conditioning=graph.other, start=0.5, end=1.0)
    return combined(graph, first, rest)


def masked(graph: Graph, found: list) -> list:
    mask = graph.add("SolidMask", value=0.7, width=64, height=64)
    inputs = {"strength": 0.8, "set_cond_area": "default", "mask": mask}
    return graph.add("ConditioningSetMask", conditioning=found, **inputs)


def longer(graph: Graph, found: list) -> list:
    inputs = {"conditioning_to": found, "conditioning_from": graph.other}
    return graph.add("ConditioningConcat", **inputs)


def averaged(graph: Graph, found: list) -> list:
    inputs = {"conditioning_to": found, "conditioning_from": graph.other}
    return graph.add("ConditioningAverage", conditioning_to_strength=0.7, **inputs)


def twice(graph: Graph, found: list) -> list:
    return combined(graph, found, graph.other)


def combined(graph: Graph, one: list, other: list) -> list:
    return graph.add("ConditioningCombine", conditioning_1=one, conditioning_2=other)


def zeroed(graph: Graph, found: list) -> list:
    return graph.add("ConditioningZeroOut", conditioning=found)


CONDITIONINGS: dict[str, Callable[[Graph, list], list]] = {
    "area": area,
    "ranged": ranged,
    "masked": masked,
    "longer": longer,
    "averaged": averaged,
    "twice": twice,
}
NEGATIVES: dict[str, Callable[[Graph, list], list]] = {
    "longer": longer,
    "zeroed": zeroed,
    "twice": twice,
}


class Graph:
    """The graph of a case, on a host."""

    def __init__(self, host: Host, case: Case) -> None:
        host.forget()  # patches of other cases, and what they remember
        self.host, self.case, self.runs = host, case, 0
        self.scene = self._scene()
        scene = self.scene
        if case.control:
            self._control()
        self.text = self._changed(scene.text, case.text_conditioning, CONDITIONINGS)
        self.spatial = self._changed(scene.spatial, case.spatial_conditioning, CONDITIONINGS)
        self.negative = self._changed(scene.negative, case.negative, NEGATIVES)
        self.text_model = self._model(case.text_patch)
        self.spatial_model = self.text_model if case.shared else self._model(case.spatial_patch)
        if case.masked:
            scene.latent = self._half_masked(scene.latent)

    def add(self, node: str, **inputs: Any) -> list:
        """Add a node and return its first output."""
        return self.scene.add(node, **inputs)[0]

    @property
    def other(self) -> list:
        """A prompt without a layout."""
        if isinstance(self.scene, BareScene):
            return self.scene.encoded(4)
        return self.add("CLIPTextEncode", clip=self.scene.clip, text="a street in the rain")

    def stock(self, side: str) -> Tensor:
        """Return the stock sampler's latent on a branch."""
        positive, model = self.text, self.text_model
        if side == "spatial":
            positive, model = self.spatial, self.spatial_model
        return self._run(lambda: self.scene.stock(positive, model, **self._sampling()))["latent"]

    def ours(self, **settings: Any) -> tuple[Tensor, Any]:
        """Return RealCompo's latent and trace."""
        inputs = {
            "model": self.text_model,
            "spatial_model": self.spatial_model,
            "positive": self.text,
            "spatial_positive": self.spatial,
        }
        out = self._run(lambda: self.scene.realcompo(settings, **inputs, **self._sampling()), 2)
        return out["latent"], out["trace"]

    def _run(self, sampler: Callable[[], Links], outputs: int = 1) -> dict[str, Any]:
        """What a sampler makes, whose nodes are in the graph for this run alone."""
        torch.manual_seed(3)  # what a model draws besides must not depend on earlier runs
        before = dict(self.scene.prompt)
        links = sampler()
        wanted = {"latent": links[0], "trace": links[1]}
        out = self.host.run(self.scene, **dict(list(wanted.items())[:outputs]))
        self.scene.prompt = before
        return out | {"latent": out["latent"]["samples"]}

    def _scene(self) -> Scene:
        case = self.case
        size: dict[str, Any] = {"width": case.width, "height": case.height, "batch": case.batch}
        if case.family != FILES:
            return BareScene(self.host, case.family, **size)
        scene = Scene(**size, gligen=case.gligen)
        self.host.functions["small"] = lambda _: small_model()
        scene.model = scene.apply(scene.latent, "small")
        if not case.gligen:
            scene.spatial = scene.tied("a drawing of a red cube and a blue ball")[1]
        return scene

    def _control(self) -> None:
        scene, family = self.scene, self.case.family
        if family in TRANSFORMERS:  # whose hint is a latent already
            self.host.functions["controlled"] = lambda found: _with_control(found, family)
            scene.spatial = scene.apply(scene.spatial, "controlled")
            return
        self.host.functions["control"] = lambda _: _controlnet(family)
        net = scene.apply(scene.model, "control")
        for branch, settings in CONTROLS[self.case.control]:
            apply(scene, net, branch, **settings)

    def _changed(self, found: list, how: str, ways: dict[str, Any]) -> list:
        return ways[how](self, found) if how in ways else found

    def _model(self, patch: str) -> list:
        model = self.scene.model
        return patched(self.host, self.scene, model, patch) if patch else model

    def _half_masked(self, latent: list) -> list:
        mask = self.add("SolidMask", value=1.0, width=32, height=64)
        canvas = self.add("SolidMask", value=0.0, width=64, height=64)
        place = {"destination": canvas, "source": mask, "x": 0, "y": 0, "operation": "add"}
        half = self.add("MaskComposite", **place)
        return self.add("SetLatentNoiseMask", samples=latent, mask=half)

    def _sampling(self) -> dict[str, Any]:
        case = self.case
        names = {"sampler_name": case.sampler, "scheduler": case.scheduler}
        numbers = {"steps": case.steps, "denoise": case.denoise, "cfg": case.cfg}
        return names | numbers | {"latent_image": self._latent(), "negative": self.negative}

    def _latent(self) -> list:
        """The latent from a node of its own, so that the host does not take a run for another."""
        self.runs += 1
        name = f"run {self.runs}"
        self.host.functions[name] = lambda latent: latent
        return self.scene.apply(self.scene.latent, name)


@cache
def _controlnet(family: str) -> Any:
    if family not in TRANSFORMERS:
        return tiny_unets.controlnet(family)
    from . import tiny_controls  # asks the host which families it knows

    return tiny_controls.controlled(JOINT_CONTROLS[family], None)[1]


def _with_control(conditioning: list, name: str) -> list:
    control = _controlnet(name).copy()
    control.cond_hint_original = _controlnet(name).cond_hint_original
    return [[text, options | {"control": control}] for text, options in conditioning]
