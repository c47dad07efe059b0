"""Prompts of the real API under construction."""

from __future__ import annotations

from typing import Any

from realcompo_core.sampling.settings import BalancerSettings

SIMPLE = ("mode", "recipe", "warmup", "guidance", "every")  # what RealCompo Balancer itself shows
Link = list[Any]  # an output: its node's key and its index


class Graph:
    """An API-format prompt; ``add`` adds a node and returns its links."""

    def __init__(self) -> None:
        self.prompt: dict[str, dict] = {}

    def add(self, class_type: str, **inputs: Any) -> Links:
        key = str(len(self.prompt) + 1)
        self.prompt[key] = {
            "class_type": class_type,
            "inputs": {k: v for k, v in inputs.items() if v is not None},
        }
        return Links(key)

    def balancer(self, look_or_placement: float = 0.0, **settings: Any) -> list:
        """Add RealCompo Balancer with these settings; those of the advanced node come from one."""
        simple = {name: getattr(BalancerSettings(), name) for name in SIMPLE}
        simple |= {name: value for name, value in settings.items() if name in SIMPLE}
        advanced = {name: value for name, value in settings.items() if name not in SIMPLE}
        more = self.add("RealCompoBalancerSettings", **advanced)[0] if advanced else None
        return self.add(
            "RealCompoBalancer", look_or_placement=look_or_placement, settings=more, **simple
        )[0]


class Links:
    """The outputs of a node, by index."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __getitem__(self, index: int) -> Link:
        return [self.key, index]
