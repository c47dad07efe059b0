"""Sampling through the real executor.

The limits are stock, bit for bit, and seeds decide everything.
"""

from __future__ import annotations

import re

import pytest
import torch

from testkit import comfyui
from testkit.controls import CONTROLS, Control
from testkit.host import Host
from testkit.one_sided import assert_limits
from testkit.random_models import small_model
from testkit.scene import PROMPT, Scene

# One of each kind: one stage, several stages, with a memory, with noise of its own, ODE solvers.
REPRESENTATIVES = ("euler", "dpm_2", "dpmpp_2m_sde", "uni_pc", "ddim")
CASES = {
    "img2img": {"denoise": 0.6, "steps": 4},
    "cfg 1": {"cfg": 1.0},
    "cfg_pp": {"sampler_name": "euler_cfg_pp"},
    "ancestral": {"sampler_name": "euler_ancestral"},
}


def sampler_names() -> list[str]:
    """The host's samplers, read from its source so that they can name tests before it boots."""
    source = (comfyui.folder() / "comfy" / "samplers.py").read_text()
    found = re.search(r"KSAMPLER_NAMES = \[(.*?)\]", source, re.DOTALL)
    assert found
    names = re.findall(r'"(\w+)"', found[1])
    # It chooses its own number of steps: minutes on random weights, by the same code as dpm_fast.
    names.remove("dpm_adaptive")
    return [*names, "ddim", "uni_pc", "uni_pc_bh2"]


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_one_sided_weights_are_the_stock_sampler(host: Host, name: str) -> None:
    assert_limits(host, Scene(width=64, height=64), sampler_name=name, steps=2)


@pytest.mark.parametrize("name", sampler_names())
def test_one_sided_weights_are_any_stock_sampler(host: Host, name: str) -> None:
    """On the smallest model and picture: what a sampler asks for does not depend on them."""
    host.functions["small"] = lambda _: small_model()
    scene = Scene(width=32, height=32, gligen=False)
    scene.model = scene.apply(scene.model, "small")
    scene.spatial = scene.tied(f"drawing of {PROMPT}")[1]
    assert_limits(host, scene, sampler_name=name, steps=2)


def test_the_spatial_branch_may_have_a_cfg_of_its_own(host: Host) -> None:
    scene = Scene(width=64, height=64)
    ours = {"cfg": 7.0, "spatial_cfg": 1.0}
    found = {
        "text": scene.realcompo({"mode": "fixed", "text_weight": 1.0}, **ours),
        "spatial": scene.realcompo({"mode": "fixed", "text_weight": 0.0}, **ours),
        "spatial only": scene.realcompo({"mode": "spatial only"}, **ours),
        "stock text": scene.stock(cfg=7.0),
        "stock spatial": scene.stock(scene.spatial, cfg=1.0),
    }
    out = {name: host.run(scene, x=links[0])["x"]["samples"] for name, links in found.items()}
    assert torch.equal(out["text"], out["stock text"])
    assert torch.equal(out["spatial"], out["stock spatial"])
    assert torch.equal(out["spatial only"], out["stock spatial"])
    trace = host.run(scene, trace=found["spatial"][1])["trace"]
    assert trace.rows["text"] == 2 * trace.rows["spatial"]


@pytest.mark.parametrize("sampling", CASES.values(), ids=CASES)
def test_one_sided_weights_are_stock_with_other_settings(host: Host, sampling: dict) -> None:
    scene = Scene(width=96, height=64, batch=2)
    scene.latent = scene.add(
        "VAEEncode",
        pixels=scene.add("EmptyImage", width=96, height=64, batch_size=2, color=9)[0],
        vae=scene.vae,
    )[0]
    assert_limits(host, scene, **sampling)


def test_one_sided_weights_are_stock_when_inpainting(host: Host) -> None:
    scene = Scene(width=64, height=64)
    pixels = scene.add("EmptyImage", width=64, height=64, batch_size=1, color=9)[0]
    encoded = scene.add("VAEEncode", pixels=pixels, vae=scene.vae)[0]
    mask = scene.add("SolidMask", value=1.0, width=32, height=64)[0]
    canvas = scene.add("SolidMask", value=0.0, width=64, height=64)[0]
    half = scene.add("MaskComposite", destination=canvas, source=mask, x=0, y=0, operation="add")[0]
    scene.latent = scene.add("SetLatentNoiseMask", samples=encoded, mask=half)[0]
    assert_limits(host, scene, sampler_name="ddim")


@pytest.mark.parametrize("kind", CONTROLS.values(), ids=CONTROLS)
def test_one_sided_weights_are_stock_with_a_controlnet(host: Host, kind: Control) -> None:
    scene = Scene(width=64, height=64, gligen=False)
    kind(host, scene)
    assert_limits(host, scene)


@pytest.mark.parametrize(("mode", "branch"), [("text only", "text"), ("spatial only", "spatial")])
def test_one_branch_alone_is_the_stock_sampler(host: Host, mode: str, branch: str) -> None:
    scene = Scene(width=64, height=64)
    stock = scene.stock(getattr(scene, branch))
    ours = scene.realcompo({"mode": mode})
    out = host.run(scene, stock=stock[0], ours=ours[0], trace=ours[1])
    assert torch.equal(out["stock"]["samples"], out["ours"]["samples"])
    assert set(out["trace"].rows) == {branch}


