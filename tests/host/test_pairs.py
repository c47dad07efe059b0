"""Two architectures in one latent: each is itself, and the blend is of both.

Where one is a flow model and the other is not, each is what it is in its own coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from testkit.graph import Link
from testkit.host import Host, PromptError
from testkit.live_run import relative
from testkit.tiny_scene import RESTING, TinyScene, picture_of
from testkit.tiny_transformers import FAMILIES, empty_latent

ALIKE = [
    ("chroma", "flux"),
    ("flux", "z-image"),
    ("lumina2", "hidream"),
    ("wan", "qwen image"),
]
NEWER = [("krea2", "qwen image"), ("qwen image", "anima"), ("ernie", "flux2")]
ALIKE += [pair for pair in NEWER if set(pair) <= set(FAMILIES)]  # on hosts that have them
BRIDGED = [("auraflow", "pixart"), ("pixart", "auraflow"), ("wan", "cosmos2"), ("cosmos2", "wan")]
EACH_WAY = [("auraflow", "pixart"), ("cosmos2", "wan")]
# One picture and noise at a flow model's sigmas and, in an eps model's coordinates, at these.
FLOW = torch.tensor([0.9, 0.7, 0.4, 0.1, 0.0])
VE = FLOW / (1 - FLOW)
FLOWING = ("auraflow", "wan")


def own_sigmas(family: str) -> Tensor:
    return FLOW if family in FLOWING else VE


def fixed(text_weight: float) -> dict[str, Any]:
    return {"mode": "fixed", "text_weight": text_weight, "warmup": 0.0}


def scene_of(host: Host, pair: tuple[str, str], **options: Any) -> TinyScene:
    """A pair's scene, on latents that both take: PixArt needs larger ones than AuraFlow."""
    scene = TinyScene(host, *pair, **options)
    scene.latent = scene.holding(empty_latent(sized(pair), options.get("batch", 1)))
    return scene


def sized(pair: tuple[str, str]) -> str:
    """The family whose latents both of a pair take."""
    return "pixart" if "pixart" in pair else pair[0]


@pytest.mark.parametrize("pair", ALIKE, ids="+".join)
def test_one_sided_weights_are_the_stock_sampler(host: Host, pair: tuple[str, str]) -> None:
    """Each has its own prompt, guidance and shift."""
    scene = scene_of(host, pair)
    sigmas = torch.tensor([1.0, 0.8, 0.3, 0.0])
    found = scene.samples(
        stock_text=scene.guided_by(sigmas, scene.stock_guider("text")),
        stock_spatial=scene.guided_by(sigmas, scene.stock_guider("spatial")),
        text=scene.guided_by(sigmas, scene.guider(fixed(1.0))),
        spatial=scene.guided_by(sigmas, scene.guider(fixed(0.0))),
        dynamic=scene.guided_by(sigmas, scene.guider({"warmup": 0.5})),
    )
    assert torch.equal(found["text"], found["stock_text"])
    assert torch.equal(found["spatial"], found["stock_spatial"])
    assert not torch.equal(found["text"], found["spatial"])
    assert found["dynamic"].isfinite().all()


@pytest.mark.parametrize("pair", BRIDGED, ids="+".join)
def test_each_of_a_bridged_pair_is_itself_in_its_own_coordinates(
    host: Host, pair: tuple[str, str]
) -> None:
    """Text is the stock sampler bit for bit. Spatial is its own run, but for rounding, also where
    its prompts share the run's noise levels, and where it guides itself."""
    scene = scene_of(host, pair)
    run, own = (own_sigmas(family) for family in pair)
    one_prompt = scene.guided_by(own, scene.stock_guider("spatial"))
    scene.spatial = by_turns(scene, scene.spatial)
    unguided = scene.guided_by(own, scene.stock_guider("spatial"))
    scene.spatial_model = scene.layout_guidance(scene.spatial_model, end=0.5, scale=3e3)
    found = scene.samples(
        stock_text=scene.guided_by(run, scene.stock_guider("text")),
        stock_spatial=scene.guided_by(own, scene.stock_guider("spatial")),
        text=scene.guided_by(run, scene.guider(fixed(1.0))),
        spatial=scene.guided_by(run, scene.guider(fixed(0.0))),
        unguided=unguided,
        one_prompt=one_prompt,
    )
    assert torch.equal(found["text"], found["stock_text"])
    assert relative(found["spatial"], found["stock_spatial"]) < 1e-4
    assert relative(found["unguided"], found["stock_spatial"]) > 1e-3
    assert relative(found["unguided"], found["one_prompt"]) > 1e-3


def by_turns(scene: TinyScene, conditioning: Link) -> Link:
    """A conditioning for the first part of the noise levels, and none of its text after it."""
    parts = []
    for start, end in ((0.0, 0.55), (0.55, 1.0)):
        found = scene.add(
            "ConditioningSetTimestepRange", conditioning=conditioning, start=start, end=end
        )
        parts.append(found[0])
    empty = scene.add("ConditioningZeroOut", conditioning=parts[1])[0]
    return scene.add("ConditioningCombine", conditioning_1=parts[0], conditioning_2=empty)[0]


@pytest.mark.parametrize("pair", EACH_WAY, ids="+".join)
def test_a_bridged_pair_is_blended_and_balanced(host: Host, pair: tuple[str, str]) -> None:
    """From the text model's first sigma on. A balance that rests is a fixed mix."""
    scene = scene_of(host, pair)
    wanted = {
        "fixed": scene.realcompo({"mode": "fixed", "warmup": 0.0}),
        "resting": scene.realcompo(RESTING),
        "dynamic": scene.realcompo({"warmup": 0.3, "step_scale": 4.0, "lean": 0.0}, steps=4),
        "paper": scene.realcompo({"warmup": 0.0, "recipe": "paper"}),
    }
    out = host.run(scene, trace=wanted["dynamic"][1], **{k: v[0] for k, v in wanted.items()})
    latents = {name: out[name]["samples"] for name in wanted}
    assert all(latent.isfinite().all() for latent in latents.values())
    torch.testing.assert_close(latents["resting"], latents["fixed"], rtol=1e-3, atol=1e-3)
    losses = out["trace"].losses()[-1]
    assert losses["text"] != losses["spatial"]


