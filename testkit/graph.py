"""Prompts of the real API under construction."""

from __future__ import annotations

from typing import Any

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


class Links:
    """The outputs of a node, by index."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __getitem__(self, index: int) -> Link:
        return [self.key, index]
