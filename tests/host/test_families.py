"""The guarantees of the other host tests, on every family and every kind of prediction."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from testkit.controls import add_controlnet
from testkit.host import Host, PromptError
from testkit.live_run import pull_agrees_with_finite_difference
from testkit.one_sided import assert_limits
from testkit.random_models import SD15, SD21, SDXL
from testkit.scene import VARIANTS, Scene

KINDS = list(VARIANTS)


@pytest.mark.parametrize("kind", KINDS)
def test_one_sided_weights_are_the_stock_sampler(host: Host, kind: str) -> None:
    assert_limits(host, Scene.of(kind), steps=2)


@pytest.mark.parametrize(
    ("kind", "sampler", "steps"), [("lcm", "lcm", 4), ("sdxl", "euler_ancestral", 8)]
)
def test_distilled_models_without_negatives(
    host: Host, kind: str, sampler: str, steps: int
) -> None:
    """Few steps at cfg 1: limits and balance."""
    sampling = {"steps": steps, "cfg": 1.0, "sampler_name": sampler, "scheduler": "sgm_uniform"}
    scene = Scene.of(kind)
    assert_limits(host, scene, **sampling)
    ours = scene.realcompo({"warmup": 0.25}, **sampling)
    trace = host.run(scene, latent=ours[0], trace=ours[1])["trace"]
    assert (
        len(trace.losses()) == steps - 1
    )  # all of the warm-up, and what each blended step but the last has led to
    assert trace.rows["text"] == steps - steps // 4 and trace.rows["spatial"] == steps


@pytest.mark.parametrize("kind", KINDS)
def test_a_balanced_run_leaves_nothing_behind(host: Host, kind: str) -> None:
    """Every weight is the same object as before, and the next stock image the same image."""
    host.forget()
    scene = Scene.of(kind, width=96, height=64)
    loaded = host.run(scene, model=scene.model)["model"]
    stock = host.run(scene, latent=scene.stock(steps=2)[0])["latent"]["samples"]
    weights = [
        (id(t), t.data_ptr(), t.is_inference(), t.requires_grad) for t in loaded.model.parameters()
    ]
    ours = scene.realcompo()
    out = host.run(scene, latent=ours[0], trace=ours[1])
    assert out["latent"]["samples"].isfinite().all() and len(out["trace"].losses()) == 2
    assert weights == [
        (id(t), t.data_ptr(), t.is_inference(), t.requires_grad) for t in loaded.model.parameters()
    ]
    host.functions["same"] = lambda value: value
    again = scene.stock(model=scene.apply(scene.model, "same"), steps=2)
    assert torch.equal(stock, host.run(scene, latent=again[0])["latent"]["samples"])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_agree_with_finite_differences(host: Host, kind: str) -> None:
    assert pull_agrees_with_finite_difference(host, Scene.of(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_changes_the_image(host: Host, kind: str) -> None:
    scene = Scene.of(kind)
    model = scene.add(
        "RealCompoLayoutGuidance",
        model=scene.model,
        scale=30.0,
        threshold=0.0,
        iterations=1,
        start=0.0,
        end=1.0,
    )[0]
    out = host.run(
        scene, stock=scene.stock(steps=2)[0], guided=scene.stock(model=model, steps=2)[0]
    )
    stock, guided = out["stock"]["samples"], out["guided"]["samples"]
    assert guided.isfinite().all() and not torch.equal(stock, guided)


@pytest.mark.parametrize("family", [SD21, SDXL], ids=["sd2", "sdxl"])
def test_a_controlnet_of_the_family(host: Host, family: object) -> None:
    scene = Scene.of("sd2 v" if family is SD21 else "sdxl")
    add_controlnet(scene, family.controlnet)
    assert_limits(host, scene, steps=2)
    assert pull_agrees_with_finite_difference(host, scene)


def test_sizes_and_crops_reach_both_branches(host: Host) -> None:
    """SDXL's own inputs, as its text node writes them into the conditioning."""

    def cropped(conditioning: list) -> list:
        import node_helpers

        return node_helpers.conditioning_set_values(
            conditioning, {"crop_w": 256, "width": 2048, "height": 512}
        )

    host.functions["cropped"] = cropped
    scene = Scene.of("sdxl")
    plain = scene.stock(scene.spatial)
    scene.spatial = scene.apply(scene.spatial, "cropped")
    cropped_image = scene.stock(scene.spatial)
    assert_limits(host, scene)
    out = host.run(scene, plain=plain[0], cropped=cropped_image[0])
    assert not torch.equal(out["plain"]["samples"], out["cropped"]["samples"])


