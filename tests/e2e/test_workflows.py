"""Every workflow of a kind of branch, loaded as the browser does and run on small models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from testkit import ROOT
from testkit.random_models import (
    CONTROLNET,
    LORA,
    SD15,
    SD21,
    SDXL,
    UNET_FILE,
    Family,
    layout_overrides,
)
from testkit.server import Server
from testkit.workflow import to_prompt

pytestmark = pytest.mark.xdist_group("server")

STEPS = 2
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


def read(name: str) -> dict:
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text())


def overrides(family: Family) -> dict[str, dict[str, Any]]:
    """Small models, a small picture and few steps, by node type."""
    size = {"width": 64, "height": 64}
    controlnet = CONTROLNET if family is SD15 else family.controlnet
    return layout_overrides(64, STEPS) | {
        "CheckpointLoaderSimple": {"ckpt_name": family.checkpoint},
        "ControlNetLoader": {"control_net_name": controlnet},
        "LoraLoader": {"lora_name": LORA},
        "UNETLoader": {"unet_name": UNET_FILE},
        "ImageScale": size,
        "KSampler": {"steps": STEPS},
        "BasicScheduler": {"steps": STEPS},
    }


@pytest.mark.parametrize("name", WORKFLOWS)
async def test_the_workflow_runs(server: Server, definitions: dict, name: str) -> None:
    prompt = to_prompt(read(name), definitions, overrides(FAMILIES.get(name, SD15)))
    outputs = await server.run(prompt)
    images = [image for output in outputs.values() for image in output.get("images", [])]
    saved = [image for image in images if image["type"] == "output"]
    assert len(saved) == SAVED.get(name, 1)
    kinds = {key: node["class_type"] for key, node in prompt.items()}
    trace = next(key for key, kind in kinds.items() if kind == "RealCompoTracePreview")
    assert outputs[trace]["trace"][0]["rows"]["spatial"] > 0


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_workflow_says_which_files_it_needs(name: str) -> None:
    """Every model file that a node names is in the note, with a link that ends in its name."""
    nodes = read(name)["nodes"]
    [note] = [node["widgets_values"][0] for node in nodes if node["type"] == "MarkdownNote"]
    values = [value for node in nodes for value in node.get("widgets_values") or []]
    files = {value for value in values if str(value).endswith(".safetensors")}
    assert files
    for file in files:
        assert f"/{file}) |" in note and f"[{file}](https://" in note
