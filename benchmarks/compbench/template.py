"""A workflow with the places where an image's prompt, seed and layout go."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realcompo_core.errors import InputError

from .graph import POSITIVE, Graph, Place, read_graph
from .jobs import Job

PLANNER = "RealCompoLayoutPlanner"
OUTPUTS = ("SaveImage", "PreviewImage")


@dataclass(frozen=True)
class Names:
    """Places (``NODE.INPUT``) and the image's node as a user names them.

    What is left empty is found.
    """

    prompts: Sequence[str] = ()
    seeds: Sequence[str] = ()
    layouts: Sequence[str] = ()
    image: str | None = None


@dataclass(frozen=True)
class Template:
    """No more of a workflow than the image of one node needs, and its places."""

    graph: Graph
    prompts: tuple[Place, ...]
    seeds: tuple[Place, ...]
    layouts: tuple[Place, ...]
    image: str

    def filled(self, job: Job) -> dict[str, dict]:
        """What to queue for an image."""
        layouts = dict.fromkeys(self.layouts, job.layout)
        values = (
            dict.fromkeys(self.prompts, job.prompt) | dict.fromkeys(self.seeds, job.seed) | layouts
        )
        return self.graph.with_values(values)

    def settings(self) -> dict[str, Any]:
        """What tells this workflow from others, whatever prompt, seed and layout it was saved
        with.
        """
        empty = self.graph.with_values(dict.fromkeys([*self.prompts, *self.seeds, *self.layouts]))
        digest = hashlib.sha256(json.dumps(empty, sort_keys=True).encode()).hexdigest()
        places: dict[str, Any] = {
            "prompts": list(map(str, self.prompts)),
            "seeds": list(map(str, self.seeds)),
            "layouts": list(map(str, self.layouts)),
            "image": self.image,
        }
        return {"workflow": digest, "places": places}


def read_template(
    path: Path, definitions: Mapping[str, dict], names: Names, *, with_layouts: bool
) -> Template:
    """A workflow file, in UI or API format. ``definitions`` is the server's object_info.

    Raises :class:`InputError` if a place can't be found, or if several could be meant.
    """
    graph = read_graph(path, definitions)
    image = _image(graph, names.image)
    graph = graph.needed_for(image)
    prompts = _named(graph, names.prompts) or _prompts(graph)
    seeds = _named(graph, names.seeds) or _seeds(graph)
    layouts = _named(graph, names.layouts) or _layouts(graph)
    if layouts and not with_layouts:
        got = f"none, and a workflow whose {_list(layouts)} takes one"
        raise InputError(
            "layouts",
            "a layout for every prompt",
            got,
            "Give --layouts FILE, or use a planner node.",
        )
    if with_layouts and not layouts:
        raise _unclear(graph, "the layout", "--layout-input", layouts)
    return Template(graph, prompts, seeds, layouts, image)


def _image(graph: Graph, name: str | None) -> str:
    """The node that the image comes from: what is named, or else what saves, or else what shows."""
    found: list[str] = []
    for kind in OUTPUTS if name is None else (name,):
        found = found or graph.named(kind)
    if len(found) != 1:
        got = f"nodes {', '.join(found)}" if found else "none"
        raise InputError(
            "image node", "one node that saves the image", got, "Name its number: --image-node 9."
        )
    return found[0]


def _named(graph: Graph, names: Sequence[str]) -> tuple[Place, ...]:
    places: list[Place] = []
    for name in names:
        places += _places(graph, name)
    return tuple(places)


def _places(graph: Graph, name: str) -> list[Place]:
    """``4.text``, or ``CLIPTextEncode.text`` for all nodes of that type."""
    node, _, field = name.partition(".")
    places = graph.places(field, of=node)
    if not places or any(graph.source(place) is not None for place in places):
        got = f"{name}, which is {'linked' if places else 'not there'}"
        raise InputError(
            "workflow",
            "NODE.INPUT with a value of its own",
            got,
            f"The image depends on: {graph.inputs()}.",
        )
    return places


def _prompts(graph: Graph) -> tuple[Place, ...]:
    """Texts that reach a positive input, and a planner's.

    Several are the prompt if they say the same.
    """
    starts = graph.places(*POSITIVE) or graph.places("conditioning")
    found: set[Place] = set()
    for start in starts:
        found.update(graph.texts(start))
    for planner in graph.places("prompt", "text", of=PLANNER):
        found |= set(graph.strings(planner))
    if len({graph.value(place) for place in found}) != 1:
        raise _unclear(graph, "the prompt", "--prompt-input", sorted(found))
    return tuple(sorted(found))


def _seeds(graph: Graph) -> tuple[Place, ...]:
    """The one seed; a planner keeps its own, so that all images of a prompt have one layout."""
    places = graph.places("seed", "noise_seed")
    own = [place for place in places if isinstance(graph.value(place), int)]
    found = [place for place in own if graph.nodes[place.node]["class_type"] != PLANNER]
    if len(found) != 1:
        raise _unclear(graph, "the seed", "--seed-input", found)
    return tuple(found)


def _layouts(graph: Graph) -> tuple[Place, ...]:
    """Where layouts go, if there are any.

    A layout of the workflow's own would fit no other prompt.
    """
    linked = {
        place.node for place in graph.places("layout", "boxes") if graph.source(place) is not None
    }
    found = [
        place for place in graph.places("layout", of="RealCompoLayout") if place.node not in linked
    ]
    if len(found) > 1:
        raise _unclear(graph, "the layout", "--layout-input", found)
    return tuple(found)


def _unclear(graph: Graph, what: str, option: str, found: Sequence[Place]) -> InputError:
    got = f"several: {_list(found)}" if found else "none"
    how = f"Name it, or all that take it: {option} NODE.INPUT."
    fix = f"{how} The image depends on: {graph.inputs()}."
    return InputError("workflow", f"one input for {what}", got, fix)


def _list(places: Sequence[Place]) -> str:
    return ", ".join(map(str, places))
