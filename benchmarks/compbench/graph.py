"""A workflow as the server takes it (ComfyUI's API format), and the way through its links."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from realcompo_core.errors import InputError
from testkit.workflow import to_prompt

POSITIVE = ("positive", "spatial_positive")
TEXTS = ("text", "text_g", "text_l")


@dataclass(frozen=True, order=True)
class Place:
    """An input of a node."""

    node: str
    input: str

    def __str__(self) -> str:
        return f"{self.node}.{self.input}"


@dataclass(frozen=True)
class Graph:
    """Nodes by id, and the server's object_info, which says what their inputs are."""

    nodes: Mapping[str, dict]
    definitions: Mapping[str, dict]

    def value(self, place: Place) -> Any:
        return self.nodes[place.node]["inputs"][place.input]

    def source(self, place: Place) -> str | None:
        """The node that an input is linked to; None if it has a value of its own."""
        value = self.value(place)
        linked = isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
        return value[0] if linked else None

    def places(self, *names: str, of: str | None = None) -> list[Place]:
        """Inputs with these names, or all; of every node, or of those with an id or a type."""
        found: list[Place] = []
        for key in self.nodes if of is None else self.named(of):
            inputs = self.nodes[key]["inputs"]
            found += [Place(key, name) for name in inputs if not names or name in names]
        return found

    def named(self, name: str) -> list[str]:
        """Return the ids of the nodes with an id or a type."""
        return [key for key, node in self.nodes.items() if name in (key, node["class_type"])]

    def with_values(self, values: Mapping[Place, Any]) -> dict[str, dict]:
        """The nodes with other values."""
        filled = {key: node | {"inputs": dict(node["inputs"])} for key, node in self.nodes.items()}
        for place, value in values.items():
            filled[place.node]["inputs"][place.input] = value
        return filled

    def needed_for(self, key: str) -> Graph:
        """A node and all that it depends on. Raises :class:`InputError` for a link to nothing."""
        needed, waiting = {key}, [key]
        while waiting:
            for place in self.places(of=waiting.pop()):
                source = self.source(place)
                if source is None or source in needed:
                    continue
                if source not in self.nodes:
                    fix = (
                        "Use Export (API) of ComfyUI, which resolves bypassed nodes, "
                        "reroutes and subgraphs."
                    )
                    raise InputError(
                        "workflow",
                        "links between nodes of this server",
                        f"none behind {place}",
                        fix,
                    )
                needed.add(source)
                waiting.append(source)
        return replace(self, nodes={key: node for key, node in self.nodes.items() if key in needed})

    def strings(self, place: Place) -> Iterator[Place]:
        """The place itself, or the text inputs that its link leads to."""
        source = self.source(place)
        if source is None:
            yield place
            return
        for further in self.places(of=source):
            if self._type(further) == "STRING":
                yield from self.strings(further)

    def texts(self, place: Place) -> Iterator[Place]:
        """Text inputs of the encoders behind a conditioning, through nodes that change it."""
        source = self.source(place)
        if source is None:
            return
        texts = self.places(*TEXTS, of=source)
        onward = self.places(*POSITIVE, of=source) or self.places(of=source)
        for further in texts or onward:
            yield from self.strings(further) if texts else self.texts(further)

    def inputs(self) -> str:
        """What has a value of its own, for a reader."""
        places = [place for place in self.places() if self.source(place) is None]
        return ", ".join(f"{place} ({self.nodes[place.node]['class_type']})" for place in places)

    def _type(self, place: Place) -> Any:
        groups = (
            self.definitions.get(self.nodes[place.node]["class_type"], {}).get("input", {}).values()
        )
        return next((group[place.input][0] for group in groups if place.input in group), None)


def read_graph(path: Path, definitions: Mapping[str, dict]) -> Graph:
    """A workflow file in UI or API format. Raises :class:`InputError` if it is neither."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            "workflow", "a JSON file of ComfyUI", str(error), "Save the workflow again."
        ) from error
    if isinstance(data, dict) and isinstance(data.get("nodes"), list):
        data = to_prompt(data, definitions, {})
    if not isinstance(data, dict) or not all(_is_node(node) for node in data.values()):
        fix = "Save the workflow in ComfyUI, or use Export (API)."
        raise InputError(
            "workflow", "a ComfyUI workflow, as saved or in API format", str(path), fix
        )
    return Graph(data, definitions)


def _is_node(value: Any) -> bool:
    return (
        isinstance(value, dict) and "class_type" in value and isinstance(value.get("inputs"), dict)
    )
