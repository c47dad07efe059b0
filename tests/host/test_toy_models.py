"""The trained toy models as ComfyUI's own objects.

Every stock node takes them, and RealCompo works on them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from benchmarks.arms import Arm, PromptGraph
from demo.judging.detect import read
from demo.judging.prompts import Prompt, prompts
from demo.toy.paint import paint
from demo.toy.picture import Thing, ToyScene
from testkit.graph import Graph
from testkit.host import Host, PromptError

WEIGHTS = Path(__file__).resolve().parents[2] / "demo" / "weights"
MOST_BYTES = 32_000_000
FILES = {"base", "controlnet", "gligen", "neon_lora", "transformer"}
RED = ToyScene((Thing("red", "circle", 0.5, 0.5, 0.18),), "sand")


@pytest.fixture(scope="module")
def prompt() -> Prompt:
    return next(p for p in prompts("development", 12) if len(p.scene.things) == 2)


def picture(host: Host, graph: Graph, image: list) -> torch.Tensor:
    return host.run(graph, image=image)["image"].movedim(-1, 1)


def one_object(host: Host, style: str = "photo", **changes: Any) -> torch.Tensor:
    """Pictures of a red circle by stock nodes alone."""
    graph = Graph()
    models = graph.add("RealCompoDemoModels", style=style)
    positive, negative = (
        graph.add("CLIPTextEncode", clip=models[1], text=text)[0]
        for text in ("a red circle on sand", "")
    )
    latent = graph.add("EmptyLatentImage", width=128, height=128, batch_size=4)[0]
    inputs = {
        "seed": 1,
        "steps": 20,
        "cfg": 3.0,
        "sampler_name": "ddim",
        "scheduler": "normal",
        "denoise": 1.0,
    }
    sampled = graph.add(
        "KSampler",
        model=models[0],
        positive=positive,
        negative=negative,
        latent_image=latent,
        **inputs | changes,
    )
    return picture(host, graph, graph.add("VAEDecode", samples=sampled[0], vae=models[2])[0])


def kinds(pictures: torch.Tensor) -> list[list[tuple[str, str]]]:
    return [[thing.kind for thing in read(p).things] for p in pictures]


def test_the_weights_are_small_half_precision_safetensors_and_nothing_else() -> None:
    files = [path for path in WEIGHTS.iterdir() if path.suffix != ".md"]
    assert {path.stem for path in files} == FILES and {path.suffix for path in files} == {
        ".safetensors"
    }
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    for path in files:
        with safe_open(path, "pt") as tensors:
            names = list(tensors.keys())
            assert {tensors.get_slice(name).get_dtype() for name in names} <= {"F16", "I32"}


def test_stock_nodes_alone_draw_what_is_asked(host: Host) -> None:
    pictures = one_object(host)
    assert pictures.shape == (4, 3, 128, 128)
    assert kinds(pictures).count([("red", "circle")]) >= 3
    assert all(read(p).ground == "sand" for p in pictures)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "lcm", "uni_pc"])
def test_other_samplers_draw_it_too(host: Host, sampler: str) -> None:
    found = kinds(
        one_object(
            host, sampler_name=sampler, scheduler="karras" if sampler == "dpmpp_2m" else "normal"
        )
    )
    assert sum(("red", "circle") in of for of in found) >= 3


def test_the_style_is_a_lora_that_darkens_the_ground(host: Host) -> None:
    photo, neon = one_object(host), one_object(host, style="neon")
    assert neon.mean() < 0.5 * photo.mean()


def test_the_autoencoder_keeps_pictures(host: Host) -> None:
    graph = Graph()
    vae = graph.add("RealCompoDemoModels", style="photo")[2]
    true = torch.nn.functional.interpolate(
        paint([RED], "photo", torch.Generator().manual_seed(0)), scale_factor=2
    )
    host.functions["picture"] = lambda _: true.movedim(1, -1)
    image = graph.add("TestApply", value=vae, function="picture")[0]
    encoded = graph.add("VAEEncode", pixels=image, vae=vae)[0]
    out = host.run(graph, latent=encoded, image=graph.add("VAEDecode", samples=encoded, vae=vae)[0])
    assert out["latent"]["samples"].shape == (1, 16, 16, 16)
    small = torch.nn.functional.avg_pool2d(out["image"].movedim(-1, 1), 2)
    noise = (small - torch.nn.functional.avg_pool2d(true, 2)).square().mean()
    assert -10 * noise.log10() > 28  # dB


def test_the_preview_shows_the_picture(host: Host) -> None:
    """The linear preview of a latent is the picture's mean colour per cell."""
    from latent_preview import Latent2RGBPreviewer

    graph = Graph()
    models = graph.add("RealCompoDemoModels", style="photo")
    loaded = host.run(graph, model=models[0], vae=models[2])
    true = paint([RED], "photo", torch.Generator().manual_seed(0))
    with torch.inference_mode():
        latent = loaded["vae"].encode(
            torch.nn.functional.interpolate(true, scale_factor=2).movedim(1, -1)
        )
        form = loaded["model"].model.latent_format
        preview = Latent2RGBPreviewer(
            form.latent_rgb_factors, form.latent_rgb_factors_bias
        ).decode_latent_to_preview(latent)
    shown = (
        torch.frombuffer(bytearray(preview.tobytes()), dtype=torch.uint8)
        .view(16, 16, 3)
        .permute(2, 0, 1)
        / 255
    )
    torch.testing.assert_close(shown, torch.nn.functional.avg_pool2d(true, 4)[0], atol=0.05, rtol=0)


