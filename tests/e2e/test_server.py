"""The pack in real ComfyUI servers, over HTTP and WebSocket."""

from __future__ import annotations

import asyncio
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from demo.__main__ import demo
from testkit import ROOT
from testkit.client import Client, ServerError
from testkit.random_models import CONTROLNET, layout_overrides
from testkit.server import Server, serve
from testkit.workflow import to_prompt, widget_names

pytestmark = pytest.mark.xdist_group("server")

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
# Of comfyui_controlnet_aux: ComfyUI 0.3.75 has no pose nodes of its own.
FOREIGN = {"DWPreprocessor"}
WORKFLOWS = ROOT / "workflows"


def workflow(name: str) -> dict:
    return json.loads((WORKFLOWS / f"{name}.json").read_text())


async def small_prompt(client: Client, seed: int = 1, steps: int = 3) -> dict:
    """The layout workflow with the small models, at a small size."""
    changes = layout_overrides(64, steps)
    changes["RealCompoKSampler"]["seed"] = seed
    definitions = await client.get("object_info")
    return to_prompt(workflow("realcompo_layout_gligen"), definitions, changes)


def node_of(prompt: dict, class_type: str) -> dict:
    return next(node for node in prompt.values() if node["class_type"] == class_type)


def saved_image(outputs: dict) -> dict:
    """The history's entry of the first image that was saved, not only previewed."""
    images = [image for output in outputs.values() for image in output.get("images", [])]
    return next(image for image in images if image["type"] == "output")


async def pixels(client: Client, outputs: dict) -> bytes:
    return Image.open(BytesIO(await client.file(saved_image(outputs)))).tobytes()


def folder_of_the_pack(server: Server) -> Path:
    [link] = [path for path in (server.base / "custom_nodes").iterdir() if path.is_symlink()]
    return link


@pytest.mark.parametrize("chosen", ["server", "other_server"], indirect=True)
async def test_the_folder_may_have_any_name(chosen: Server) -> None:
    """The shared servers have odd ones."""
    assert not folder_of_the_pack(chosen).name.isidentifier()
    assert set(await chosen.get("object_info")) >= NODES


@pytest.fixture
def chosen(request: pytest.FixtureRequest) -> Server:
    return request.getfixturevalue(request.param)


async def test_the_folder_may_have_the_registrys_name(tmp_path: Path) -> None:
    """Without the models folder that the other servers have."""
    async with serve(tmp_path, pack_name="comfyui-realcompo") as client:
        assert set(await client.get("object_info")) >= NODES


async def test_the_same_seed_is_the_same_image_on_two_servers(
    server: Server, other_server: Server
) -> None:
    async def image(client: Client, seed: int) -> bytes:
        return await pixels(client, await client.run(await small_prompt(client, seed)))

    one, two = await image(server, 4711), await image(other_server, 4711)
    assert one == two != await image(server, 4712)


class Interrupter:
    """Hears a run's messages, and interrupts it at a step."""

    def __init__(self, client: Client, step: int) -> None:
        self.client, self.step = client, step
        self.steps: list[int] = []
        self.events: list[str] = []
        self.stop: asyncio.Task | None = None

    def hear(self, event: str, data: Any) -> None:
        self.events.append(event)
        if event != "progress":
            return
        self.steps.append(data["value"])
        if data["value"] == self.step and not self.stop:
            self.stop = asyncio.ensure_future(self.client.post("interrupt"))


async def test_progress_preview_and_a_prompt_stop(server: Server) -> None:
    """Interrupted while it balances, a run ends long before its last step; the next is whole."""
    steps, stop_at = 80, 24  # 16 of them warm up
    run = Interrupter(server, stop_at)
    await server.run(await small_prompt(server, steps=steps), run.hear)
    assert run.stop is not None
    await run.stop
    after = await server.run(await small_prompt(server, steps=4))
    assert stop_at <= max(run.steps) < steps / 2
    assert "preview" in run.events
    assert "execution_interrupted" in run.events
    assert "execution_success" not in run.events
    assert saved_image(after)


