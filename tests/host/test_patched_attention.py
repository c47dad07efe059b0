"""Attention of models that other packs have changed: read where it is, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from testkit.bare_scene import BareScene
from testkit.host import Host, PromptError
from testkit.live_run import inspect, pull_agrees_with_finite_difference, relative
from testkit.scene import Scene
from testkit.stand_ins import OTHERWISE_BATCHED, UNREADABLE, doubled, patched, values_apart

SAMPLING = {"steps": 2, "cfg": 4.0}
TILE = 8  # cells; a scene of 64 x 128 pixels has two


FAMILIES = ["sd1", "sdxl", "flux", "z-image", "pixart"]


def small_scene(host: Host, width: int = 64, batch: int = 1, family: str = "sd1") -> BareScene:
    return BareScene(host, family, width=width, batch=batch)


def recorded(
    host: Host, scene: Scene, model: list, factor: int = 0, layers: str = "all", **sampling: Any
) -> Any:
    """What Attention Capture records of the stock sampler on a model."""
    reading = {"conditioning": scene.text, "downsample": factor, "layers": layers}
    watched = scene.add("RealCompoAttentionCapture", model=model, **reading)
    latent = scene.stock(model=watched[0], **SAMPLING | sampling)[0]
    return host.run(scene, latent=latent, maps=watched[1])["maps"]


def first_map(trace: Any) -> Tensor:
    return trace.steps[0].readings["model"][0].attention


def readings_at(host: Host, scene: Scene, *cuts: slice) -> list[Tensor]:
    """Attention of the text branch at a fixed latent, or at these columns of it."""

    def look(run: Any, latent: Tensor, sigma: Tensor, options: dict) -> list[Tensor]:
        found = []
        for columns in cuts or (slice(None),):
            cells = latent[..., columns].clone()
            pull = run.text.pull(cells, sigma, run.objective, gradient=False)
            found.append(pull.readings[0].attention)
        return found

    return inspect(host, scene, look)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_found_however_they_are_evaluated(host: Host, family: str) -> None:
    """Alone, repeated or in another order: the reading is the plain model's."""
    scene = small_scene(host, batch=2, family=family)
    plain = first_map(recorded(host, scene, scene.model))
    assert relative(plain[:1], plain[1:]) > 1e-3  # samples are not taken for each other
    for name in OTHERWISE_BATCHED:
        found = first_map(recorded(host, scene, patched(host, scene, scene.model, name)))
        assert relative(found, plain) < 1e-5, name


@pytest.mark.parametrize("cfg", [4.0, 1.0])
def test_a_couples_rows_are_the_watched_prompts(host: Host, cfg: float) -> None:
    """In the first layer, whose input no patch has changed yet."""
    scene = small_scene(host, batch=2)
    coupled = patched(host, scene, scene.model, "coupled")
    plain, found = (
        first_map(recorded(host, scene, model, layers="down", cfg=cfg))
        for model in (scene.model, coupled)
    )
    assert relative(found, plain) < 1e-5


def test_keys_of_text_with_values_apart_are_the_prompts(host: Host) -> None:
    """Each row of text twice, one for keys and one for values: the same attention, and picture."""
    scene = small_scene(host)
    host.functions |= {"doubled": doubled, "values apart": values_apart}
    plain = recorded(host, scene, scene.model)
    scene.text = scene.apply(scene.text, "doubled")
    scene.negative = scene.apply(scene.negative, "doubled")
    found = recorded(host, scene, scene.apply(scene.model, "values apart"))
    assert relative(first_map(found), first_map(plain)) < 1e-5
    assert relative(found.made, plain.made) < 1e-4


def windows(host: Host, scene: Scene, model: list) -> list:
    """Core's context windows along the picture's width, side by side."""
    window = {"context_length": TILE, "context_overlap": 0, "dim": 3}
    how = {"context_schedule": "standard_static", "fuse_method": "flat"}
    settings = host.defaults("ContextWindowsManual") | window | how
    if "causal_window_fix" in settings:  # of newer hosts: a column before each window
        settings["causal_window_fix"] = False
    return scene.add("ContextWindowsManual", model=model, **settings)[0]


def tiles(host: Host, scene: Scene, model: list) -> list:
    return patched(host, scene, model, "tiled")


