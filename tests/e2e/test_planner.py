"""The planner in a real ComfyUI server: a planned picture, and nothing of the profile gets out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from testkit import ROOT
from testkit.chat_server import KEY, MODEL, ChatServer, layout_reply, raw, whole
from testkit.client import Client, ServerError
from testkit.random_models import layout_overrides
from testkit.server import Server
from testkit.workflow import to_prompt

pytestmark = pytest.mark.xdist_group("server")

WORKFLOW = ROOT / "workflows" / "realcompo_layout_planned.json"
VARIABLE = "REALCOMPO_TEST_KEY"  # holds KEY in the server's environment
REPLY = layout_reply(("two corgis", [0.05, 0.2, 0.25, 0.6]), ("a red ball", [0.4, 0.6, 0.6, 0.9]))
ROUTES = (
    "userdata/..%2Frealcompo_planner.toml",
    "userdata/..%2F..%2Fuser%2Frealcompo_planner.toml",
    "userdata/realcompo_planner.toml",
    "userdata?dir=..&recurse=true&full_info=true",
    "view?filename=realcompo_planner.toml&type=user",
    "view?filename=../user/realcompo_planner.toml&type=output",
    "object_info",
    "history",
    "queue",
    "internal/logs",
    "internal/logs/raw",
)


async def planned(client: Client, profile: str) -> dict:
    """The workflow as it comes with the pack, with small models."""
    changes = layout_overrides(64, 3) | {"RealCompoLayoutPlanner": {"profile": profile}}
    return to_prompt(json.loads(WORKFLOW.read_text()), await client.get("object_info"), changes)


async def everything(client: Client) -> list[bytes]:
    """What the server hands out on all routes that could know something."""
    answers = []
    for route in ROUTES:
        async with client.session.get(f"{client.url}/{route}") as reply:
            answers.append(await reply.read())
    return answers


@pytest.fixture
def model() -> Iterator[ChatServer]:
    with ChatServer() as started:
        yield started


def write_profile(server: Server, model: ChatServer) -> None:
    profile = f'[local]\nurl = "{model.url}"\nmodel = "{MODEL}"\nkey_env = "{VARIABLE}"\n'
    (server.base / "user").mkdir(exist_ok=True)
    (server.base / "user" / "realcompo_planner.toml").write_text(profile)


async def heard(server: Server) -> list[bytes]:
    """All that the server says while it runs the workflow with a profile, and afterwards."""
    seen: list[bytes] = []

    def on_event(event: str, data: Any) -> None:
        seen.append(data if isinstance(data, bytes) else json.dumps([event, data]).encode())

    try:
        outputs = await server.run(await planned(server, "local"), on_event)
        images = [image for o in outputs.values() for image in o.get("images", [])]
        seen += [await server.file(image) for image in images]
        seen.append(json.dumps(outputs).encode())
    except ServerError as error:
        seen.append(str(error).encode())
    return [*seen, *await everything(server), server.log.read_bytes()]


@pytest.mark.parametrize("works", [True, False])
async def test_a_planned_picture_and_no_secret(
    server: Server, model: ChatServer, works: bool
) -> None:
    model.answers = [whole(REPLY) if works else raw(b"{}", status=401)]
    write_profile(server, model)
    seen = await heard(server)
    assert [asked.headers["Authorization"] for asked in model.asked] == [f"Bearer {KEY}"]
    told = b"profile 'local': 2 objects: two corgis, a red ball" if works else b"got a refused one"
    assert any(told in data for data in seen)
    assert any(b"asking profile 'local'..." in data for data in seen)
    pictures = [data for data in seen if data.startswith(b"\x89PNG")]
    assert bool(pictures) == works
    assert all(b"RealCompoLayoutPlanner" in data for data in pictures[:1])
    for secret in (KEY, MODEL, VARIABLE, model.url, f"127.0.0.1:{model.port}", "hidden-path-42"):
        assert [data[:200] for data in seen if secret.encode() in data] == []


async def test_the_workflow_plans_offline_out_of_the_box(server: Server) -> None:
    prompt = await planned(server, "offline")
    outputs = await server.run(prompt)
    planner = next(k for k, n in prompt.items() if n["class_type"] == "RealCompoLayoutPlanner")
    assert outputs[planner]["text"] == [
        "offline planner: 5 objects: two corgis (2), a tabby cat, a wooden bench, a red ball"
    ]
    images = [image for output in outputs.values() for image in output.get("images", [])]
    assert any(image["type"] == "output" for image in images)
