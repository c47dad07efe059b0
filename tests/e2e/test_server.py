"""The pack in real ComfyUI servers, over HTTP and WebSocket."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from demo.__main__ import demo
from testkit.custom_nodes import STAND_INS
from testkit.random_models import CONTROLNET, MODELS, layout_overrides, write_apart
from testkit.server import ROOT, Client, ServerError, serve
from testkit.workflow import to_prompt, widget_names

NODES = {
    "RealCompoLayout",
    "RealCompoLayoutConditioning",
    "RealCompoAttentionCapture",
    "RealCompoBalancer",
    "RealCompoBalancerSettings",
    "RealCompoGuider",
    "RealCompoKSampler",
    "RealCompoTracePreview",
    "RealCompoLayoutPreview",
    "RealCompoLayoutFromPose",
    "RealCompoLayoutFromMasks",
    "RealCompoLayoutFromSegmentation",
    "RealCompoLayoutPlanner",
    "SepEnConcepts",
    "SepEnTrain",
    "SepEnConditioning",
    "SepEnGuidance",
}
FOREIGN = {
    "DWPreprocessor"
}  # of comfyui_controlnet_aux: ComfyUI 0.3.75 has no pose nodes of its own
WORKFLOW = ROOT / "workflows" / "realcompo_layout_gligen.json"


def run(work: Coroutine) -> Any:
    return asyncio.run(work)


async def small_prompt(client: Client, seed: int = 1, steps: int = 3) -> dict:
    """The layout workflow with the small models, at a small size."""
    changes = layout_overrides(64, steps)
    changes["RealCompoKSampler"]["seed"] = seed
    return to_prompt(json.loads(WORKFLOW.read_text()), await client.get("object_info"), changes)


async def image_of(client: Client, outputs: dict) -> bytes:
    return await client.file(saved_image(outputs))


def saved_image(outputs: dict) -> dict:
    """The history's entry of the first image that was saved, not only previewed."""
    return next(i for o in outputs.values() for i in o.get("images", []) if i["type"] == "output")


@pytest.fixture(scope="module", autouse=True)
def models() -> Path:
    write_apart()
    return MODELS


@pytest.mark.parametrize("name", ["comfyui-realcompo", "ComfyUI_RealCompo-main (1)", "nodes.v2"])
def test_the_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    async def work() -> set[str]:
        async with serve(tmp_path, pack_name=name) as client:
            return set(await client.get("object_info"))

    assert run(work()) >= NODES


def test_the_same_seed_is_the_same_image_on_two_servers(tmp_path: Path) -> None:
    async def work(base: Path, seed: int) -> bytes:
        async with serve(base, models=MODELS) as client:
            outputs = await client.run(await small_prompt(client, seed))
            return pixels(await image_of(client, outputs))

    one, two = run(work(tmp_path / "one", 1)), run(work(tmp_path / "two", 1))
    assert one == two and one != run(work(tmp_path / "three", 2))


def pixels(png: bytes) -> bytes:
    from io import BytesIO

    from PIL import Image

    return Image.open(BytesIO(png)).tobytes()


def test_progress_preview_and_a_prompt_stop(tmp_path: Path) -> None:
    """Interrupted while it balances, the run ends long before its last step, and the next one is whole."""
    steps, stop_at = 80, 24  # 16 of them warm up

    async def work() -> tuple[list[int], list[str], dict]:
        async with serve(tmp_path, models=MODELS) as client:
            values: list[int] = []
            events: list[str] = []
            stops: list[asyncio.Task] = []

            def on_event(event: str, data: Any) -> None:
                events.append(event)
                if event == "progress":
                    values.append(data["value"])
                    if data["value"] == stop_at and not stops:
                        stops.append(asyncio.ensure_future(client.post("interrupt")))

            await client.run(await small_prompt(client, steps=steps), on_event)
            await stops[0]
            return values, events, await client.run(await small_prompt(client, steps=3))

    values, events, after = run(work())
    assert stop_at <= max(values) < steps / 2
    assert (
        "preview" in events
        and "execution_interrupted" in events
        and "execution_success" not in events
    )
    assert saved_image(after)


def test_an_error_is_told_and_the_server_goes_on(tmp_path: Path) -> None:
    async def work() -> tuple[str, dict]:
        async with serve(tmp_path, models=MODELS) as client:
            broken = await small_prompt(client)
            layout = next(
                node for node in broken.values() if node["class_type"] == "RealCompoLayout"
            )
            layout["inputs"]["layout"] = "a corgi: 0.5 0.1 0.2 0.9"
            with pytest.raises(ServerError) as caught:
                await client.run(broken)
            return str(caught.value), await client.run(await small_prompt(client))

    error, after = run(work())
    assert error.startswith(
        "RealCompoLayout: RealCompo Layout, line 1, box: expected [left, top, right, bottom]"
    )
    assert after


