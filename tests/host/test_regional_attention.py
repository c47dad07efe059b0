"""RealCompo Regional Attention through the real host, on U-Nets and on every tiny transformer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from testkit import tiny_transformers as tiny
from testkit.host import Host, PromptError
from testkit.live_run import inspect, relative
from testkit.scene import Scene

FAMILIES = list(tiny.FAMILIES)
SIZE = {"width": 64, "height": 64, "gligen": False}
WHOLE = {"strength": 1.0, "end": 1.0, "emphasis": 5.0, "softness": 0.0}
OVERRIDE = "optimized_attention_override"
# Corners at thirds of the latent, so that the borders of no family's patches agree with them.
LAYOUT = "a red cube: 0 0 0.33 1\na blue ball: 0.66 0 1 1"
TOKENS = ((1, 2), (4,))
optimized_attention: Any = None  # as other packs import it


class Regions(Scene):
    """A small scene whose boxes leave a gap."""

    def __init__(self, **scene: Any) -> None:
        super().__init__(**SIZE | {"layout": LAYOUT} | scene)

    def regional(self, model: list | None = None, **settings: Any) -> list:
        return self.add(
            "RealCompoRegionalAttention", model=model or self.model, **WHOLE | settings
        )[0]

    def watched(self, model: list, conditioning: list | None = None) -> Any:
        return self.add(
            "RealCompoAttentionCapture",
            model=model,
            conditioning=conditioning or self.text,
            downsample=0,
            layers="all",
        )

    def drawn(self, model: list | None = None, **sampling: Any) -> list:
        return self.stock(model=model, **{"steps": 2} | sampling)[0]


def latents(host: Host, scene: Scene, **wanted: list) -> list[Tensor]:
    found = host.run(scene, **wanted)
    return [found[name]["samples"] for name in wanted]


def maps_of(trace: Any) -> list[Tensor]:
    """What was read at each step, of the first sample [objects, h, w]."""
    return [step.readings["model"][0].attention[0] for step in trace.steps]


def silent_outside(maps: Tensor, regions: Tensor) -> bool:
    """Whether attention is exactly 0 where a region covers nothing, and not where it does."""
    outside = regions == 0
    assert outside.any() and maps.shape == regions.shape
    return bool((maps[outside] == 0).all() and (maps[regions == 1] > 0).all())


@pytest.mark.parametrize("settings", [{"strength": 0.0}, {"end": 0.0}])
def test_settings_that_silence_nothing_are_the_stock_sampler(host: Host, settings: dict) -> None:
    scene = Regions()
    wanted = {"stock": scene.drawn(), "idle": scene.drawn(scene.regional(**settings))}
    assert torch.equal(*latents(host, scene, **wanted))


def test_capture_reads_masked_attention_whoever_comes_first(host: Host) -> None:
    scene = Regions()
    regional = scene.regional()
    inside, around = scene.watched(regional), scene.watched(scene.model)
    outer = scene.regional(around[0])
    wanted = {
        "plain": scene.drawn(),
        "alone": scene.drawn(regional),
        "first": scene.drawn(inside[0]),
        "last": scene.drawn(outer),
    }
    found = host.run(scene, **wanted, maps=inside[1], others=around[1], layout=scene.layout)
    plain, *masked = (found[name]["samples"] for name in wanted)
    assert all(torch.equal(masked[0], other) for other in masked[1:])
    assert relative(plain, masked[0]) > 1e-3
    read = maps_of(found["maps"]), maps_of(found["others"])
    for maps, others in zip(*read, strict=True):
        regions = found["layout"].rasterise(*maps.shape[-2:])
        assert silent_outside(maps, regions) and torch.equal(maps, others)


def test_it_is_attention_with_other_words_left_out(host: Host) -> None:
    """Against the same done by hand: a replaced attention with a mask of its own.

    "a red cube and a blue ball" has eight rows up to its end; behind are those of "a and a".
    """
    scene = Regions()
    bare = scene.add("CLIPTextEncode", clip=scene.clip, text="a and a")[0]
    end = 8

    def by_hand(model: Any) -> Any:
        clone = model.clone()
        for layer in reader_of(host, model).layers():
            clone.set_model_attn2_replace(attention, *layer.key)
        return clone

    def attention(q: Tensor, k: Tensor, v: Tensor, options: dict) -> Tensor:
        height, width = options["activations_shape"][-2:]
        regions = layout.rasterise(height, width).flatten(1)
        logits = torch.zeros(len(q), 1, q.shape[1], k.shape[1])
        row = options["cond_or_uncond"].index(0)
        for words, region in zip(words_of, regions, strict=True):
            logits[row, 0, :, words] = (region * 5.0**region).log()[:, None]
        logits[row, 0, :, end:] = (1 - regions.sum(dim=0)).log()[:, None]
        q, k, v = (t.unflatten(-1, (options["n_heads"], -1)).transpose(1, 2) for t in (q, k, v))
        logits = logits + q @ k.mT / q.shape[-1] ** 0.5
        return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)

    def ending_alike(conditioning: list) -> list:
        encoded, other = conditioning[0][0].clone(), found["bare"][0][0]
        encoded[:, end:] = other[:, end:]
        return [[encoded, conditioning[0][1]]]

    words_of = [[2, 3], [6, 7]]
    found = host.run(scene, layout=scene.layout, bare=bare)
    layout = found["layout"]
    host.functions |= {"by hand": by_hand, "ending alike": ending_alike}
    text, model = scene.apply(scene.text, "ending alike"), scene.apply(scene.model, "by hand")
    wanted = {"hand": scene.drawn(model, positive=text), "ours": scene.drawn(scene.regional())}
    assert relative(*latents(host, scene, **wanted)) < 1e-4


def reader_of(host: Host, model: Any) -> Any:
    return host.pack("nodes.host.model.readers.families").reader_of(model.model)


def test_only_the_first_steps_are_masked(host: Host) -> None:
    scene = Regions()
    watched = scene.watched(scene.regional(end=0.5))
    found = host.run(scene, latent=scene.drawn(watched[0]), maps=watched[1], layout=scene.layout)
    first, second = maps_of(found["maps"])
    regions = found["layout"].rasterise(*first.shape[-2:])
    assert silent_outside(first, regions) and (second > 0).all()


def test_a_batch_is_its_pictures_one_by_one(host: Host) -> None:
    both, scene = Regions(batch=2), Regions()
    (batch,) = latents(host, both, batch=both.drawn(both.regional()))
    (alone,) = latents(host, scene, alone=scene.drawn(scene.regional()))
    assert relative(batch[:1], alone) < 1e-4


@pytest.mark.parametrize("size", [(72, 88), (104, 64)])
def test_odd_sizes(host: Host, size: tuple[int, int]) -> None:
    scene = Regions(width=size[0], height=size[1])
    watched = scene.watched(scene.regional())
    found = host.run(scene, latent=scene.drawn(watched[0]), maps=watched[1], layout=scene.layout)
    maps = maps_of(found["maps"])[0]
    assert silent_outside(maps, found["layout"].rasterise(*maps.shape[-2:]))


def test_other_packs_still_attend(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """IPAdapter's kind of patch, which calls attention without the options."""
    from comfy.ldm.modules import attention

    here = sys.modules[__name__]
    monkeypatch.setattr(here, "optimized_attention", attention.optimized_attention)
    calls = []

    def occupant(q: Tensor, k: Tensor, v: Tensor, options: dict) -> Tensor:
        calls.append(q.shape)
        return optimized_attention(q, k, v, options["n_heads"])

    def occupied(model: Any) -> Any:
        clone = model.clone()
        for layer in reader_of(host, model).layers():
            clone.set_model_attn2_replace(occupant, *layer.key)
        return clone

    host.functions["occupied"] = occupied
    scene = Regions()
    model = scene.apply(scene.model, "occupied")
    alone, kept = latents(
        host,
        scene,
        alone=scene.drawn(scene.regional()),
        kept=scene.drawn(scene.regional(model)),
    )
    assert calls and relative(alone, kept) < 1e-5


