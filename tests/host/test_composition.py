"""RealCompo beside what other nodes and packs do to models and conditionings."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from testkit.controls import add_controlnet
from testkit.host import Host
from testkit.live_run import inspect, relative
from testkit.scene import LORA, UNET_FILE, Scene

SIZE = {"width": 64, "height": 64}
WHOLE = {"strength": 1.0, "set_cond_area": "default"}
LAYERS = {"downsample": 0, "layers": "all"}
ONE_SIDED = {
    "text": {"mode": "fixed", "text_weight": 1.0},
    "spatial": {"mode": "fixed", "text_weight": 0.0},
}


def assert_sides(host: Host, scene: Scene, text_model: list, spatial_model: list) -> None:
    """With one-sided weights each branch gives its own model's stock image, and the two differ."""
    out = host.run(
        scene,
        stock_text=scene.stock(model=text_model)[0],
        stock_spatial=scene.stock(scene.spatial, model=spatial_model)[0],
        **{
            side: scene.realcompo(settings, model=text_model, spatial_model=spatial_model)[0]
            for side, settings in ONE_SIDED.items()
        },
    )
    images = {name: latent["samples"] for name, latent in out.items()}
    assert torch.equal(images["text"], images["stock_text"])
    assert torch.equal(images["spatial"], images["stock_spatial"])
    assert not torch.equal(images["text"], images["spatial"])


def lora(scene: Scene, strength: float) -> list:
    return scene.add(
        "LoraLoaderModelOnly", model=scene.model, lora_name=LORA, strength_model=strength
    )[0]


@pytest.mark.parametrize(("text", "spatial"), [(0.8, None), (None, 0.8), (0.8, -0.5), (0.8, 0.8)])
def test_loras_on_either_branch_of_one_checkpoint(
    fresh: Host, caplog: pytest.LogCaptureFixture, text: float | None, spatial: float | None
) -> None:
    scene = Scene(**SIZE)
    models = [
        scene.model if strength is None else lora(scene, strength) for strength in (text, spatial)
    ]
    with caplog.at_level(logging.INFO):
        assert_sides(fresh, scene, *models)
    copied = any("copying it" in record.message for record in caplog.records)
    assert copied == (text != spatial)


def test_a_lora_branch_balances_and_leaves_the_stock_model_alone(fresh: Host) -> None:
    scene = Scene(**SIZE)
    before = fresh.run(scene, latent=scene.stock()[0])["latent"]["samples"]
    ours = scene.realcompo(model=lora(scene, 0.8), spatial_model=scene.model)
    trace = fresh.run(scene, latent=ours[0], trace=ours[1])["trace"]
    assert trace.losses()[0]["text"] != trace.losses()[0]["spatial"]
    fresh.forget()
    again = Scene(**SIZE)
    assert torch.equal(before, fresh.run(again, latent=again.stock()[0])["latent"]["samples"])


def test_weight_hooks_on_one_branch(fresh: Host) -> None:
    scene = Scene(**SIZE)
    hooks = scene.add("CreateHookLoraModelOnly", lora_name=LORA, strength_model=0.8)[0]
    scene.spatial = scene.add(
        "ConditioningSetProperties",
        cond_NEW=scene.spatial,
        hooks=hooks,
        strength=1.0,
        set_cond_area="default",
    )[0]
    assert_sides(fresh, scene, scene.model, scene.model)
    ours = scene.realcompo()
    assert fresh.run(scene, trace=ours[1])["trace"].losses()


def test_two_checkpoints(fresh: Host) -> None:
    """Both models stay loaded beside each other; each gives its own image, and they balance."""
    scene = Scene(**SIZE)
    other = scene.add("UNETLoader", unet_name=UNET_FILE, weight_dtype="default")[0]
    assert_sides(fresh, scene, other, scene.model)
    ours = scene.realcompo(model=other, spatial_model=scene.model)
    trace = fresh.run(scene, trace=ours[1])["trace"]
    assert trace.losses()[0]["text"] != trace.losses()[0]["spatial"]


def test_scheduled_hooks_on_both_branches(fresh: Host) -> None:
    """A hook's strength changes over the steps.

    What one branch does to it the other must not see.
    """
    scene = Scene(**SIZE)
    hooks = scene.add("CreateHookLoraModelOnly", lora_name=LORA, strength_model=1.0)[0]
    first = scene.add("CreateHookKeyframe", strength_mult=0.2, start_percent=0.0)[0]
    frames = scene.add(
        "CreateHookKeyframe", strength_mult=1.0, start_percent=0.3, prev_hook_kf=first
    )[0]
    scheduled = scene.add("SetHookKeyframes", hooks=hooks, hook_kf=frames)[0]
    for branch in ("text", "spatial"):
        plain = getattr(scene, branch)
        hooked = scene.add("ConditioningSetProperties", cond_NEW=plain, hooks=scheduled, **WHOLE)
        setattr(scene, branch, hooked[0])
    assert_sides(fresh, scene, scene.model, scene.model)


