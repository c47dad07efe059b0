"""Layouts from boxes of other nodes, through the real executor."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfy_host import Graph, Host, PromptError

ONE = "a red cube: 0.25 0.5 0.75 1"


def run(host: Host, given: Any = None, image: Any = None, **inputs: Any) -> dict[str, Any]:
    """What RealCompoLayout makes of a value on its boxes socket."""
    host.forget()
    host.functions |= {"boxes": lambda _: given, "image": lambda _: image}
    graph = Graph()
    sockets = {key: graph.add("TestApply", value=0, function=key)[0] for key, value in
               {"boxes": given, "image": image}.items() if value is not None}  # fmt: skip
    node = graph.add("RealCompoLayout", **({"layout": ""} | inputs | sockets))
    return host.run(graph, layout=node[0], boxes=node[1], masks=node[2], preview=node[3])


def test_the_widget_of_older_workflows_is_enough(host: Host) -> None:
    out = run(host, layout=ONE)
    assert [e.phrase for e in out["layout"].entities] == ["a red cube"]
    box = out["boxes"][0][0]
    assert {k: box[k] for k in ("x", "y", "width", "height")} == {"x": 128, "y": 256, "width": 256, "height": 256}
    assert box["metadata"]["desc"] == "a red cube"
    assert out["masks"].shape == (1, 512, 512) and float(out["masks"].sum()) == 256 * 256
    assert out["preview"].shape == (1, 512, 512, 3)


def test_boxes_are_added_to_the_drawn_ones(host: Host) -> None:
    boxes = [[{"x": 0, "y": 0, "width": 64, "height": 32, "metadata": {"desc": "a blue ball"}}]]
    out = run(host, boxes, layout=ONE, width=128, height=64)
    assert [e.phrase for e in out["layout"].entities] == ["a red cube", "a blue ball"]
    assert out["masks"].shape == (2, 64, 128)
    assert out["masks"][1, :32, :64].min() == 1 and float(out["masks"][1].sum()) == 64 * 32


def test_what_it_puts_out_it_takes_back(host: Host) -> None:
    first = run(host, layout=ONE)
    again = run(host, first["boxes"])
    assert again["layout"] == first["layout"]


def test_plain_boxes_follow_order_and_unit(host: Host) -> None:
    given = [(0.25, 0.25, 0.5, 0.75)]
    sized = run(host, given, box_order="x y width height", box_unit="0 to 1", phrases="a cat", layout="")
    corners = run(host, given, box_order="left top right bottom", box_unit="0 to 1", phrases="a cat")
    assert corners["boxes"][0][0]["width"] == 128
    assert sized["boxes"][0][0]["width"] == 256


def test_an_image_is_the_background(host: Host) -> None:
    image = torch.ones(2, 32, 64, 3)
    out = run(host, image=image, layout="a cat: 0 0 0.5 0.5", width=64, height=64)
    assert out["preview"].shape == (1, 64, 64, 3)
    assert torch.equal(out["preview"][0, 40:, 40:], torch.ones(24, 24, 3))
    shown = [data for event, data in host.server.messages if event == "executed" and "background" in data["output"]]
    assert shown[0]["output"]["background"][0]["type"] == "temp"


def test_a_box_outside_is_told(host: Host) -> None:
    with pytest.raises(PromptError) as caught:
        run(host, [[{"x": 0, "y": 0, "width": 600, "height": 32, "label": "a cat"}]])
    error = str(caught.value)
    assert error.startswith("RealCompo Layout, boxes, box 1, box: expected corners within 512 x 512 pixels")