def test_an_override_is_still_asked_and_masks_are_added(host: Host) -> None:
    """The negative's part of a mask is 0, and a mask that is there already stays in force."""
    masks = []

    def overridden(model: Any) -> Any:
        clone = model.clone()
        clone.model_options["transformer_options"][OVERRIDE] = override
        return clone

    def override(function: Callable, q: Tensor, k: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        mask = kwargs["mask"] if "mask" in kwargs else args[2] if len(args) > 2 else None
        if mask is not None:
            masks.append((mask, kwargs["transformer_options"]["cond_or_uncond"]))
        return function(q, k, *args, **kwargs)

    host.functions["overridden"] = overridden
    scene = Regions()
    scene.model = scene.apply(scene.model, "overridden")
    ours, _ = latents(host, scene, ours=scene.drawn(scene.regional()), stock=scene.drawn())
    assert ours.isfinite().all() and masks
    for mask, sides in masks:
        rows = dict(zip(sides, mask.expand(len(sides), *mask.shape[1:]), strict=True))
        assert (rows[0] < -1000).any() and (1 not in rows or (rows[1] == 0).all())


def test_areas_are_masked_by_their_part_of_the_layout(host: Host) -> None:
    """The area lends its id to the negative, which stays as it is."""
    scene = Regions(width=192)
    area = {"width": 128, "height": 64, "x": 64, "y": 0, "strength": 1.0}
    part = scene.add("ConditioningSetArea", conditioning=scene.text, **area)[0]
    watched = scene.watched(scene.regional(), part)
    found = host.run(
        scene,
        latent=scene.drawn(watched[0], positive=part),
        maps=watched[1],
        layout=scene.layout,
    )
    maps = maps_of(found["maps"])[0]
    height, width = maps.shape[-2:]
    regions = found["layout"].rasterise(height, width * 3 // 2)[..., -width:]
    assert (maps[0] == 0).all() and silent_outside(maps[1:], regions[1:])


def test_one_sided_and_fixed_runs_are_stock_runs_of_the_masked_model(host: Host) -> None:
    """Both branches of one checkpoint: the text branch is not masked."""
    scene = Regions()
    scene.spatial_model = scene.regional()
    sides = {"spatial only": {"mode": "spatial only"}, "weight 0": {"text_weight": 0.0}}
    sides |= {"text only": {"mode": "text only"}, "weight 1": {"text_weight": 1.0}}
    wanted = {"masked": scene.drawn(scene.spatial_model, positive=scene.spatial)}
    wanted |= {"plain": scene.drawn()}
    for name, settings in sides.items():
        wanted[name] = scene.realcompo({"mode": "fixed"} | settings, steps=2)[0]
    masked, plain, *ours = latents(host, scene, **wanted)
    assert not torch.equal(masked, plain)
    for name, found, expected in zip(sides, ours, (masked, masked, plain, plain), strict=True):
        assert torch.equal(found, expected), name


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
def test_gradients_go_through_masks(host: Host, checkpointing: bool) -> None:
    """And the balance moves: a mask that is not whole leaves attention outside."""
    scene = Regions()
    scene.spatial_model = scene.regional(strength=0.6)
    slope, difference = inspect(
        host, scene, lambda run, x, sigma, _: slopes(run.spatial, x, sigma, run.objective)
    )
    assert slope > 0 and relative(slope, difference) < 1e-2
    ours = scene.realcompo({"mode": "dynamic", "warmup": 0.34, "checkpointing": checkpointing})
    found = host.run(scene, latent=ours[0], trace=ours[1])
    assert found["latent"]["samples"].isfinite().all() and len(found["trace"].losses()) == 2


def test_checkpointing_changes_no_gradient(host: Host) -> None:
    from dataclasses import replace

    def look(run: Any, latent: Tensor, sigma: Tensor, options: dict) -> list[Tensor]:
        objectives = [replace(run.objective, checkpointing=each) for each in (False, True)]
        return [run.spatial.pull(latent, sigma, o, gradient=True).gradient for o in objectives]

    scene = Regions()
    scene.spatial_model = scene.regional(strength=0.6)
    kept, recomputed = inspect(host, scene, look)
    assert kept.abs().max() > 0 and relative(kept, recomputed) < 1e-5


def test_a_conditioning_without_a_layout_is_refused(host: Host) -> None:
    scene = Regions()
    plain = scene.add("CLIPTextEncode", clip=scene.clip, text="a cube")[0]
    with pytest.raises(PromptError, match=r"Regional Attention.*a conditioning with a layout"):
        host.run(scene, latent=scene.drawn(scene.regional(), positive=plain))
    scene.spatial_model, scene.spatial = scene.regional(), plain
    with pytest.raises(PromptError, match="spatial positive: expected a conditioning with"):
        host.run(scene, latent=scene.realcompo({"mode": "fixed"})[0])


def test_a_patch_that_changes_the_batch_is_named(host: Host) -> None:
    """As Attention Couple does, by attn2 patches."""

    def doubled(model: Any) -> Any:
        clone = model.clone()
        clone.set_model_attn2_patch(lambda n, k, v, _: tuple(t.repeat(2, 1, 1) for t in (n, k, v)))
        clone.set_model_attn2_output_patch(lambda n, _: n[: len(n) // 2])
        return clone

    host.functions["doubled"] = doubled
    scene = Regions()
    model = scene.regional(scene.apply(scene.model, "doubled"))
    with pytest.raises(PromptError, match=r"regional attention: .*Attention Couple"):
        host.run(scene, latent=scene.drawn(model))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_masked(host: Host, name: str) -> None:
    """At all its layers, and a run without is as before."""
    model, positive = tiny.patcher(name), grounded(host, name)
    stock = sampled(name, model, positive)
    regional = masked(host, model)
    trace = host.pack("realcompo_core.sampling.trace").Trace()
    watched = recorder(host, positive, reader_of(host, model).patch(), trace).attach(regional)
    found = sampled(name, watched, positive)
    assert torch.equal(found, sampled(name, regional, positive)) and found.isfinite().all()
    assert relative(stock, found) > 1e-4
    for maps in maps_of(trace):
        assert silent_outside(maps, layout_of(host).rasterise(*maps.shape[-2:]))
    assert torch.equal(stock, sampled(name, model, positive))
    assert torch.equal(stock, sampled(name, masked(host, model, strength=0.0), positive))
    assert not any(part._forward_pre_hooks for part in model.model.diffusion_model.modules())


@pytest.mark.parametrize("name", ["flux", "sd3", "z-image", "pixart"])
def test_a_block_that_is_recomputed_is_masked_again(
    host: Host, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gradients(model: Any, latent: Tensor, sigma: Tensor, objective: Any) -> list[Tensor]:
        found = []
        for checkpoints in (True, False):
            monkeypatch.setattr(type(reader_of(host, patcher)), "checkpoints", checkpoints)
            found.append(model.pull(latent, sigma, objective, gradient=True).gradient)
        return found

    patcher = tiny.patcher(name)
    kept, recomputed = pulled(host, name, masked(host, patcher, strength=0.6), gradients)
    assert kept.abs().max() > 0 and relative(kept, recomputed) < 1e-5


def test_gradients_of_a_masked_transformer_are_its_slopes(host: Host) -> None:
    slope, difference = pulled(
        host, "flux", masked(host, tiny.patcher("flux"), strength=0.6), slopes
    )
    assert slope > 0 and relative(slope, difference) < 1e-2


def slopes(model: Any, latent: Tensor, sigma: Tensor, objective: Any) -> tuple[float, float]:
    """The loss along its gradient: by the gradient, and by finite differences."""

    def loss(at: Tensor) -> float:
        return float(model.pull(at, sigma, objective, gradient=False).losses.double().sum())

    gradient = model.pull(latent, sigma, objective, gradient=True).gradient
    direction = gradient / gradient.norm()
    step = 0.003 * latent.norm()
    rise = loss(latent + step * direction) - loss(latent - step * direction)
    return float((gradient * direction).sum()), float(rise / (2 * step))


def layout_of(host: Host) -> Any:
    layout = host.pack("realcompo_core.layout.model")
    left, right = layout.Box(0.0, 0.0, 0.33, 1.0), layout.Box(0.66, 0.0, 1.0, 1.0)
    objects = (layout.LayoutObject("cube", left), layout.LayoutObject("ball", right))
    return layout.Layout(objects)


def grounded(host: Host, name: str) -> list:
    grounding = host.pack("realcompo_core.words.grounding")
    positive = tiny.conditioning(name, 1)
    background = tiny.conditioning(name, 4)[0][0]
    behind = (14,) if name == "hidream" else ()  # a row of its second encoder
    tokens = (*TOKENS[:1], (*TOKENS[1], *behind))
    tied = grounding.Grounding(layout_of(host), tokens, (1, 2, 3, 4), background)
    positive[0][1][grounding.OPTION] = tied
    return positive


def masked(host: Host, model: Any, **settings: Any) -> Any:
    kind = host.pack("realcompo_core.sampling.regional_attention").RegionalSettings
    regional = host.pack("nodes.host.sampling.regional_attention").Regional
    return regional(kind(**WHOLE | settings), "node").attach(model)


def recorder(host: Host, positive: list, factor: int, trace: Any) -> Any:
    kind = host.pack("nodes.host.sampling.recorder").Recorder
    layers = host.pack("realcompo_core.sampling.attention").Layers
    option = host.pack("realcompo_core.words.grounding").OPTION
    return kind([positive[0][1][option]], factor, layers.ALL, trace, "test")


def sampled(name: str, model: Any, positive: list, sampler: Any = None) -> Tensor:
    """As the host's executor samples: in inference mode."""
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, tiny.conditioning(name, 3, 7))
    guider.set_cfg(3.0)
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", 2)
    latent = tiny.empty_latent(name)
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(7))
    sampler = sampler or comfy.samplers.sampler_object("euler")
    with torch.inference_mode():
        return guider.sample(noise, latent, sampler, sigmas, seed=1, disable_pbar=True)


def pulled(host: Host, name: str, model: Any, look: Callable) -> Any:
    """What ``look`` returns of a prepared model inside a stock run, at its second step's sigma."""
    from collections import Counter

    import comfy.samplers

    settings = host.pack("realcompo_core.sampling.settings").BalancerSettings
    factor = reader_of(host, model).patch()
    objective = host.pack("nodes.host.sampling.objective").composition(settings(downsample=factor))
    found = []

    def function(model: Any, noise: Tensor, sigmas: Tensor, extra_args: dict, **_: Any) -> Tensor:
        prepared = host.pack("nodes.host.sampling.prepared_model").PreparedModel(
            "text", model.inner_model, Counter()
        )
        prepared.options = extra_args["model_options"]
        found.append(look(prepared, noise, sigmas[1:2], objective))
        return noise

    sampled(name, model, grounded(host, name), comfy.samplers.KSAMPLER(function))
    return found[0]
