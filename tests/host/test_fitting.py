"""What does not fit together is named before anything is sampled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from testkit.controls import add_controlnet
from testkit.host import Host, PromptError
from testkit.random_models import SD21, SDXL
from testkit.scene import GLIGEN, PROMPT, Scene

SIZE = {"width": 64, "height": 64}


def refused(host: Host, build: Callable[[], tuple[Scene, list]]) -> str:
    """What the user is told, and that no model was evaluated before it."""
    import comfy.samplers

    evaluate, evaluated = comfy.samplers.calc_cond_batch, []
    comfy.samplers.calc_cond_batch = lambda *args: evaluated.append(1) or evaluate(*args)
    host.forget()
    try:
        scene, link = build()
        with pytest.raises(PromptError) as caught:
            host.run(scene, latent=link)
    finally:
        comfy.samplers.calc_cond_batch = evaluate
    assert not evaluated
    return str(caught.value)


def foreign_prompt(scene: Scene) -> list:
    """The negative prompt by another family's CLIP."""
    clip = scene.add("CheckpointLoaderSimple", ckpt_name=SD21.checkpoint)[1]
    return scene.add("CLIPTextEncode", clip=clip, text="blurry")[0]


@pytest.mark.parametrize("field", ["positive", "negative", "spatial_negative", "spatial_positive"])
def test_a_prompt_of_another_familys_clip(host: Host, field: str) -> None:
    def build() -> tuple[Scene, list]:
        scene = Scene(**SIZE)
        settings = {"mode": "fixed"}  # which needs no layout
        return scene, scene.realcompo(settings, **{field: foreign_prompt(scene)})[0]

    error = refused(host, build)
    named = field.replace("_", " ") if "spatial" in field else f"text {field}"
    assert error.startswith(f"RealCompo KSampler, {named}: expected a prompt")
    assert "SD1.5 (768 values a token), got one for SD2 (1024" in error and "CLIP" in error


def test_an_empty_spatial_negative_beside_another_familys_model(host: Host) -> None:
    def build() -> tuple[Scene, list]:
        scene = Scene(**SIZE)
        loaded = scene.add("CheckpointLoaderSimple", ckpt_name=SD21.checkpoint)
        spatial = scene.add(
            "RealCompoLayoutConditioning", clip=loaded[1], text=PROMPT, layout=scene.layout
        )
        inputs = {"spatial_model": loaded[0], "spatial_positive": spatial[1]}
        return scene, scene.realcompo(**inputs)[0]

    error = refused(host, build)
    assert error.startswith("RealCompo KSampler, spatial negative:")
    assert "spatial_negative is empty" in error


def test_one_sided_modes_look_at_their_branch_alone(host: Host) -> None:
    def build() -> tuple[Scene, list]:
        scene = Scene(**SIZE)
        settings = {"mode": "spatial only"}
        return scene, scene.realcompo(settings, spatial_negative=foreign_prompt(scene))[0]

    assert refused(host, build).startswith("RealCompo KSampler, spatial only negative:")
    scene = Scene(**SIZE)
    ours = scene.realcompo({"mode": "text only"}, spatial_negative=foreign_prompt(scene), steps=1)
    host.run(scene, latent=ours[0])


@pytest.mark.parametrize("family", [SD21, SDXL], ids=["sd2.1", "sdxl"])
def test_gligen_of_another_family(host: Host, family: Any) -> None:
    def build() -> tuple[Scene, list]:
        scene = Scene(**SIZE, gligen=False, family=family)
        gligen = scene.add("GLIGENLoader", gligen_name=GLIGEN)[0]
        inputs = {"clip": scene.clip, "text": PROMPT, "layout": scene.layout, "gligen": gligen}
        return scene, scene.add("RealCompoLayoutConditioning", **inputs)[1]

    error = refused(host, build)
    assert error.startswith("RealCompo Layout Conditioning, gligen: expected a CLIP whose texts")
    assert "768" in error and "SD1.5" in error


def test_gligen_in_a_conditioning_that_was_made_elsewhere(host: Host) -> None:
    def build() -> tuple[Scene, list]:
        scene = Scene(**SIZE, gligen=False, family=SD21)
        gligen = scene.add("GLIGENLoader", gligen_name=GLIGEN)[0]
        model = host.run(scene, gligen=gligen)["gligen"]
        boxes = "position", model, []
        host.functions["gligen"] = lambda conditioning: [
            (encoded, options | {"gligen": boxes}) for encoded, options in conditioning
        ]
        spatial = scene.apply(scene.spatial, "gligen")
        return scene, scene.realcompo(spatial_positive=spatial)[0]

    error = refused(host, build)
    assert error.startswith("RealCompo KSampler, spatial positive: expected a GLIGEN model for SD2")


def test_a_controlnet_of_another_family(host: Host) -> None:
    def build() -> tuple[Scene, list]:
        scene = Scene(**SIZE, gligen=False)
        add_controlnet(scene)
        add_controlnet(scene, SD21.controlnet)
        return scene, scene.realcompo()[0]

    error = refused(host, build)
    assert error.startswith("RealCompo KSampler, spatial positive: expected a ControlNet for SD1.5")


@pytest.mark.parametrize(
    ("shape", "got"), [((1, 16, 8, 8), "16 channels"), ((1, 16, 5, 8, 8), "of a video")]
)
@pytest.mark.parametrize("mode", ["dynamic", "text only"])
def test_a_latent_of_another_kind_of_model(host: Host, shape: tuple, got: str, mode: str) -> None:
    def build() -> tuple[Scene, list]:
        import torch

        host.functions["latent"] = lambda _: {"samples": torch.ones(shape)}
        scene = Scene(**SIZE)
        latent = scene.apply(scene.latent, "latent")
        return scene, scene.realcompo({"mode": mode}, latent_image=latent)[0]

    error = refused(host, build)
    assert error.startswith("RealCompo KSampler, latent_image: expected a latent of 4 channels")
    assert got in error


@pytest.mark.parametrize("mode", ["dynamic", "fixed", "text only"])
def test_sigmas_that_are_no_numbers(host: Host, mode: str) -> None:
    def build() -> tuple[Scene, list]:
        scene = Scene(**SIZE)
        return scene, scene.realcompo({"mode": mode}, scheduler="kl_optimal", steps=1)[0]

    error = refused(host, build)
    assert error.startswith("RealCompo KSampler, sigmas: expected noise levels that are numbers")
    assert "nan" in error and "scheduler" in error


@pytest.mark.parametrize("node", ["ConditioningConcat", "ConditioningAverage"])
def test_a_node_that_drops_the_layout_is_named(host: Host, node: str) -> None:
    def build() -> tuple[Scene, list]:
        scene = Scene(**SIZE)
        inputs = {"conditioning_to": scene.negative, "conditioning_from": scene.text}
        strength = {"conditioning_to_strength": 0.5} if node == "ConditioningAverage" else {}
        return scene, scene.realcompo(positive=scene.add(node, **inputs, **strength)[0])[0]

    error = refused(host, build)
    assert (
        error.startswith("RealCompo KSampler, text positive:") and "conditioning_to only" in error
    )