class Attn2Replace:
    """An attn2 replacement as IPAdapter's.

    It adds to attention, and takes further callbacks by ``add``.
    """

    def __init__(self) -> None:
        self.calls, self.callbacks = 0, []

    def __deepcopy__(self, memo: dict) -> Attn2Replace:
        return self  # the host copies model options with every clone; count in one place

    def add(self, callback: Any, **kwargs: Any) -> None:
        self.callbacks.append((callback, kwargs))

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, options: dict) -> Tensor:
        from comfy.ldm.modules.attention import optimized_attention

        self.calls += 1
        return 0.5 * optimized_attention(q, k, v, options["n_heads"])


def occupied(host: Host, key: tuple) -> tuple[Attn2Replace, str]:
    occupant = Attn2Replace()

    def patched(model: Any) -> Any:
        clone = model.clone()
        clone.set_model_attn2_replace(occupant, *key)
        return clone

    host.functions["occupied"] = patched
    return occupant, "occupied"


@pytest.mark.parametrize("key", [("output", 1), ("output", 1, 0), ("input", 5, 0)])
def test_an_occupant_of_a_captured_block_still_computes_it(fresh: Host, key: tuple) -> None:
    """Also one that the host finds by the shorter key.

    The last captured block is left before it computes.
    """
    occupant, name = occupied(fresh, key)
    scene = Scene(**SIZE)
    model = scene.apply(scene.model, name)
    assert_sides(fresh, scene, model, model)
    plain = scene.realcompo()
    ours = scene.realcompo(model=model, spatial_model=model)
    before = occupant.calls
    out = fresh.run(scene, ours=ours[0], trace=ours[1], plain=plain[0])
    assert occupant.calls > before
    assert out["trace"].losses()
    assert not torch.equal(out["ours"]["samples"], out["plain"]["samples"])


def test_an_occupant_takes_part_in_the_gradient_pass(fresh: Host) -> None:
    occupant, name = occupied(fresh, ("input", 5, 0))
    scene = Scene(**SIZE)
    scene.model = scene.apply(scene.model, name)

    def look(run: Any, latent: Tensor, sigma: Tensor, options: dict) -> tuple[int, float]:
        before = occupant.calls
        pull = run.spatial.pull(latent, sigma, run.objective, gradient=True)
        return occupant.calls - before, float(pull.gradient.abs().max())

    calls, largest = inspect(fresh, scene, look)
    assert calls == 1 and largest > 0


def test_an_attention_override_is_chained(fresh: Host) -> None:
    seen = set()

    def override(function: Any, *args: Any, **kwargs: Any) -> Tensor:
        seen.add(function.__name__)
        return function(*args, **kwargs)

    def patched(model: Any) -> Any:
        clone = model.clone()
        clone.model_options["transformer_options"]["optimized_attention_override"] = override
        return clone

    fresh.functions["override"] = patched
    scene = Scene(**SIZE)
    model = scene.apply(scene.model, "override")
    fresh.run(scene, latent=scene.realcompo(model=model, spatial_model=model)[0])
    assert seen == {"attention_sub_quad", "attention_pytorch"}


def test_area_conditionings_read_their_own_area(fresh: Host) -> None:
    """Attention maps are as large as the area, and the regions are cut to it."""
    scene = Scene(width=128, height=128)
    area = scene.add(
        "ConditioningSetArea",
        conditioning=scene.spatial,
        width=64,
        height=128,
        x=64,
        y=0,
        strength=1.0,
    )[0]
    everywhere = scene.add("CLIPTextEncode", clip=scene.clip, text="a room")[0]
    scene.spatial = scene.add(
        "ConditioningCombine", conditioning_1=area, conditioning_2=everywhere
    )[0]
    ours = scene.realcompo({"online": False}, steps=3)
    trace = fresh.run(scene, latent=ours[0], trace=ours[1])["trace"]
    assert (
        trace.rows["spatial attention"] == 2
    )  # nothing is read of the conditioning without a layout
    step = trace.steps[0]
    (reading,) = step.readings["spatial"]
    assert reading.attention.shape[-2:] == (4, 2) and reading.objects.regions.shape[-2:] == (16, 8)
    cube, ball = reading.objects.regions
    assert cube.sum() == 0 < ball.sum()


