"""Every workflow of a kind of branch, loaded as the browser does and run on one real server, on small models."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testkit.custom_nodes import STAND_INS
from testkit.random_models import (
    CONTROLNET,
    LORA,
    MODELS,
    SD15,
    SD21,
    SDXL,
    UNET_FILE,
    Family,
    layout_overrides,
    write_apart,
)
from testkit.server import ROOT, Client, serve
from testkit.workflow import to_prompt

STEPS = 2
SKY, MOUNTAIN, SEA = (6, 230, 230), (143, 255, 140), (9, 7, 230)  # as ADE20K paints them
FAMILIES = {
    "realcompo_keypoints_sdxl": SDXL,
    "realcompo_segmentation_sd21": SD21,
    "realcompo_segmentation_sdxl": SDXL,
}
SAVED = {"realcompo_layout_guidance": 2}  # pictures; elsewhere one
WORKFLOWS = [
    "realcompo_keypoints_sdxl",
    "realcompo_segmentation_sd21",
    "realcompo_segmentation_sdxl",
    "realcompo_depth",
    "realcompo_layout_guidance",
    "realcompo_stylised_lora",
    "realcompo_tokencompose",
    "realcompo_img2img",
    "realcompo_inpaint",
    "realcompo_guider",
    "realcompo_ablation",
]


class Running:
    """A server, and the loop that its client belongs to."""

    def __init__(self, base: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.context = serve(base, models=MODELS)
        self.client: Client = self.loop.run_until_complete(self.context.__aenter__())
        self.nodes = self.loop.run_until_complete(self.client.get("object_info"))

    def run(self, prompt: dict) -> dict:
        return self.loop.run_until_complete(self.client.run(prompt))

    def close(self) -> None:
        self.loop.run_until_complete(self.context.__aexit__(None, None, None))
        self.loop.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With stand-ins for the pose estimator, whose weights are not here, and for the real text encoders' sizes."""
    write_apart(SD21, SDXL)
    base = tmp_path_factory.mktemp("server")
    (base / "root").symlink_to(ROOT, target_is_directory=True)
    for name in ("pose_estimator", "small_text_encoders"):
        (base / "custom_nodes").mkdir(exist_ok=True)
        shutil.copy(STAND_INS / f"{name}.py", base / "custom_nodes")
    draw_map(base / "input")
    running = Running(base)
    yield running
    running.close()


def draw_map(folder: Path) -> None:
    """A segmentation map of three bands, and a mask in its alpha channel."""
    from PIL import Image

    folder.mkdir()
    picture = Image.new("RGBA", (64, 66))
    for row, colour in enumerate((SKY, MOUNTAIN, SEA)):
        picture.paste((*colour, 255 if row else 0), (0, 22 * row, 64, 22 * (row + 1)))
    picture.save(folder / "example.png")


def overrides(family: Family) -> dict[str, dict[str, Any]]:
    """Small models, a small picture and few steps, by node type."""
    size = {"width": 64, "height": 64}
    return layout_overrides(64, STEPS) | {
        "CheckpointLoaderSimple": {"ckpt_name": family.checkpoint},
        "ControlNetLoader": {
            "control_net_name": CONTROLNET if family is SD15 else family.controlnet
        },
        "LoraLoader": {"lora_name": LORA},
        "UNETLoader": {"unet_name": UNET_FILE},
        "ImageScale": size,
        "KSampler": {"steps": STEPS},
        "BasicScheduler": {"steps": STEPS},
    }


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_workflow_runs(server: Running, name: str) -> None:
    workflow = json.loads((ROOT / "workflows" / f"{name}.json").read_text())
    prompt = to_prompt(workflow, server.nodes, overrides(FAMILIES.get(name, SD15)))
    outputs = server.run(prompt)
    saved = [
        image
        for output in outputs.values()
        for image in output.get("images", [])
        if image["type"] == "output"
    ]
    assert len(saved) == SAVED.get(name, 1)
    trace = next(
        key for key, node in prompt.items() if node["class_type"] == "RealCompoTracePreview"
    )
    assert outputs[trace]["trace"][0]["rows"]["spatial"] > 0


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_workflow_says_which_files_it_needs(name: str) -> None:
    """Every model file that a node names stands in the note, with a link that ends in its name."""
    workflow = json.loads((ROOT / "workflows" / f"{name}.json").read_text())
    (note,) = (
        node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote"
    )
    values = [value for node in workflow["nodes"] for value in node.get("widgets_values") or []]
    files = {value for value in values if str(value).endswith(".safetensors")}
    assert files
    assert [
        name for name in files if f"/{name}) |" not in note or f"[{name}](https://" not in note
    ] == []
