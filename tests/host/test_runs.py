"""Runs by themselves: whose trace is whose, sigmas of any order, and layouts side by side."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from testkit.host import Host, PromptError
from testkit.live_run import relative
from testkit.scene import GLIGEN, PROMPT, Scene

SIZE = {"width": 64, "height": 64}


def guider_of(scene: Scene, **settings: Any) -> tuple[list, list]:
    """A RealCompo Guider and its trace."""
    guider = scene.add(
        "RealCompoGuider",
        model=scene.model,
        positive=scene.text,
        negative=scene.negative,
        spatial_positive=scene.spatial,
        cfg=4.0,
        balancer=scene.balancer(**settings),
    )
    return guider[0], guider[1]


def sampled(scene: Scene, guider: list, sigmas: list | None = None, seed: int = 7) -> list:
    """The latent that a guider makes by SamplerCustomAdvanced."""
    if sigmas is None:
        schedule = {"scheduler": "normal", "steps": 3, "denoise": 1.0}
        sigmas = scene.add("BasicScheduler", model=scene.model, **schedule)[0]
    return scene.add(
        "SamplerCustomAdvanced",
        noise=scene.add("RandomNoise", noise_seed=seed)[0],
        guider=guider,
        sampler=scene.add("KSamplerSelect", sampler_name="euler")[0],
        sigmas=sigmas,
        latent_image=scene.latent,
    )[0]


def test_a_preview_shows_the_run_of_its_own_sampler(fresh: Host) -> None:
    """One guider may feed several samplers; they all run before anything is shown."""
    scene = Scene(**SIZE)
    guider, trace = guider_of(scene, step_scale=4.0)
    latents = [sampled(scene, guider, seed=seed) for seed in (7, 8)]
    fresh.run(scene, first=latents[0], second=latents[1])
    shown = []
    for latent in latents:
        preview = scene.add("RealCompoTracePreview", trace=trace, latent=latent, sample=0)
        shown.append(fresh.run(scene, weights=preview[3])["weights"])
    alone = []
    for seed in (7, 8):
        fresh.forget()
        other = Scene(**SIZE)
        guider, trace = guider_of(other, step_scale=4.0)
        latent = sampled(other, guider, seed=seed)
        preview = other.add("RealCompoTracePreview", trace=trace, latent=latent, sample=0)
        alone.append(fresh.run(other, weights=preview[3])["weights"])
    assert not torch.equal(*alone)
    assert torch.equal(shown[0], alone[0]) and torch.equal(shown[1], alone[1])


def test_captured_attention_is_that_of_its_own_sampler(fresh: Host) -> None:
    scene = Scene(**SIZE)
    reading = {"conditioning": scene.text, "downsample": 0, "layers": "all"}
    watched = scene.add("RealCompoAttentionCapture", model=scene.model, **reading)
    latents = [scene.stock(model=watched[0], seed=seed)[0] for seed in (7, 8)]
    out = fresh.run(scene, first=latents[0], second=latents[1], maps=watched[1])
    runs = [out["maps"].of(out[name]["samples"]) for name in ("first", "second")]
    assert runs[0] is not runs[1]
    assert any(run is out["maps"] for run in runs)  # the host runs them in any order
    assert [len(run.steps) for run in runs] == [3, 3]
    found = [run.steps[-1].readings["model"][0].attention for run in runs]
    assert not torch.equal(*found)


# Sigmas that ascend: as FlipSigmas makes them, and as restarts put noise back.
SIGMAS = {
    "flipped": [0.1, 1.0, 4.0, 14.0],
    "restarted": [14.0, 4.0, 1.0, 4.0, 1.0, 0.0],
}


@pytest.mark.parametrize("values", SIGMAS.values(), ids=SIGMAS)
def test_one_branch_takes_any_sigmas_as_the_stock_sampler_does(host: Host, values: list) -> None:
    host.functions["sigmas"] = lambda _: torch.tensor(values)
    scene = Scene(**SIZE)
    sigmas = scene.apply(scene.latent, "sigmas")
    modes = {"text only": scene.text, "spatial only": scene.spatial}
    for mode, positive in modes.items():
        conds = {"positive": positive, "negative": scene.negative}
        stock = scene.add("CFGGuider", model=scene.model, cfg=4.0, **conds)[0]
        ours = guider_of(scene, mode=mode)[0]
        links = {"stock": sampled(scene, stock, sigmas), "ours": sampled(scene, ours, sigmas)}
        out = host.run(scene, **links)
        assert torch.equal(out["stock"]["samples"], out["ours"]["samples"])


@pytest.mark.parametrize("mode", ["dynamic", "fixed"])
def test_two_branches_refuse_sigmas_that_ascend(host: Host, mode: str) -> None:
    host.functions["sigmas"] = lambda _: torch.tensor(SIGMAS["restarted"])
    scene = Scene(**SIZE)
    sigmas = scene.apply(scene.latent, "sigmas")
    with pytest.raises(PromptError, match="RealCompo Guider, sigmas") as caught:
        host.run(scene, latent=sampled(scene, guider_of(scene, mode=mode)[0], sigmas))
    assert "text only" in str(caught.value)


def two_layouts(scene: Scene) -> dict[str, list]:
    """Both branches' positives, each of two layouts side by side: two objects, then one."""
    layout = scene.add("RealCompoLayout", layout="a dog: 0.1 0.1 0.9 0.4")[0]
    other = scene.add(
        "RealCompoLayoutConditioning", clip=scene.clip, text="a dog in a park", layout=layout
    )
    combined = {}
    for name, first, second in (
        ("positive", scene.text, other[0]),
        ("spatial_positive", scene.spatial, other[1]),
    ):
        pair = {"conditioning_1": first, "conditioning_2": second}
        combined[name] = scene.add("ConditioningCombine", **pair)[0]
    return combined