def test_release_of_an_area_conditioning_on_the_text_branch(fresh: Host) -> None:
    """What the area's attention says of its cells stays there.

    Outside the area nothing is left to place.
    """
    scene = Scene(width=128, height=128)
    right = scene.add(
        "ConditioningSetArea",
        conditioning=scene.text,
        width=64,
        height=128,
        x=64,
        y=0,
        strength=1.0,
    )[0]
    everywhere = scene.add("CLIPTextEncode", clip=scene.clip, text="a room")[0]
    scene.text = scene.add("ConditioningCombine", conditioning_1=right, conditioning_2=everywhere)[
        0
    ]
    ours = scene.realcompo({"release": 6.0, "step_scale": 0.0, "limit": 100.0}, steps=3)
    trace = fresh.run(scene, trace=ours[1])["trace"]
    gained = trace.steps[1].weight.logit() - trace.steps[0].weight.logit()
    torch.testing.assert_close(
        gained[..., :8], torch.full_like(gained[..., :8], 2.0), rtol=1e-3, atol=1e-3
    )
    ball = gained[..., 6:14, 10:14]
    assert (ball < 1.99).all() and (ball > 0).all()


def test_an_area_has_as_many_cells_as_the_whole_latent(fresh: Host) -> None:
    """Gradients are smoothed at the attention's scale, wherever it was read."""
    pull = fresh.pack("realcompo_core.sampling.pull")
    objects = fresh.pack("realcompo_core.words.grounding").Objects(
        ("cat",), ((1,),), (torch.ones(1, 64, 32),), ((0,),)
    )
    reading = pull.Reading(torch.ones(1, 1, 16, 8), objects, torch.zeros(1, 1))
    assert pull.finest_cells([reading], torch.zeros(1, 1, 64, 64)) == (16, 16)


def test_conditionings_of_other_sigmas_are_left_out(fresh: Host) -> None:
    scene = Scene(**SIZE)
    scene.spatial = scene.add(
        "ConditioningSetTimestepRange", conditioning=scene.spatial, start=0.0, end=0.5
    )[0]
    ours = scene.realcompo(steps=4)
    trace = fresh.run(scene, latent=ours[0], trace=ours[1])["trace"]
    assert "spatial" in trace.steps[1].readings and "spatial" not in trace.steps[-1].readings


def test_a_controlnet_on_the_spatial_branch_balances(fresh: Host) -> None:
    scene = Scene(**SIZE, gligen=False)
    add_controlnet(scene)
    ours = scene.realcompo()
    out = fresh.run(scene, latent=ours[0], trace=ours[1])
    assert out["latent"]["samples"].isfinite().all()
    assert out["trace"].losses()[0]["text"] != out["trace"].losses()[0]["spatial"]


def test_a_longer_negative_does_not_dilute_attention(fresh: Host) -> None:
    """A stock sampler repeats the shorter text in a batch.

    What is recorded must not shrink with it.
    """
    readings = []
    for negative in ("blurry", "blurry and bad " * 60):
        scene = Scene(**SIZE, gligen=False)
        scene.negative = scene.add("CLIPTextEncode", clip=scene.clip, text=negative)[0]
        watched = scene.add(
            "RealCompoAttentionCapture",
            model=scene.model,
            conditioning=scene.text,
            downsample=0,
            layers="all",
        )
        out = fresh.run(scene, latent=scene.stock(model=watched[0])[0], maps=watched[1])
        readings.append(out["maps"].steps[0].readings["model"][0].attention)
    assert relative(*readings) < 1e-4


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_attention_capture_changes_no_image(fresh: Host, sampler: str) -> None:
    _, name = occupied(fresh, ("output", 1, 0))
    scene = Scene(**SIZE)
    model = scene.apply(scene.model, name)
    watched = scene.add(
        "RealCompoAttentionCapture",
        model=model,
        conditioning=scene.spatial,
        downsample=0,
        layers="up",
    )
    after = scene.stock(scene.spatial, model=watched[0], sampler_name=sampler)
    sheets = scene.add("RealCompoTracePreview", trace=watched[1], latent=after[0], sample=0)
    stock = scene.stock(scene.spatial, model=model, sampler_name=sampler)
    out = fresh.run(scene, stock=stock[0], watched=after[0], maps=watched[1], sheet=sheets[1])
    assert torch.equal(out["stock"]["samples"], out["watched"]["samples"])
    assert [step.index for step in out["maps"].steps] == [0, 1, 2]
    assert out["sheet"].shape[0] == 1


@pytest.mark.parametrize("branch", ["model", "spatial_model"])
def test_attention_capture_on_either_branch(fresh: Host, branch: str) -> None:
    scene = Scene(**SIZE)
    watched = scene.add(
        "RealCompoAttentionCapture",
        model=scene.model,
        conditioning=scene.spatial,
        downsample=0,
        layers="all",
    )
    plain = scene.realcompo()
    ours = scene.realcompo(**{"spatial_model": scene.model, branch: watched[0]})
    out = fresh.run(scene, plain=plain[0], ours=ours[0], maps=watched[1])
    assert torch.equal(out["plain"]["samples"], out["ours"]["samples"])
    assert [step.index for step in out["maps"].steps] == [0, 1, 2]
    assert not any(
        r.attention.requires_grad for step in out["maps"].steps for r in step.readings["model"]
    )