def test_the_guider_is_the_ksampler(host: Host) -> None:
    scene = Scene(width=64, height=64)
    latent, trace = guided(scene)
    out = host.run(scene, guider=latent, ksampler=scene.realcompo()[0], trace=trace)
    assert torch.equal(out["guider"]["samples"], out["ksampler"]["samples"])
    assert len(out["trace"].steps) == 3


@pytest.mark.parametrize("recipe", ["balanced", "paper", "official"])
def test_the_same_seed_is_the_same_image(fresh: Host, recipe: str) -> None:
    images, weights = [], []
    for seed in (7, 7, 8):
        fresh.forget()
        scene = Scene(width=64, height=64)
        ours = scene.realcompo({"recipe": recipe}, seed=seed)
        out = fresh.run(scene, latent=ours[0], trace=ours[1])
        images.append(out["latent"]["samples"])
        weights.append(out["trace"].steps[-1].weight)
    assert torch.equal(images[0], images[1]) and torch.equal(weights[0], weights[1])
    assert not torch.equal(images[0], images[2])


def test_the_global_random_state_is_not_touched(fresh: Host) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    scene = Scene(width=64, height=64)
    fresh.run(scene, latent=scene.realcompo({"recipe": "official"}, sampler_name="ddim")[0])
    assert torch.equal(before, torch.get_rng_state())


# The paper's raw step of 1e6 would also enlarge the rounding by which a batch differs from its
# images.
BATCHES = {
    "online": {"recipe": "balanced", "release": 4.0, "warmup": 0.34},
    "look-ahead": {"recipe": "balanced", "release": 4.0, "online": False},
    "paper": {"recipe": "paper", "step_scale": 1e-3},
    "official": {"recipe": "official", "step_scale": 1e-3},
}


@pytest.mark.parametrize("settings", BATCHES.values(), ids=BATCHES)
def test_a_balanced_batch_is_its_images_one_by_one(host: Host, settings: dict) -> None:
    """Each sample has its own balance and its own moves.

    To float tolerance: batches are computed in other order.
    """
    scene = Scene(width=64, height=64, batch=4)
    guided = scene.add(
        "RealCompoLayoutGuidance",
        model=scene.model,
        scale=30.0,
        threshold=0.0,
        iterations=1,
        start=0.0,
        end=0.4,
    )[0]
    ours = {"settings": settings, "spatial_model": guided}
    runs = {"batch": scene.realcompo(**ours)}
    for index in range(4):
        latent = scene.add("LatentFromBatch", samples=scene.latent, batch_index=index, length=1)[0]
        runs[str(index)] = scene.realcompo(**ours, latent_image=latent)
    wanted = {name: run[0] for name, run in runs.items()} | {
        f"trace {name}": run[1] for name, run in runs.items()
    }
    out = host.run(scene, **wanted)
    for index in range(4):
        together, alone = out["batch"]["samples"][index], out[str(index)]["samples"][0]
        assert torch.allclose(together, alone, rtol=1e-3, atol=1e-2)
        weights = [out[f"trace {name}"].steps[-1].weight for name in ("batch", str(index))]
        assert torch.allclose(weights[0][index], weights[1][0], atol=1e-3)


def test_progress_and_steps_are_reported(fresh: Host) -> None:
    scene = Scene(width=64, height=64)
    ways = {"online": {"warmup": 0.4}, "ahead": {"warmup": 0.4, "online": False}}
    traces = fresh.run(
        scene, **{name: scene.realcompo(settings, steps=5)[1] for name, settings in ways.items()}
    )
    read = {"online": [True, True, False, True, True], "ahead": [True, True, True, True, False]}
    for name, trace in traces.items():
        assert [step.index for step in trace.steps] == [0, 1, 2, 3, 4]
        assert [step.weight is None for step in trace.steps] == [True, True, False, False, False]
        assert [bool(step.readings) for step in trace.steps] == read[name]


def guided(scene: Scene) -> tuple[list, list]:
    """The same run as :meth:`Scene.realcompo` through SamplerCustomAdvanced."""
    guider = scene.add(
        "RealCompoGuider",
        model=scene.model,
        positive=scene.text,
        negative=scene.negative,
        spatial_positive=scene.spatial,
        cfg=7.5,
        balancer=scene.balancer(),
    )
    sigmas = scene.add(
        "BasicScheduler", model=scene.model, scheduler="normal", steps=3, denoise=1.0
    )[0]
    noise = scene.add("RandomNoise", noise_seed=7)[0]
    sampler = scene.add("KSamplerSelect", sampler_name="euler")[0]
    done = scene.add(
        "SamplerCustomAdvanced",
        noise=noise,
        guider=guider[0],
        sampler=sampler,
        sigmas=sigmas,
        latent_image=scene.latent,
    )
    return done[0], guider[1]
