"""The planner node against a chat server: its profile, its prompt, and what it makes of them."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from testkit.chat_server import MODEL, ChatServer, layout_reply
from testkit.graph import Graph
from testkit.host import Host, PromptError

PROMPT = "two corgis to the left of a tabby cat"
CORGI, OTHER, CAT = [0.1, 0.2, 0.3, 0.9], [0.3, 0.2, 0.5, 0.9], [0.6, 0.2, 0.9, 0.9]
GOOD = layout_reply(("two corgis", CORGI), ("two corgis", OTHER), ("a tabby cat", CAT))
PLACED = [("two corgis", CORGI), ("two corgis", OTHER), ("a tabby cat", CAT)]
WRONG = layout_reply(("a zebra", CORGI))
VARIABLE = "REALCOMPO_TEST_KEY"


@contextmanager
def configured(host: Host) -> Generator[Path]:
    """The owner's file, not there yet; nothing is remembered from other tests."""
    import folder_paths

    path = Path(folder_paths.get_user_directory()) / "realcompo_planner.toml"
    path.parent.mkdir(exist_ok=True)
    host.pack("nodes.host.server.planning").PLANS.layouts.clear()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def table(server: ChatServer, **settings: Any) -> str:
    values = {
        "url": server.url,
        "model": MODEL,
        "key_env": VARIABLE,
        "timeout": 5,
        "retries": 2,
    } | settings
    return "[local]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())


def plan(host: Host, prompt: str = PROMPT, profile: str = "local", seed: int = 0) -> dict[str, Any]:
    graph = Graph()
    planner = graph.add("RealCompoLayoutPlanner", prompt=prompt, profile=profile, seed=seed)
    return host.run(graph, layout=planner[0], json=planner[1], status=planner[2])


def objects(found: dict[str, Any]) -> list[tuple[str, list[float]]]:
    boxes = [(e.phrase, e.box) for e in found["layout"].objects]
    return [(phrase, [box.x0, box.y0, box.x1, box.y1]) for phrase, box in boxes]


def failure(host: Host, **inputs: Any) -> str:
    with pytest.raises(PromptError) as caught:
        plan(host, **inputs)
    return str(caught.value)