async def test_an_error_is_told_and_the_server_goes_on(server: Server) -> None:
    broken = await small_prompt(server)
    node_of(broken, "RealCompoLayout")["inputs"]["layout"] = "a corgi: 0.5 0.1 0.2 0.9"
    with pytest.raises(ServerError) as caught:
        await server.run(broken)
    told = "RealCompoLayout: RealCompo Layout, line 1, box: expected [left, top, right, bottom]"
    assert str(caught.value).startswith(told)
    assert await server.run(await small_prompt(server, seed=99))


async def test_a_prompt_with_a_missing_value_is_refused_and_not_run_in_part(
    server: Server,
) -> None:
    prompt = await small_prompt(server)
    del node_of(prompt, "RealCompoKSampler")["inputs"]["steps"]
    with pytest.raises(ServerError, match="steps"):
        await server.run(prompt)


def test_the_demo_leaves_what_it_promises(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    report = json.loads(asyncio.run(demo(folder)).read_text())
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
    # The last step tells what the one before led to.
    assert report["losses"][-1]["step"] == 24
    assert report["settings"]["steps"] == 25 and report["settings"]["mode"] == "dynamic"
    with Image.open(report["image"]) as image, Image.open(report["comparison"]) as comparison:
        assert image.size == (256, 256) and len(image.getcolors(256 * 256)) > 1000
        assert comparison.size == (800, 4 * 222)
    for sheet in ("balance", "attention", "losses"):
        assert (folder / f"{sheet}.png").exists()


async def run_workflow(client: Client, name: str, changes: dict) -> tuple[dict, list[str]]:
    """The outputs of a workflow with the small models, and what its conditioning node says."""
    definitions = await client.get("object_info")
    prompt = to_prompt(workflow(name), definitions, layout_overrides(64, 3) | changes)
    outputs = await client.run(prompt)
    kinds = {key: node["class_type"] for key, node in prompt.items()}
    conditioning = next(k for k in outputs if kinds[k] == "RealCompoLayoutConditioning")
    return outputs, outputs[conditioning]["text"]


async def test_the_mask_workflow_runs(server: Server) -> None:
    outputs, text = await run_workflow(server, "realcompo_layout_masks", {})
    assert saved_image(outputs)
    assert text == ["a red sofa: red[4] sofa[5]\na potted plant: potted[8] plant[9]"]


async def test_the_pose_workflow_runs(server: Server) -> None:
    """With a stand-in for the pose estimator, whose weights are not here: it speaks its format."""
    changes = {
        "ControlNetLoader": {"control_net_name": CONTROLNET},
        "ImageScale": {"width": 64, "height": 64},
    }
    outputs, text = await run_workflow(server, "realcompo_layout_pose", changes)
    assert saved_image(outputs)
    assert text == ["a knight: knight[4]\na wizard: wizard[7]"]


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.json")), ids=lambda path: path.stem)
def test_workflows_fit_their_nodes(definitions: dict[str, dict], path: Path) -> None:
    """Known nodes, a value for every widget, links that agree on both ends, and a thumbnail."""
    saved = json.loads(path.read_text())
    nodes = {node["id"]: node for node in saved["nodes"]}
    kinds = {node["type"] for node in nodes.values()}
    assert kinds <= set(definitions) | {"MarkdownNote"} | FOREIGN
    for node in nodes.values():
        if node["type"] in definitions:
            expected = list(widget_names(definitions[node["type"]]))
            assert len(node.get("widgets_values", [])) == len(expected), node["type"]
    for link, source, slot, target, to, kind in saved["links"]:
        assert link in nodes[source]["outputs"][slot]["links"]
        assert nodes[target]["inputs"][to]["link"] == link
        assert nodes[source]["outputs"][slot]["type"] == kind
    assert path.with_suffix(".jpg").exists()