def test_the_demo_leaves_what_it_promises(tmp_path: Path) -> None:
    from PIL import Image

    report = json.loads(run(demo(tmp_path / "demo")).read_text())
    assert set(report) == {
        "image",
        "comparison",
        "host_version",
        "settings",
        "rows",
        "seconds",
        "losses",
    }
    assert report["rows"]["spatial"] == 4 * 2 * 25  # four pictures, guided
    assert [row["step"] for row in report["losses"]][
        -1
    ] == 24  # the last step tells what the one before led to
    assert report["settings"]["steps"] == 25 and report["settings"]["mode"] == "dynamic"
    with Image.open(report["image"]) as image, Image.open(report["comparison"]) as comparison:
        assert image.size == (256, 256) and len(image.getcolors(256 * 256)) > 1000
        assert comparison.size == (800, 4 * 222)
    assert all(
        (tmp_path / "demo" / f"{name}.png").exists() for name in ("balance", "attention", "losses")
    )


def test_a_prompt_with_a_missing_value_is_refused_and_not_run_in_part(tmp_path: Path) -> None:
    async def work() -> None:
        async with serve(tmp_path, models=MODELS) as client:
            prompt = await small_prompt(client)
            sampler = next(
                node for node in prompt.values() if node["class_type"] == "RealCompoKSampler"
            )
            del sampler["inputs"]["steps"]
            with pytest.raises(ServerError, match="steps"):
                await client.run(prompt)

    run(work())


def test_the_mask_workflow_runs(tmp_path: Path) -> None:
    outputs, types = run(run_workflow(tmp_path, "realcompo_layout_masks", {}))
    assert saved_image(outputs)
    text = next(
        o["text"] for key, o in outputs.items() if types[key] == "RealCompoLayoutConditioning"
    )
    assert text == ["a red sofa: red[4] sofa[5]\na potted plant: potted[8] plant[9]"]


def test_the_pose_workflow_runs(tmp_path: Path) -> None:
    """With a stand-in for the pose estimator, whose weights are not here: it speaks its format."""
    from PIL import Image

    stand_in = tmp_path / "custom_nodes" / "pose_estimator"
    stand_in.mkdir(parents=True)
    shutil.copy(STAND_INS / "pose_estimator.py", stand_in / "__init__.py")
    (tmp_path / "input").mkdir()
    Image.new("RGB", (256, 192), "gray").save(tmp_path / "input" / "example.png")
    changes = {
        "ControlNetLoader": {"control_net_name": CONTROLNET},
        "ImageScale": {"width": 64, "height": 64},
    }
    outputs, types = run(run_workflow(tmp_path, "realcompo_layout_pose", changes))
    assert saved_image(outputs)
    text = next(
        o["text"] for key, o in outputs.items() if types[key] == "RealCompoLayoutConditioning"
    )
    assert text == ["a knight: knight[4]\na wizard: wizard[7]"]


async def run_workflow(base: Path, name: str, changes: dict) -> tuple[dict, dict[str, str]]:
    """The outputs of a workflow with the small models, and the type of each node."""
    workflow = json.loads((WORKFLOW.parent / f"{name}.json").read_text())
    async with serve(base, models=MODELS) as client:
        prompt = to_prompt(
            workflow, await client.get("object_info"), layout_overrides(64, 3) | changes
        )
        return await client.run(prompt), {key: node["class_type"] for key, node in prompt.items()}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda path: path.stem
)
def test_workflows_fit_their_nodes(tmp_path: Path, path: Path) -> None:
    """Known nodes, a value for every widget, links that agree on both ends, and a thumbnail."""

    async def work() -> dict:
        async with serve(tmp_path) as client:
            return await client.get("object_info")

    workflow, known = json.loads(path.read_text()), run(work())
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert {n["type"] for n in nodes.values()} <= set(known) | {"MarkdownNote"} | FOREIGN
    for node in (n for n in nodes.values() if n["type"] in known):
        assert len(node.get("widgets_values", [])) == len(
            list(widget_names(known[node["type"]]))
        ), node["type"]
    for link, source, slot, target, to, kind in workflow["links"]:
        assert link in nodes[source]["outputs"][slot]["links"]
        assert nodes[target]["inputs"][to]["link"] == link
        assert nodes[source]["outputs"][slot]["type"] == kind
    assert path.with_suffix(".jpg").exists()