@pytest.mark.parametrize(("spatial", "least"), [("control", 0.75), ("gligen", 0.9)])
def test_the_spatial_branch_puts_objects_into_their_boxes(
    host: Host, spatial: str, least: float
) -> None:
    placed = []
    for seed, one in enumerate(
        p for p in prompts("development", 18) if p.category in ("colour", "spatial", "complex")
    ):
        bench = PromptGraph(one, seed, spatial=spatial)
        found = read(picture(host, bench, bench.picture(bench.sample(Arm("", stock="spatial"))))[0])
        placed += [
            any(
                f.kind == t.kind and abs(f.centre[0] - t.x) + abs(f.centre[1] - t.y) < 0.15
                for f in found.things
            )
            for t in one.scene.things
        ]
    assert sum(placed) / len(placed) >= least


@pytest.mark.parametrize(("mode", "stock"), [("text only", "text"), ("spatial only", "spatial")])
@pytest.mark.parametrize("spatial", ["control", "gligen"])
def test_one_sided_modes_equal_the_stock_sampler(
    host: Host, prompt: Prompt, spatial: str, mode: str, stock: str
) -> None:
    bench = PromptGraph(prompt, 3, spatial=spatial)
    latents = host.run(
        bench, ours=bench.sample(Arm("", {"mode": mode})), theirs=bench.sample(Arm("", stock=stock))
    )
    assert torch.equal(latents["ours"]["samples"], latents["theirs"]["samples"])


def test_a_dynamic_run_repeats_bit_for_bit_and_moves_the_balance(
    fresh: Host, prompt: Prompt
) -> None:
    def sampled() -> torch.Tensor:
        bench = PromptGraph(prompt, 3)
        out = fresh.run(bench, latent=bench.sample(Arm("")))["latent"]["samples"]
        fresh.forget()
        return out

    bench = PromptGraph(prompt, 3)
    frozen = fresh.run(bench, latent=bench.sample(Arm("", {"step_scale": 0.0, "release": 0.0})))[
        "latent"
    ]["samples"]
    first = sampled()
    assert torch.equal(first, sampled())
    assert not torch.equal(first, frozen)


def test_painted_boxes_need_a_colour_of_the_world(host: Host) -> None:
    graph = Graph()
    layout = graph.add("RealCompoLayout", layout="a corgi: 0.1 0.1 0.5 0.5")[0]
    image = graph.add("RealCompoDemoPaintedBoxes", layout=layout, size=128)[0]
    with pytest.raises(
        PromptError, match="RealCompo Demo Painted Boxes, layout: expected a phrase with a colour"
    ):
        host.run(graph, image=image)


def test_painted_boxes_stand_where_the_layout_says(host: Host) -> None:
    graph = Graph()
    data = {"version": 1, "objects": [{"phrase": "two azure rings", "box": [0.25, 0.5, 0.75, 1.0]}]}
    layout = graph.add("RealCompoLayout", layout=json.dumps(data))[0]
    image = host.run(
        graph, image=graph.add("RealCompoDemoPaintedBoxes", layout=layout, size=64)[0]
    )["image"][0]
    expected = torch.zeros(64, 64, dtype=torch.bool)
    expected[32:, 16:48] = True
    assert torch.equal(image.amax(-1) > 0, expected)
    assert image[40, 20].argmax() == 2  # blue