def test_two_layouts_have_weights_for_all_their_objects(host: Host) -> None:
    """A weight of 0 leaves an object out, whichever layout it is in; the trace has them all."""
    gradients = {}
    for weights in ("", "1, 1, 1", "1, 1, 0", "0, 0, 1"):
        scene = Scene(**SIZE)
        settings = {"online": False, "object_weights": weights}
        ours = scene.realcompo(settings, steps=2, **two_layouts(scene))
        out = host.run(scene, latent=ours[0], trace=ours[1])
        gradients[weights] = out["trace"].steps[0].weight
        phrases = [placed.phrase for placed in out["trace"].layout.objects]
        assert phrases == ["a red cube", "a blue ball", "a dog"]
    assert torch.equal(gradients[""], gradients["1, 1, 1"])
    assert not torch.equal(gradients["1, 1, 0"], gradients["1, 1, 1"])
    assert not torch.equal(gradients["1, 1, 0"], gradients["0, 0, 1"])


def test_two_layouts_need_as_many_weights_as_objects(host: Host) -> None:
    scene = Scene(**SIZE, gligen=False)
    ours = scene.realcompo({"object_weights": "1, 2"}, **two_layouts(scene))
    with pytest.raises(PromptError, match="object_weights: expected 3 numbers, got 2"):
        host.run(scene, latent=ours[0])


RIGHT_HALF = {"width": 64, "height": 128, "x": 64, "y": 0, "strength": 1.0}


@pytest.mark.parametrize("mode", ["spatial only", "fixed"])
def test_gligens_boxes_stand_where_the_layout_has_them_also_in_an_area(
    host: Host, mode: str
) -> None:
    """As the stock sampler has them of a layout that is written for the area alone."""
    scene = Scene(width=128, height=128)  # a ball in the right half, a cube that is outside of it
    ball = scene.add("RealCompoLayout", layout="a blue ball: 0.1 0.30 0.9 0.90")[0]
    gligen = scene.add("GLIGENLoader", gligen_name=GLIGEN)[0]
    inputs = {"clip": scene.clip, "text": PROMPT, "gligen": gligen}
    own = scene.add("RealCompoLayoutConditioning", layout=ball, **inputs)[1]
    areas = [
        scene.add("ConditioningSetArea", conditioning=found, **RIGHT_HALF)[0]
        for found in (scene.spatial, own)
    ]
    settings = {"mode": mode, "text_weight": 0.0}
    latents = {
        "ours": scene.realcompo(settings, spatial_positive=areas[0], steps=2)[0],
        "stock": scene.stock(areas[1], steps=2)[0],
        "whole": scene.stock(areas[0], steps=2)[0],
    }
    out = {name: latent["samples"] for name, latent in host.run(scene, **latents).items()}
    assert relative(out["ours"], out["stock"]) < 1e-4 < relative(out["whole"], out["stock"])
