"""The workflows of Separate-and-Enhance, loaded as the browser does and run on a real server, with few steps."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from testkit.server import ROOT, serve
from testkit.workflow import to_prompt

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


def test_the_workflows_run(tmp_path: Path) -> None:
    async def work() -> dict[str, dict]:
        async with serve(tmp_path) as client:
            known = await client.get("object_info")
            files = {
                name: json.loads((ROOT / "workflows" / f"{name}.json").read_text())
                for name in SAVED
            }
            return {
                name: await client.run(to_prompt(workflow, known, FEW))
                for name, workflow in files.items()
            }

    found = asyncio.run(work())
    for name, outputs in found.items():
        saved = [
            image
            for out in outputs.values()
            for image in out.get("images", [])
            if image["type"] == "output"
        ]
        assert len(saved) == SAVED[name], name
    loras = (tmp_path / "output" / "loras").glob("*.safetensors")
    assert sorted(path.name.split("_")[1] for path in loras) == ["concepts", "pair"]


@pytest.mark.parametrize("name", SAVED)
def test_the_workflow_is_explained(name: str) -> None:
    workflow = json.loads((ROOT / "workflows" / f"{name}.json").read_text())
    (note,) = (
        node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote"
    )
    assert "**How to use it**" in note and "Nothing to download" in note