@pytest.mark.parametrize("pair", [("wan", "cosmos2")], ids="+".join)
def test_a_batch_is_its_pictures_one_by_one(host: Host, pair: tuple[str, str]) -> None:
    scene = scene_of(host, pair, batch=2)
    one = empty_latent(sized(pair))
    settings = {"warmup": 0.5, "lean": 0.0}
    both = scene.realcompo(settings)
    parts = [
        scene.realcompo(settings, latent_image=scene.holding(one, batch_index=[index]))
        for index in range(2)
    ]
    found = scene.samples(both=both, first=parts[0], second=parts[1])
    assert relative(found["both"], torch.cat([found["first"], found["second"]])) < 1e-3


@pytest.mark.parametrize("pair", EACH_WAY, ids="+".join)
def test_the_gradient_through_the_bridge_is_the_slope(host: Host, pair: tuple[str, str]) -> None:
    def look(run: Any, latent: Tensor, sigma: Tensor) -> tuple[float, float]:
        point = host.pack("realcompo_core.sampling.branch").Point
        spatial = list(run.method.branches.values())[1]

        def loss(at: Tensor) -> float:
            pull = spatial.pull(point(at, sigma, 0), gradient=False, checkpointing=False)
            return float(pull.losses.double().sum())

        there = point(latent, sigma, 0)
        gradient = spatial.pull(there, gradient=True, checkpointing=False).gradient
        direction = gradient / gradient.norm()
        step = 0.003 * latent.norm()
        rise = loss(latent + step * direction) - loss(latent - step * direction)
        return float((gradient * direction).sum()), float(rise / (2 * step))

    slope, difference = inspect(scene_of(host, pair), own_sigmas(pair[0])[1], look)
    assert slope > 0 and relative(slope, difference) < 1e-2


def inspect(scene: TinyScene, sigma: Tensor, look: Callable[[Any, Tensor, Tensor], Any]) -> Any:
    """What ``look(run, latent, sigma)`` returns inside a run, in place of sampling; latents are
    the core's."""
    import comfy.samplers

    found = []

    def function(model: Any, noise: Tensor, sigmas: Tensor, extra_args: dict, **_: Any) -> Tensor:
        guider, now = model.inner_model, sigmas[:1]
        guider(noise, now, model_options=extra_args["model_options"], seed=0)
        flat = noise.squeeze(2) if noise.ndim == 5 else noise
        found.append(look(guider.run, flat, now))
        return noise

    sigmas = torch.stack([sigma, torch.zeros(())])
    done = scene.guided_by(sigmas, scene.guider({"warmup": 0.0}))
    probe = scene.changed(scene.latent, "probe", lambda _: comfy.samplers.KSAMPLER(function))
    scene.prompt[done.key]["inputs"]["sampler"] = probe
    scene.host.forget()
    scene.host.run(scene, latent=done[0])
    return found[0]


@pytest.mark.parametrize("pair", [("wan", "cosmos2"), ("cosmos2", "wan")], ids="+".join)
def test_each_model_takes_an_inpainted_original_as_its_own_run_would(
    host: Host, pair: tuple[str, str]
) -> None:
    """Cosmos takes it without noise, Wan with it."""
    scene, picture = scene_of(host, pair), picture_of("wan")
    mask = torch.zeros(1, 64, 96)
    mask[..., :48] = 1
    scene.latent = scene.holding(picture, noise_mask=mask)
    run, own = (own_sigmas(family) for family in pair)
    found = scene.samples(
        stock=scene.guided_by(own, scene.stock_guider("spatial")),
        spatial=scene.guided_by(run, scene.guider(fixed(0.0))),
    )
    assert relative(found["stock"], found["spatial"]) < 1e-4


def test_formats_that_only_look_alike_are_refused(host: Host) -> None:
    scene = TinyScene(host, "sd3", "flux")
    with pytest.raises(PromptError, match="latent format, got SD3 and Flux"):
        host.run(scene, latent=scene.realcompo()[0])


def test_samplings_of_which_nothing_is_known_are_refused(host: Host) -> None:
    def change(model: Any) -> Any:
        import comfy.model_sampling as sampling

        class Other(sampling.ModelSamplingDiscreteFlow, sampling.CONST):
            def noise_scaling(self, sigma: Any, noise: Any, latent_image: Any, *_: Any) -> Any:
                return latent_image

        changed = model.clone()
        changed.add_object_patch("model_sampling", Other())
        return changed

    scene = TinyScene(host, "flux")
    scene.spatial_model = scene.changed(scene.spatial_model, "other", change)
    with pytest.raises(PromptError, match="sampling type that fits"):
        host.run(scene, latent=scene.realcompo()[0])


def test_a_prompt_of_another_architecture_is_refused(host: Host) -> None:
    """Its rows have another width than the model takes."""
    scene = TinyScene(host, "flux", "z-image")
    wide = scene.changed(scene.negative, "wide", lambda found: [[found[0][0].repeat(1, 1, 2), {}]])
    ours = scene.realcompo(negative=scene.negative, spatial_negative=wide)
    with pytest.raises(PromptError, match=r"spatial negative.*32 values a token"):
        host.run(scene, latent=ours[0])