@pytest.mark.parametrize("family", FAMILIES[:-1])  # PixArt has no tiles so small
@pytest.mark.parametrize("split", [windows, tiles])
def test_maps_of_parts_are_put_where_they_belong(host: Host, split: Callable, family: str) -> None:
    """As the same cells read by themselves. Tiles overlap: there it is the mean."""
    scene = small_scene(host, width=128, family=family)
    width = int(host.run(scene, latent=scene.latent)["latent"]["samples"].shape[-1])
    corners = range(0, width, TILE) if split is windows else [0, *range(6, width - TILE, 6)]
    corners = sorted({min(corner, width - TILE) for corner in [*corners, width]})
    cuts = [slice(corner, corner + TILE) for corner in corners]
    parts = readings_at(host, scene, *cuts)
    scene.model = split(host, scene, scene.model)
    (found,) = readings_at(host, scene)
    expected, count = torch.zeros(found.shape), torch.zeros(found.shape)
    factor = width // found.shape[-1]
    for corner, part in zip(corners, parts, strict=True):
        cells = slice(corner // factor, (corner + TILE) // factor)
        expected[..., cells] += part
        count[..., cells] += 1
    assert relative(found, expected / count) < 1e-5


# Core's windows can't split a batch of several samples.
@pytest.mark.parametrize(("split", "batch"), [(windows, 1), (tiles, 2)])
def test_a_sampler_that_splits_the_latent_is_recorded(
    host: Host, split: Callable, batch: int
) -> None:
    scene = small_scene(host, width=128, batch=batch)
    trace = recorded(host, scene, split(host, scene, scene.model))
    found = [step.readings["model"][0].attention for step in trace.steps]
    assert [tuple(attention.shape) for attention in found] == [(batch, 2, 8, 16)] * 2


@pytest.mark.parametrize("family", ["sd1", "flux"])  # the latter recomputes its blocks
@pytest.mark.parametrize("split", [windows, tiles])
def test_a_split_latent_has_its_gradient(host: Host, split: Callable, family: str) -> None:
    scene = small_scene(host, width=128, family=family)
    scene.model = split(host, scene, scene.model)
    assert pull_agrees_with_finite_difference(host, scene, reach=2e-3)


def test_a_coupled_model_has_its_gradient(host: Host) -> None:
    scene = small_scene(host)
    scene.model = patched(host, scene, scene.model, "coupled")
    assert pull_agrees_with_finite_difference(host, scene, reach=2e-3)


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_refused_by_name(host: Host, name: str) -> None:
    scene = small_scene(host)
    model = patched(host, scene, scene.model, name)
    with pytest.raises(PromptError, match="Attention Capture, attention: expected") as caught:
        recorded(host, scene, model)
    assert "attn2_patch of testkit.stand_ins" in str(caught.value)
    ours = scene.realcompo({"mode": "dynamic"}, model=model, spatial_model=model, **SAMPLING)
    with pytest.raises(PromptError, match=r"RealCompo KSampler, attention: .*testkit\.stand_ins"):
        host.run(scene, latent=ours[0])


def test_a_part_alone_is_refused_by_name(host: Host) -> None:
    """A wrapper that evaluates a corner of the latent and leaves the rest."""

    def cornered(model: Any) -> Any:
        def evaluate(apply: Callable, args: dict) -> Tensor:
            out = apply(args["input"][..., :4, :4], args["timestep"], **args["c"])
            return torch.nn.functional.pad(out, (0, 4, 0, 4))

        clone = model.clone()
        clone.set_model_unet_function_wrapper(evaluate)
        return clone

    host.functions["cornered"] = cornered
    scene = small_scene(host)
    with pytest.raises(PromptError, match=r"function_wrapper of [\w.]*test_patched_attention"):
        recorded(host, scene, scene.apply(scene.model, "cornered"))


@pytest.mark.parametrize("after_skip", [True, False])
def test_layers_that_shrink_are_read_at_the_finest_size(host: Host, after_skip: bool) -> None:
    """Deep Shrink makes some layers of one factor smaller than others."""
    scene = BareScene(host, width=128, height=128)
    shrink = {"downscale_factor": 2.0, "start_percent": 0.0, "end_percent": 1.0}
    ways = {"downscale_method": "bicubic", "upscale_method": "bicubic"}
    model = scene.add(
        "PatchModelAddDownscale",
        model=scene.model,
        block_number=1,
        downscale_after_skip=after_skip,
        **shrink,
        **ways,
    )[0]
    found = first_map(recorded(host, scene, model, factor=1))
    assert found.shape == (1, 2, 16, 16)
    sums = found.flatten(2).mean(dim=2)
    assert (sums > 0).all() and (sums < 1).all()


GUIDERS: dict[str, dict[str, str]] = {
    "BasicGuider": {"conditioning": "text"},
    "CFGGuider": {"positive": "text", "negative": "negative"},
    "DualCFGGuider": {"cond1": "text", "cond2": "other", "negative": "negative"},
    "PerpNegGuider": {
        "positive": "text",
        "negative": "negative",
        "empty_conditioning": "negative",
    },
    "DualModelGuider": {"positive": "text", "negative": "negative"},
}
SCALES = {
    "CFGGuider": {"cfg": 4.0},
    "DualCFGGuider": {"cfg_conds": 4.0, "cfg_cond2_negative": 4.0, "style": "regular"},
    "PerpNegGuider": {"cfg": 4.0, "neg_scale": 1.0},
    "DualModelGuider": {"cfg": 4.0},
}


def guided(host: Host, scene: BareScene, name: str, model: list) -> list:
    """A latent by one of core's guiders."""
    prompts = {"text": scene.text, "negative": scene.negative, "other": scene.encoded(4)}
    conds = {field: prompts[which] for field, which in GUIDERS[name].items()}
    other = {"model_negative": scene.model} if name == "DualModelGuider" else {}
    schedule = {"scheduler": "normal", "steps": 2, "denoise": 1.0}
    return scene.add(
        "SamplerCustomAdvanced",
        noise=scene.add("RandomNoise", noise_seed=7)[0],
        guider=scene.add(name, model=model, **conds, **other, **SCALES.get(name, {}))[0],
        sampler=scene.add("KSamplerSelect", sampler_name="euler")[0],
        sigmas=scene.add("BasicScheduler", model=scene.model, **schedule)[0],
        latent_image=scene.latent,
    )[0]


@pytest.mark.parametrize("area", [False, True])
@pytest.mark.parametrize("name", GUIDERS)
def test_attention_is_recorded_with_every_guider_of_core(host: Host, name: str, area: bool) -> None:
    """Whatever the order of its conditionings; also where they lend each other their areas."""
    if name not in host.nodes:
        name = "CFGGuider"  # an older host has no guider of two models
    scene = small_scene(host)
    if area:
        share = {"width": 0.5, "height": 1.0, "x": 0.5, "y": 0.0, "strength": 1.0}
        half = scene.add("ConditioningSetAreaPercentage", conditioning=scene.text, **share)[0]
        pair = {"conditioning_1": half, "conditioning_2": scene.negative}
        scene.text = scene.add("ConditioningCombine", **pair)[0]
    plain = first_map(recorded(host, scene, scene.model))
    reading = {"conditioning": scene.text, "downsample": 0, "layers": "all"}
    watched = scene.add("RealCompoAttentionCapture", model=scene.model, **reading)
    latent = guided(host, scene, name, watched[0])
    out = host.run(
        scene, latent=latent, maps=watched[1], plain=guided(host, scene, name, scene.model)
    )
    assert torch.equal(out["latent"]["samples"], out["plain"]["samples"])
    assert len(out["maps"].steps) == 2
    assert relative(first_map(out["maps"]), plain) < 1e-5


def test_no_preview_holds_what_json_has_not(host: Host) -> None:
    """A loss can be NaN where an object has no attention at all; browsers refuse such a reply."""
    scene = small_scene(host)
    ours = scene.realcompo({}, **SAMPLING)
    trace = host.run(scene, latent=ours[0], trace=ours[1])["trace"]
    for step in trace.steps:
        for readings in step.readings.values():
            for reading in readings:
                reading.losses.fill_(float("nan"))
                reading.attention.fill_(float("nan"))
    preview = scene.add("RealCompoTracePreview", trace=ours[1], latent=ours[0], sample=0)
    out = host.run(scene, sheet=preview[1])
    assert out["sheet"].isfinite().all()
    shown = [data for event, data in host.server.messages if event == "executed"]
    assert shown
    json.dumps(shown, allow_nan=False)
