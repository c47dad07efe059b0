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
# The families whose tiny models stand in for files.
OF_FILES = {
    "flux1-dev.safetensors": "flux",
    "clip_l.safetensors": "flux",
    "ae.safetensors": "flux",
    "diffusion_pytorch_model.safetensors": "flux",
    "Chroma1-HD-fp8mixed.safetensors": "chroma",
    "t5xxl_fp16.safetensors": "chroma",
    "qwen_image_fp8_e4m3fn.safetensors": "qwen image",
    "qwen_2.5_vl_7b_fp8_scaled.safetensors": "qwen image",
    "qwen_image_vae.safetensors": "qwen image",
    "Qwen-Image-InstantX-ControlNet-Union.safetensors": "qwen image",
    "z_image_turbo_bf16.safetensors": "z-image",
    "qwen_3_4b.safetensors": "z-image",
    "sd3.5_large_fp8_scaled.safetensors": "sd3",
    "sd3.5_large_controlnet_depth.safetensors": "sd3",
    "aura_flow_0.3.safetensors": "auraflow",
}
STAND_INS = {
    "UNETLoader": "TinyModel",
    "CLIPLoader": "TinyClip",
    "DualCLIPLoader": "TinyClip",
    "VAELoader": "TinyVae",
    "ControlNetLoader": "TinyControl",
    "CheckpointLoaderSimple": "TinyCheckpoint",
}
FAMILIES = {
    "realcompo_keypoints_sdxl": SDXL,
    "realcompo_segmentation_sd21": SD21,
    "realcompo_segmentation_sdxl": SDXL,
    "realcompo_sdxl_regions": SDXL,
    "realcompo_flow_look_sdxl_control": SDXL,
}
SAVED = {"realcompo_layout_guidance": 2, "realcompo_demo_transformer": 8}  # pictures; elsewhere one
TRANSFORMERS = [
    "realcompo_flux_control",
    "realcompo_qwen_image_control",
    "realcompo_z_image_regions",
    "realcompo_sd35_depth",
    "realcompo_chroma_look_flux_control",
    "realcompo_flow_look_sdxl_control",
]
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
    "realcompo_sdxl_regions",
    *TRANSFORMERS,
]
WITHOUT_FILES = ["realcompo_demo_transformer"]


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
        "EmptySD3LatentImage": size,
        "KSampler": {"steps": STEPS},
        "BasicScheduler": {"steps": STEPS},
    }


def with_stand_ins(prompt: dict, workflow: dict) -> dict:
    """A prompt whose loaders of transformers' files load tiny models instead."""
    changed = dict(prompt)
    for node in workflow["nodes"]:
        family = OF_FILES.get(str(next(iter(node.get("widgets_values") or []), "")))
        if family:
            kind = STAND_INS[node["type"]]
            changed[str(node["id"])] = {"class_type": kind, "inputs": {"family": family}}
    return changed


@pytest.mark.parametrize("name", [*WORKFLOWS, *WITHOUT_FILES])
async def test_the_workflow_runs(server: Server, definitions: dict, name: str) -> None:
    workflow = read(name)
    prompt = to_prompt(workflow, definitions, overrides(FAMILIES.get(name, SD15)))
    if name in TRANSFORMERS:
        prompt = with_stand_ins(prompt, workflow)
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
