"""``make demo``: the layout workflow on small models, in a real ComfyUI server, over its HTTP API."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .random_models import CHECKPOINT, GLIGEN, MODELS
from .server import ROOT, Client, ServerError, serve
from .workflow import to_prompt

WORKFLOW = ROOT / "workflows" / "realcompo_layout_gligen.json"
SHEETS = ("balance", "attention", "losses")
PIXELS, STEPS = 256, 20


def overrides() -> dict[str, dict[str, Any]]:
    """What differs from the workflow as an artist opens it: small random models, a small picture."""
    size = {"width": PIXELS, "height": PIXELS}
    return {
        "CheckpointLoaderSimple": {"ckpt_name": CHECKPOINT},
        "GLIGENLoader": {"gligen_name": GLIGEN},
        "EmptyLatentImage": size,
        "RealCompoLayoutPreview": size,
        "RealCompoKSampler": {"steps": STEPS},
    }


def write_models() -> None:
    """The random models, made with ComfyUI's own classes in a process of their own."""
    environment = os.environ | {"PYTHONPATH": os.environ["COMFYUI_PATH"]}
    command = [sys.executable, "-m", "demo.random_models"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


def progress(event: str, data: Any) -> None:
    if event == "progress":
        end = "\n" if data["value"] == data["max"] else ""
        print(f"\r  sampling {data['value']}/{data['max']}", end=end, flush=True)


async def run(client: Client, output: Path) -> Path:
    """Queue the workflow, keep its pictures, and write the report."""
    prompt = to_prompt(json.loads(WORKFLOW.read_text()), await client.get("object_info"), overrides())
    started = time.monotonic()
    outputs = await client.run(prompt, progress)
    seconds = round(time.monotonic() - started, 2)
    by_type = {prompt[key]["class_type"]: value for key, value in outputs.items()}
    sheets = by_type["RealCompoTracePreview"]["images"]
    pictures = {"image": by_type["SaveImage"]["images"][0], **dict(zip(SHEETS, sheets, strict=True))}
    for name, image in pictures.items():
        (output / f"{name}.png").write_bytes(await client.file(image))
    stats = await client.get("system_stats")
    trace = by_type["RealCompoTracePreview"]["trace"][0]
    sampling = {k: v for k, v in _inputs(prompt, "RealCompoKSampler").items() if not isinstance(v, list)}
    report = {
        "image": str(output / "image.png"),
        "host_version": stats["system"]["comfyui_version"],
        "settings": sampling | trace["settings"],
        "rows": trace["rows"],
        "seconds": seconds,
        "losses": trace["losses"],
    }
    (output / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return output / "report.json"


def _inputs(prompt: dict, class_type: str) -> dict:
    return next(node["inputs"] for node in prompt.values() if node["class_type"] == class_type)


async def demo(output: Path) -> Path:
    """The whole demo into a folder; returns the report's path."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    write_models()
    print("starting ComfyUI", flush=True)
    async with serve(output / "comfyui", models=MODELS) as client:
        return await run(client, output)


def main() -> int:
    output = ROOT / "output" / "demo"
    try:
        report = asyncio.run(demo(output))
    except ServerError as error:
        print(f"make demo: {error}", file=sys.stderr)
        return 1
    print(f"image:  {output / 'image.png'}")
    print(f"sheets: {', '.join(str(output / f'{name}.png') for name in SHEETS)}")
    print(f"report: {report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
