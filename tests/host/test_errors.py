"""Bad input: one clear message that names the node and the field, and the next prompt runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from testkit.host import Host, PromptError
from testkit.scene import LAYOUT, Scene

SIZE = {"width": 64, "height": 64}


def message(host: Host, build: Callable[[], tuple[Scene, list]]) -> str:
    """The error of a prompt; then a good prompt must still run."""
    host.forget()
    scene, wanted = build()
    with pytest.raises(PromptError) as caught:
        host.run(scene, wanted=wanted)
    good = Scene(**SIZE)
    assert host.run(good, latent=good.realcompo(steps=2)[0])["latent"]["samples"].isfinite().all()
    return str(caught.value)


def layout_json(box: Any, phrase: str = "a red cube") -> str:
    return json.dumps({"version": 1, "objects": [{"phrase": phrase, "box": box}]})


LAYOUTS = {
    "broken JSON": ('{"objects": [', "JSON"),
    "a line that is none": ("a red cube 0.1 0.2", "phrase: left top right bottom"),
    "a box outside": (layout_json([0.1, 0.2, 1.5, 0.9]), "between 0 and 1"),
    "a box without area": (layout_json([0.1, 0.2, 0.1, 0.9]), "area"),
    "swapped corners": (layout_json([0.9, 0.2, 0.1, 0.9]), "Swap"),
    "an empty phrase": (layout_json([0.1, 0.2, 0.5, 0.9], " "), "phrase"),
    "no objects": ("", "1 to"),
}


@pytest.mark.parametrize(("text", "part"), LAYOUTS.values(), ids=LAYOUTS)
def test_bad_layouts(host: Host, text: str, part: str) -> None:
    def build() -> tuple[Scene, list]:
        scene = Scene(**SIZE, layout=text)
        return scene, scene.layout

    error = message(host, build)
    assert error.startswith("RealCompo Layout,") and part in error


def test_a_phrase_that_is_not_in_the_prompt_shows_the_tokens(host: Host) -> None:
    def build() -> tuple[Scene, list]:
        scene = Scene(**SIZE, prompt="a green cone")
        return scene, scene.text

    error = message(host, build)
    assert error.startswith("RealCompo Layout Conditioning,")
    assert "'a red cube'" in error and "a[1] green[2] cone[3]" in error


def test_too_many_boxes_for_gligen(host: Host) -> None:
    def build() -> tuple[Scene, list]:
        lines = [f"a red cube: {i / 40} 0 {i / 40 + 0.02} 1" for i in range(31)]
        scene = Scene(**SIZE, layout="\n".join(lines))
        return scene, scene.spatial

    error = message(host, build)
    assert "at most 30 objects with GLIGEN, got 31" in error


def test_a_conditioning_without_a_layout(host: Host) -> None:
    def build() -> tuple[Scene, list]:
        scene = Scene(**SIZE)
        return scene, scene.realcompo(spatial_positive=scene.negative)[0]

    error = message(host, build)
    assert (
        error.startswith("RealCompo KSampler, spatial positive:") and "Layout Conditioning" in error
    )


def patched(host: Host, scene: Scene, change: Callable[[Any], None]) -> list:
    """The scene's model with its object patches changed."""

    def apply(model: Any) -> Any:
        clone = model.clone()
        change(clone)
        return clone

    host.functions["patched"] = apply
    return scene.apply(scene.model, "patched")


def test_different_latent_formats(host: Host) -> None:
    def build() -> tuple[Scene, list]:
        import comfy.latent_formats

        scene = Scene(**SIZE)
        other = patched(
            host, scene, lambda m: m.add_object_patch("latent_format", comfy.latent_formats.SDXL())
        )
        return scene, scene.realcompo(spatial_model=other)[0]

    error = message(host, build)
    assert "latent format" in error and "SD15 and SDXL" in error


def test_v_prediction_beside_eps_is_allowed(host: Host) -> None:
    scene = Scene(**SIZE)
    other = scene.add(
        "ModelSamplingDiscrete", model=scene.model, sampling="v_prediction", zsnr=False
    )[0]
    ours = scene.realcompo({"mode": "fixed", "text_weight": 0.0}, spatial_model=other)
    stock = scene.stock(scene.spatial, model=other)
    out = host.run(scene, ours=ours[0], stock=stock[0])
    assert torch.equal(out["ours"]["samples"], out["stock"]["samples"])


def test_a_family_whose_attention_cannot_be_read_is_named(host: Host) -> None:
    def build() -> tuple[Scene, list]:
        def foreign(model: Any) -> Any:
            clone = model.clone()

            class Flux(torch.nn.Module):
                latent_format, model_sampling = (
                    model.model.latent_format,
                    model.model.model_sampling,
                )
                diffusion_model, device = torch.nn.Identity(), None

            clone.model = Flux()
            return clone

        host.functions["foreign"] = foreign
        scene = Scene(**SIZE)
        return scene, scene.realcompo(model=scene.apply(scene.model, "foreign"))[0]

    error = message(host, build)
    assert "text model" in error and "Flux" in error and "SDXL" in error


