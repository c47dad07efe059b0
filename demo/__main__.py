"""``make demo``: the demo workflow on the toy world's models, in a real ComfyUI server."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from testkit.client import Client, ServerError
from testkit.server import ROOT, serve
from testkit.workflow import to_prompt

WORKFLOW = ROOT / "workflows" / "realcompo_demo.json"
ARMS = {
    "text": "text only",
    "spatial": "spatial only",
    "fixed": "half and half",
    "realcompo": "RealCompo",
}
SHEETS = ("balance", "attention", "losses")
SIDE, HEAD = 200, 22  # of a picture in the comparison and the words above it, in pixels


def progress(event: str, data: Any) -> None:
    """Print how far sampling is."""
    if event == "progress":
        end = "\n" if data["value"] == data["max"] else ""
        print(f"\r  sampling {data['value']}/{data['max']}", end=end, flush=True)


async def run(client: Client, output: Path) -> Path:
    """Queue the workflow, keep its pictures, and write the report."""
    prompt = to_prompt(json.loads(WORKFLOW.read_text()), await client.get("object_info"), {})
    started = time.monotonic()
    outputs = await client.run(prompt, progress)
    seconds = round(time.monotonic() - started, 2)
    pictures = {}
    for name, images in _by_arm(prompt, outputs).items():
        pictures[name] = await _save(client, images, output / name)
    compare(pictures, output / "comparison.png")
    traced = _output_of(prompt, outputs, "RealCompoTracePreview")
    for name, image in zip(SHEETS, traced["images"], strict=True):
        (output / f"{name}.png").write_bytes(await client.file(image))
    system = (await client.get("system_stats"))["system"]
    trace = traced["trace"][0]
    report = {
        "image": str(pictures["realcompo"][0]),
        "comparison": str(output / "comparison.png"),
        "host_version": system["comfyui_version"],
        "settings": _sampling(prompt) | trace["settings"],
        "rows": trace["rows"],
        "seconds": seconds,
        "losses": trace["losses"],
    }
    (output / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return output / "report.json"


def compare(pictures: dict[str, list[Path]], path: Path) -> None:
    """Draw one sheet: a row for each way to sample, a column for each seed."""
    columns = max(map(len, pictures.values()))
    sheet = Image.new("RGB", (columns * SIDE, len(pictures) * (SIDE + HEAD)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (name, files) in enumerate(pictures.items()):
        top = row * (SIDE + HEAD)
        draw.text((4, top + 3), ARMS[name], fill="black", font=ImageFont.load_default(14))
        for column, file in enumerate(files):
            sheet.paste(Image.open(file).resize((SIDE, SIDE)), (column * SIDE, top + HEAD))
    sheet.save(path)


def _by_arm(prompt: dict, outputs: dict) -> dict[str, list[dict]]:
    """Return saved images by arm: the file's name ends with it. The order is :data:`ARMS`'s."""
    saved: dict[str, list[dict]] = {}
    for key, value in outputs.items():
        prefix = prompt[key]["inputs"].get("filename_prefix", "")
        for name in ARMS:
            if "images" in value and prefix.endswith(name):
                saved[name] = value["images"]
    return {name: saved[name] for name in ARMS}


async def _save(client: Client, images: list[dict], stem: Path) -> list[Path]:
    files = [stem.with_name(f"{stem.name}_{number}.png") for number in range(len(images))]
    for file, image in zip(files, images, strict=True):
        file.write_bytes(await client.file(image))
    return files


def _output_of(prompt: dict, outputs: dict, class_type: str) -> dict:
    return next(value for key, value in outputs.items() if prompt[key]["class_type"] == class_type)


def _sampling(prompt: dict) -> dict:
    nodes = prompt.values()
    inputs = next(node["inputs"] for node in nodes if node["class_type"] == "RealCompoKSampler")
    return {name: value for name, value in inputs.items() if not isinstance(value, list)}


async def demo(output: Path) -> Path:
    """Write the whole demo into a folder, and return the report's path."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    print("starting ComfyUI", flush=True)
    async with serve(output / "comfyui") as client:
        return await run(client, output)


def main() -> int:
    """Run the demo, and return the exit code."""
    output = ROOT / "output" / "demo"
    try:
        report = asyncio.run(demo(output))
    except ServerError as error:
        print(f"make demo: {error}", file=sys.stderr)
        return 1
    print(f"four ways, four seeds: {output / 'comparison.png'}")
    print(f"sheets: {', '.join(str(output / f'{name}.png') for name in SHEETS)}")
    print(f"report: {report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
