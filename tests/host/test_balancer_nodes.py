"""The balancer's two nodes: what a sampler gets from them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from realcompo_core.sampling.settings import LOOK, PLACEMENT, BalancerSettings
from testkit.graph import Graph
from testkit.host import Host, PromptError


def settings_from(host: Host, **settings: Any) -> dict[str, Any]:
    """Return what the sampler gets, in plain values."""
    graph = Graph()
    link = graph.balancer(**settings)
    return plain(host.run(graph, balancer=link)["balancer"])


def plain(settings: Any) -> dict[str, Any]:
    """Return settings without their classes, which exist once for each way the core was loaded."""
    return {name: getattr(value, "value", value) for name, value in asdict(settings).items()}


def test_without_a_change_the_defaults_are_the_cores(host: Host) -> None:
    assert settings_from(host) == plain(BalancerSettings())
    assert settings_from(host, layers="all") == plain(BalancerSettings())


def test_every_setting_has_one_widget(host: Host) -> None:
    nodes = ("RealCompoBalancer", "RealCompoBalancerSettings")
    widgets = [socket.id for key in nodes for socket in host.nodes[key].define_schema().inputs]
    extra = {"look_or_placement", "settings"}
    assert sorted(widgets) == sorted({*plain(BalancerSettings()), *extra})


def test_the_simple_node_shows_six_widgets(host: Host) -> None:
    inputs = host.nodes["RealCompoBalancer"].define_schema().inputs
    assert [socket.id for socket in inputs] == [
        *("mode", "recipe", "warmup", "guidance", "look_or_placement", "every"),
        "settings",
    ]


def test_both_nodes_settings_arrive(host: Host) -> None:
    chosen = {
        **{"mode": "fixed", "recipe": "paper", "warmup": 0.5, "guidance": 2.0, "every": 3},
        **{"text_weight": 0.25, "limit": 7.0, "layers": "up", "online": False, "separate": 1.5},
    }
    found = settings_from(host, object_weights="2, 1", **chosen)
    assert found == plain(BalancerSettings()) | chosen | {"object_weights": (2.0, 1.0)}


@pytest.mark.parametrize(("look", "ends"), [(-1.0, PLACEMENT), (1.0, LOOK)])
def test_the_slider_moves_the_defaults(host: Host, look: float, ends: dict[str, float]) -> None:
    found = settings_from(host, look_or_placement=look)
    assert found == plain(BalancerSettings()) | ends


def test_the_slider_starts_from_the_advanced_nodes_values(host: Host) -> None:
    found = settings_from(host, look_or_placement=0.5, lean=1.0, release=80.0)
    assert found["lean"] == (1.0 + LOOK["lean"]) / 2
    assert found["release"] == 80.0


def test_a_bad_setting_names_the_node_that_has_it(host: Host) -> None:
    message = r"RealCompo Balancer Settings \(advanced\), object_weights: expected numbers from 0"
    with pytest.raises(PromptError, match=message):
        settings_from(host, object_weights="many")
