"""Workflow files: what one sees of them on the canvas."""

import json
from itertools import combinations
from pathlib import Path

import pytest

WORKFLOWS = sorted((Path(__file__).resolve().parents[2] / "workflows").glob("*.json"))
TITLE = 30  # pixels of a node's title, above its position


def covers(one: dict, other: dict) -> bool:
    """Whether two nodes share a place on the canvas."""
    (left, top), (width, height) = one["pos"], one["size"]
    (x, y), (w, h) = other["pos"], other["size"]
    apart = left >= x + w or x >= left + width
    return not (apart or top - TITLE >= y + h or y - TITLE >= top + height)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_node_covers_another(path: Path) -> None:
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    pairs = [(a["id"], b["id"]) for a, b in combinations(nodes, 2) if covers(a, b)]
    assert pairs == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_links_agree_at_both_ends(path: Path) -> None:
    workflow = json.loads(path.read_text(encoding="utf-8"))
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert workflow["last_node_id"] >= max(nodes)
    assert workflow["last_link_id"] >= max(link[0] for link in workflow["links"])
    for key, source, output, target, slot, kind in workflow["links"]:
        assert key in nodes[source]["outputs"][output]["links"]
        assert nodes[target]["inputs"][slot]["link"] == key
        assert kind in nodes[target]["inputs"][slot]["type"]
