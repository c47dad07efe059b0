"""The planner in a real ComfyUI server.

A picture from a planned layout, and nothing of the profile gets out.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from testkit.chat_server import KEY, MODEL, ChatServer, layout_reply, raw, whole
from testkit.random_models import MODELS, layout_overrides, write_apart
from testkit.server import ROOT, Client, ServerError, serve
from testkit.workflow import to_prompt

WORKFLOW = ROOT / "workflows" / "realcompo_layout_planned.json"
VARIABLE = "REALCOMPO_TEST_KEY"
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


@pytest.fixture(scope="module", autouse=True)
def models() -> None:
    write_apart()


@pytest.mark.parametrize("works", [True, False])
def test_a_planned_picture_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    seen: list[bytes] = []

    def on_event(event: str, data: Any) -> None:
        seen.append(data if isinstance(data, bytes) else json.dumps([event, data]).encode())

    async def work(model: ChatServer) -> None:
        async with serve(tmp_path, models=MODELS) as client:
            prompt = await planned(client, "local")
            try:
                outputs = await client.run(prompt, on_event)
                images = [image for o in outputs.values() for image in o.get("images", [])]
                seen.extend([await client.file(image) for image in images])
                seen.append(json.dumps(outputs).encode())
            except ServerError as error:
                seen.append(str(error).encode())
            seen.extend(await everything(client))
        seen.append(client.log.read_bytes())

    with ChatServer([whole(REPLY) if works else raw(b"{}", status=401)]) as model:
        (tmp_path / "user").mkdir()
        (tmp_path / "user" / "realcompo_planner.toml").write_text(
            f'[local]\nurl = "{model.url}"\nmodel = "{MODEL}"\nkey_env = "{VARIABLE}"\n'
        )
        asyncio.run(work(model))
    assert len(model.asked) == 1 and model.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    told = b"profile 'local': 2 objects: two corgis, a red ball" if works else b"got a refused one"
    assert any(told in data for data in seen) and any(
        b"asking profile 'local'..." in data for data in seen
    )
    pictures = [data for data in seen if data.startswith(b"\x89PNG")]
    assert bool(pictures) == works and all(
        b"RealCompoLayoutPlanner" in data for data in pictures[:1]
    )
    for secret in (KEY, MODEL, VARIABLE, model.url, f"127.0.0.1:{model.port}", "hidden-path-42"):
        assert [data[:200] for data in seen if secret.encode() in data] == []


def test_the_workflow_plans_offline_out_of_the_box(tmp_path: Path) -> None:
    async def work() -> tuple[dict, dict]:
        async with serve(tmp_path, models=MODELS) as client:
            prompt = await planned(client, "offline")
            return prompt, await client.run(prompt)

    prompt, outputs = asyncio.run(work())
    [status] = [
        o["text"][0]
        for key, o in outputs.items()
        if prompt[key]["class_type"] == "RealCompoLayoutPlanner"
    ]
    assert (
        status
        == "offline planner: 5 objects: two corgis (2), a tabby cat, a wooden bench, a red ball"
    )
    assert any(image["type"] == "output" for o in outputs.values() for image in o.get("images", []))
