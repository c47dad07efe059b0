"""Workflow files as the browser saves them -> prompts as the server takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
CONTROL = "control_after_generate"


def to_prompt(
    workflow: dict, nodes: Mapping[str, dict], overrides: Mapping[str, Mapping[str, Any]]
) -> dict:
    """Return the workflow as an API-format prompt.

    ``nodes`` is the server's object_info; ``overrides`` sets inputs by node type. Notes and muted
    nodes are left out, as the browser does.
    """
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    active = [
        node for node in workflow["nodes"] if node["type"] in nodes and node.get("mode", 0) == 0
    ]
    return {
        str(node["id"]): _prompt_node(node, nodes[node["type"]], sources, overrides)
        for node in active
    }


def widget_names(definition: dict) -> Iterator[str]:
    """Names of a node's widget values in the order in which workflows store them."""
    for group in ("required", "optional"):
        for name, (kind, *options) in definition["input"].get(group, {}).items():
            if isinstance(kind, list) or kind in WIDGETS:
                yield name
                if options and options[0].get(CONTROL):
                    yield CONTROL


def _prompt_node(node: dict, definition: dict, sources: dict, overrides: Mapping) -> dict:
    widgets = dict(zip(widget_names(definition), node.get("widgets_values") or [], strict=False))
    widgets.pop(CONTROL, None)
    linked = {
        i["name"]: sources[i["link"]] for i in node.get("inputs", []) if i.get("link") is not None
    }
    return {
        "class_type": node["type"],
        "inputs": widgets | dict(overrides.get(node["type"], {})) | linked,
    }