def test_a_model_that_predicts_nan(host: Host) -> None:
    def build() -> tuple[Scene, list]:
        scene = Scene(**SIZE)
        nan = patched(
            host,
            scene,
            lambda m: m.set_model_output_block_patch(lambda h, hsp, _: (h * float("nan"), hsp)),
        )
        return scene, scene.realcompo(spatial_model=nan)[0]

    error = message(host, build)
    assert error.startswith("RealCompo KSampler, spatial model:") and "NaN" in error


def test_settings_out_of_range_never_reach_the_sampler(host: Host) -> None:
    def build() -> tuple[Scene, list]:
        scene = Scene(**SIZE)
        return scene, scene.realcompo({"warmup": 1.5})[0]

    assert "warmup" in message(host, build)


def test_attention_layers_that_are_not_there(host: Host) -> None:
    def build() -> tuple[Scene, list]:
        scene = Scene(**SIZE)
        return scene, scene.realcompo({"downsample": 3})[0]

    error = message(host, build)
    assert "downsample" in error and "[1, 2, 4]" in error


def test_sigmas_that_ascend(host: Host) -> None:
    def build() -> tuple[Scene, list]:
        scene = Scene(**SIZE)
        guider = scene.add(
            "RealCompoGuider",
            model=scene.model,
            positive=scene.text,
            negative=scene.negative,
            spatial_positive=scene.spatial,
            cfg=7.5,
        )[0]
        sigmas = scene.add(
            "BasicScheduler", model=scene.model, scheduler="normal", steps=3, denoise=1.0
        )[0]
        flipped = scene.add("FlipSigmas", sigmas=sigmas)[0]
        noise = scene.add("RandomNoise", noise_seed=7)[0]
        sampler = scene.add("KSamplerSelect", sampler_name="euler")[0]
        return scene, scene.add(
            "SamplerCustomAdvanced",
            noise=noise,
            guider=guider,
            sampler=sampler,
            sigmas=flipped,
            latent_image=scene.latent,
        )[0]

    assert message(host, build).startswith(
        "RealCompo Guider, sigmas: expected noise levels that descend"
    )


def test_nothing_left_to_denoise(host: Host) -> None:
    scene = Scene(**SIZE)
    assert (
        host.run(scene, latent=scene.realcompo(denoise=0.0)[0])["latent"]["samples"].count_nonzero()
        == 0
    )


def test_a_sample_beyond_the_batch(host: Host) -> None:
    def build() -> tuple[Scene, list]:
        scene = Scene(**SIZE)
        ours = scene.realcompo(steps=2)
        return scene, scene.add("RealCompoTracePreview", trace=ours[1], sample=3)[0]

    assert "less than the batch size 1, got 3" in message(host, build)


def test_a_patch_without_a_backward_is_told(host: Host) -> None:
    def build() -> tuple[Scene, list]:
        def no_backward(
            q: torch.Tensor, context: torch.Tensor, value: torch.Tensor, options: dict
        ) -> tuple:
            return q.detach(), context, value

        scene = Scene(**SIZE, layout=LAYOUT)
        model = patched(host, scene, lambda m: m.set_model_attn2_patch(no_backward))
        return scene, scene.realcompo({"layers": "down"}, model=model)[0]

    error = message(host, build)
    assert error.startswith("RealCompo KSampler, text model:") and "gradient" in error


def test_a_sampler_that_upscales_on_its_way(host: Host) -> None:
    def build() -> tuple[Scene, list]:
        scene = Scene(**SIZE)
        guider = scene.add(
            "RealCompoGuider",
            model=scene.model,
            positive=scene.text,
            negative=scene.negative,
            spatial_positive=scene.spatial,
            cfg=7.5,
            balancer=scene.balancer(),
        )[0]
        sigmas = scene.add(
            "BasicScheduler", model=scene.model, scheduler="normal", steps=3, denoise=1.0
        )[0]
        sampler = scene.add(
            "SamplerLCMUpscale", scale_ratio=2.0, scale_steps=-1, upscale_method="bislerp"
        )[0]
        done = scene.add(
            "SamplerCustomAdvanced",
            noise=scene.add("RandomNoise", noise_seed=7)[0],
            guider=guider,
            sampler=sampler,
            sigmas=sigmas,
            latent_image=scene.latent,
        )
        return scene, done[0]

    said = message(host, build)
    assert "RealCompo Guider" in said and "latents of one size" in said and "8 x 8 cells" in said