PAIRS = [
    ("eps", "v_prediction", False),
    ("eps", "v_prediction", True),
    ("lcm", "eps", False),
    ("x0", "eps", False),
]


@pytest.mark.parametrize(("text", "spatial", "zsnr"), PAIRS)
def test_a_pair_of_different_samplings_blends_at_one_sigma(
    host: Host, text: str, spatial: str, zsnr: bool
) -> None:
    """One Euler step at equal weights is the mean of both models' own steps between the same two
    sigmas.
    """
    scene = Scene.of("sd1")
    models = {"text": scene.predicting(text), "spatial": scene.predicting(spatial, zsnr)}
    sigmas = second_of(scene, models["text"])
    stock = {
        name: one_step(
            scene,
            sigmas,
            scene.add(
                "CFGGuider",
                model=model,
                positive=getattr(scene, name),
                negative=scene.negative,
                cfg=4.0,
            )[0],
        )
        for name, model in models.items()
    }
    guider = scene.add(
        "RealCompoGuider",
        model=models["text"],
        spatial_model=models["spatial"],
        cfg=4.0,
        positive=scene.text,
        spatial_positive=scene.spatial,
        negative=scene.negative,
        balancer=scene.balancer(mode="fixed"),
    )[0]
    out = {
        k: v["samples"]
        for k, v in host.run(scene, **stock, blended=one_step(scene, sigmas, guider)).items()
    }
    assert not torch.equal(out["text"], out["spatial"])
    torch.testing.assert_close(
        out["blended"], mean(out["text"], out["spatial"]), rtol=1e-4, atol=1e-3
    )


def test_a_pair_of_different_samplings_balances(host: Host) -> None:
    scene = Scene.of("sd1")
    ours = scene.realcompo(spatial_model=scene.predicting("v_prediction", zsnr=True))
    out = host.run(scene, latent=ours[0], trace=ours[1])
    assert out["latent"]["samples"].isfinite().all()
    assert out["trace"].losses()[0]["text"] != out["trace"].losses()[0]["spatial"]


def second_of(scene: Scene, model: list) -> list:
    """The sigmas of a model's second step of four.

    At the first one, models scale their noise each in its own way.
    """
    sigmas = scene.add("BasicScheduler", model=model, scheduler="normal", steps=4, denoise=1.0)[0]
    later = scene.add("SplitSigmas", sigmas=sigmas, step=1)[1]
    return scene.add("SplitSigmas", sigmas=later, step=1)[0]


def one_step(scene: Scene, sigmas: list, guider: list) -> list:
    noise = scene.add("RandomNoise", noise_seed=7)[0]
    sampler = scene.add("KSamplerSelect", sampler_name="euler")[0]
    return scene.add(
        "SamplerCustomAdvanced",
        noise=noise,
        guider=guider,
        sampler=sampler,
        sigmas=sigmas,
        latent_image=scene.latent,
    )[0]


def mean(one: Tensor, other: Tensor) -> Tensor:
    return (one + other) / 2


def test_families_with_different_latents_are_refused(host: Host) -> None:
    scene = Scene.of("sdxl")
    other = scene.add("CheckpointLoaderSimple", ckpt_name=SD15.checkpoint)[0]
    ours = scene.realcompo(spatial_model=other)
    with pytest.raises(PromptError, match="latent format, got SDXL and SD15"):
        host.run(scene, latent=ours[0])