@pytest.mark.parametrize("cfg", [1.0, 7.5])
def test_attention_capture_of_one_of_two_prompts(fresh: Host, cfg: float) -> None:
    """The branch of the other prompt is the first to be evaluated in a step."""
    scene = Scene.of("sd1")
    watched = scene.add(
        "RealCompoAttentionCapture",
        model=scene.model,
        conditioning=scene.spatial,
        downsample=0,
        layers="all",
    )
    plain, ours = (scene.realcompo(model=model, cfg=cfg) for model in (scene.model, watched[0]))
    out = fresh.run(scene, plain=plain[0], ours=ours[0], maps=watched[1])
    assert torch.equal(out["plain"]["samples"], out["ours"]["samples"])
    assert [step.index for step in out["maps"].steps] == [0, 1, 2]


def test_attention_capture_leaves_the_negative_out(fresh: Host) -> None:
    """The host lends an area's conditioning to the negative.

    At cfg 1 there is no negative to mix in.
    """
    readings = []
    for cfg in (1.0, 7.5):
        scene = Scene(width=128, height=128, gligen=False)
        right_half = {"width": 64, "height": 128, "x": 64, "y": 0, "strength": 1.0}
        area = scene.add("ConditioningSetArea", conditioning=scene.text, **right_half)[0]
        watched = scene.add(
            "RealCompoAttentionCapture", model=scene.model, conditioning=area, **LAYERS
        )
        out = fresh.run(
            scene, latent=scene.stock(area, model=watched[0], cfg=cfg)[0], maps=watched[1]
        )
        readings.append(out["maps"].steps[0].readings["model"][0].attention)
    assert relative(*readings) < 1e-4


def test_another_pack_can_add_to_our_patch(fresh: Host) -> None:
    unet = fresh.pack("nodes.host.model.readers.unet")
    alone = unet.AttentionPatch(lambda *_: None, None)
    alone.add(lambda out, q, k, v, options, weight: weight * out, weight=2.0)
    q = torch.randn(1, 4, 16)
    options = {"n_heads": 2, "attn_precision": None}
    assert torch.allclose(
        alone(q, q, q, options), 3 * unet.AttentionPatch(lambda *_: None, None)(q, q, q, options)
    )
    occupant = Attn2Replace()
    unet.AttentionPatch(lambda *_: None, occupant).add(print, weight=1.0)
    assert occupant.callbacks == [(print, {"weight": 1.0})]


def with_occupant(host: Host, scene: Scene) -> dict:
    _, name = occupied(host, ("input", 5, 0))
    model = scene.apply(scene.model, name)
    return {"model": model, "spatial_model": model}


def with_lora(host: Host, scene: Scene) -> dict:
    return {"model": lora(scene, 0.8), "spatial_model": scene.model}


def with_controlnet(host: Host, scene: Scene) -> dict:
    add_controlnet(scene)
    return {"spatial_positive": scene.spatial}


def with_two_hook_groups(host: Host, scene: Scene) -> dict:
    hooked = []
    for strength in (0.8, -0.8):
        hooks = scene.add("CreateHookLoraModelOnly", lora_name=LORA, strength_model=strength)[0]
        hooked.append(
            scene.add(
                "ConditioningSetProperties",
                cond_NEW=scene.spatial,
                hooks=hooks,
                strength=1.0,
                set_cond_area="default",
            )[0]
        )
    return {
        "spatial_positive": scene.add(
            "ConditioningCombine", conditioning_1=hooked[0], conditioning_2=hooked[1]
        )[0]
    }


@pytest.mark.parametrize("other", [with_occupant, with_lora, with_controlnet, with_two_hook_groups])
def test_reading_attention_changes_nothing_else(fresh: Host, other: Any) -> None:
    """A balance that is read for but never moved gives the image of the fixed weight.

    Bit for bit if it looks ahead, to rounding online, where predictions come from PyTorch's
    attention.
    """
    scene = Scene(**SIZE)
    inputs = other(fresh, scene)
    still = {"step_scale": 0.0, "prior": 0.0}
    ahead, online = (scene.realcompo(still | {"online": on}, **inputs) for on in (False, True))
    fixed = scene.realcompo({"mode": "fixed", "text_weight": 0.5}, **inputs)
    out = fresh.run(
        scene, ahead=ahead[0], online=online[0], trace=ahead[1], late=online[1], fixed=fixed[0]
    )
    assert out["trace"].losses() and out["late"].losses()
    assert torch.equal(out["ahead"]["samples"], out["fixed"]["samples"])
    torch.testing.assert_close(
        out["online"]["samples"], out["fixed"]["samples"], rtol=1e-4, atol=1e-4
    )
