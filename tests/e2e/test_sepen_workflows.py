"""The workflows of Separate-and-Enhance, loaded as the browser does and run with few steps."""

from __future__ import annotations

import json

import pytest

from testkit import ROOT
from testkit.server import Server
from testkit.workflow import to_prompt

pytestmark = pytest.mark.xdist_group("server")

FEW = {
    "SepEnTrain": {"steps": 1, "batch": 1, "resolution": 64},
    "KSampler": {"steps": 2},
    "RealCompoKSampler": {"steps": 3},
    "EmptyLatentImage": {"batch_size": 1},
}
SAVED = {
    "realcompo_sepen_pair": 2,
    "realcompo_sepen_concepts": 2,
    "realcompo_sepen_guidance": 2,
    "realcompo_sepen_branch": 1,
}
LORAS = {
    "realcompo_sepen_pair": "pair",
    "realcompo_sepen_concepts": "concepts",
}


def read(name: str) -> dict:
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text())


def loras(server: Server) -> set[str]:
    return {path.name for path in (server.base / "output" / "loras").glob("*.safetensors")}


@pytest.mark.parametrize("name", SAVED)
async def test_the_workflow_runs(server: Server, definitions: dict, name: str) -> None:
    before = loras(server)
    outputs = await server.run(to_prompt(read(name), definitions, FEW))
    images = [image for output in outputs.values() for image in output.get("images", [])]
    saved = [image for image in images if image["type"] == "output"]
    assert len(saved) == SAVED[name]
    kinds = [file.split("_")[1] for file in loras(server) - before]
    assert kinds == ([LORAS[name]] if name in LORAS else [])


@pytest.mark.parametrize("name", SAVED)
def test_the_workflow_is_explained(name: str) -> None:
    nodes = read(name)["nodes"]
    [note] = [node["widgets_values"][0] for node in nodes if node["type"] == "MarkdownNote"]
    assert "**How to use it**" in note and "Nothing to download" in note
