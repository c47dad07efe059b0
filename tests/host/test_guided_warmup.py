"""The warm-up's guidance.

The attention of the spatial branch's own evaluations moves the latent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from testkit.host import Host
from testkit.live_run import relative
from testkit.scene import Scene

SIZE = {"width": 64, "height": 64}
WARM = {"warmup": 0.5, "guidance": 1.0}
EULER = {"steps": 6, "sampler_name": "euler"}
OFF = (
    {"recipe": "paper"},
    {"recipe": "official"},
    {"mode": "fixed"},
    {"mode": "spatial only"},
    {"spatial_loss": 0.0},
)
SAMPLERS = ("heun", "dpmpp_2m", "euler_ancestral", "uni_pc", "ddim", "euler_cfg_pp", "dpm_fast")


@contextmanager
def nudges_of(host: Host) -> Iterator[list[tuple[float, Tensor]]]:
    """Every move that attention asks for, and the noise level at which it is made."""
    kind = host.pack("realcompo_core.sampling.nudge").Nudge
    at, found = kind.at, []

    def noting(self: object, sigma: Tensor, guidance: float) -> Tensor:
        found.append((float(sigma.max()), at(self, sigma, guidance)))
        return found[-1][1]

    kind.at = noting
    try:
        yield found
    finally:
        kind.at = at


@contextmanager
def latents_of(host: Host) -> Iterator[list[tuple[Tensor, Tensor, Tensor]]]:
    """Every latent at which the spatial branch predicts, its sigma, and what it predicts there."""
    kind = host.pack("nodes.host.sampling.prepared_model").PreparedModel
    finish, found = kind._checked, []

    def noting(self: Any, denoised: Any, latent: Tensor, sigma: Tensor) -> Any:
        cond, uncond = denoised.cond, denoised.uncond
        if self.name == "spatial":
            guided = uncond + (cond - uncond) * self.guider.cfg
            found.append((latent.clone(), sigma.clone(), guided))
        return finish(self, denoised, latent, sigma)

    kind._checked = noting
    try:
        yield found
    finally:
        kind._checked = finish


def run(
    host: Host, settings: dict, scene: Scene | None = None, **sampling: object
) -> tuple[Tensor, object]:
    scene = scene or Scene(**SIZE)
    ours = scene.realcompo(settings, **EULER | sampling)
    out = host.run(scene, latent=ours[0], trace=ours[1])
    return out["latent"]["samples"], out["trace"]


def test_each_step_after_a_guided_one_starts_where_attention_moved_the_latent(host: Host) -> None:
    """The first blended step too."""
    with nudges_of(host) as nudges, latents_of(host) as seen:
        run(host, WARM | {"online": False})
    assert len(nudges) == 3 and len(seen) == 6
    for (x, sigma, denoised), (x_next, sigma_next, _), (at, move) in zip(
        seen, seen[1:], nudges, strict=False
    ):
        euler = x + (sigma_next - sigma) * (x - denoised) / sigma
        assert move.any() and at == float(sigma_next)
        torch.testing.assert_close(x_next, euler + move, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["sd1", "zero snr", "lcm"])
def test_it_never_outweighs_the_noise(host: Host, kind: str) -> None:
    """Few steps, or a schedule that begins with next to no signal, step over most of the noise at
    once.
    """
    scene = Scene.of(kind)
    with nudges_of(host) as nudges:
        latent, _ = run(host, {"warmup": 0.5}, scene, steps=4)
    assert latent.isfinite().all() and len(nudges) == 2
    assert all(0 < float(move.square().mean().sqrt()) <= sigma / 4 for sigma, move in nudges)


def test_sampling_in_two_parts_is_sampling_in_one(host: Host) -> None:
    """The last move of a part that ends with noise left is made at its end."""
    scene = Scene(**SIZE)
    guider = scene.add(
        "RealCompoGuider",
        model=scene.model,
        positive=scene.text,
        negative=scene.negative,
        spatial_positive=scene.spatial,
        cfg=4.0,
        balancer=scene.balancer(warmup=1.0),
    )[0]
    sigmas = scene.add(
        "BasicScheduler", model=scene.model, scheduler="normal", steps=4, denoise=1.0
    )[0]
    split = scene.add("SplitSigmas", sigmas=sigmas, step=2)
    sampler = scene.add("KSamplerSelect", sampler_name="euler")[0]
    noise, none = scene.add("RandomNoise", noise_seed=7)[0], scene.add("DisableNoise")[0]

    def sampled(noise: list, sigmas: list, latent: list) -> list:
        return scene.add(
            "SamplerCustomAdvanced",
            noise=noise,
            guider=guider,
            sampler=sampler,
            sigmas=sigmas,
            latent_image=latent,
        )[0]

    whole, part = sampled(noise, sigmas, scene.latent), sampled(noise, split[0], scene.latent)
    out = host.run(scene, whole=whole, parts=sampled(none, split[1], part))
    torch.testing.assert_close(
        out["parts"]["samples"], out["whole"]["samples"], rtol=1e-3, atol=1e-3
    )


def test_attention_goes_where_the_boxes_are(host: Host) -> None:
    """Random weights attend at random, so that a latent is moved far here."""
    (_, left), (_, guided) = (
        run(host, WARM | {"warmup": 1.0, "guidance": g}, steps=8) for g in (1e-9, 3.0)
    )
    assert guided.losses()[-1]["spatial"] < left.losses()[-1]["spatial"] - 0.01


def test_it_costs_no_evaluation(host: Host) -> None:
    """The spatial branch's own evaluations are read, and the text branch's are not made."""
    (_, plain), (_, guided) = run(host, WARM | {"guidance": 0.0}), run(host, WARM)
    assert guided.rows == plain.rows
    assert [set(step.readings) for step in guided.steps[:3]] == [{"spatial"}] * 3
    assert not any(step.readings for step in plain.steps[:3])


@pytest.mark.parametrize("off", OFF)
def test_what_has_no_guided_warm_up(host: Host, off: dict) -> None:
    with nudges_of(host) as nudges:
        with_it, without = (run(host, WARM | off | {"guidance": g})[0] for g in (1.0, 0.0))
    assert not nudges and torch.equal(with_it, without)


def test_it_follows_the_cadence(host: Host) -> None:
    _, trace = run(host, {"warmup": 1.0, "every": 2})
    assert [step.index for step in trace.steps if step.readings] == [0, 2, 4]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_any_sampler(host: Host, sampler: str) -> None:
    with nudges_of(host) as nudges:
        latent, _ = run(host, WARM, sampler_name=sampler)
    assert latent.isfinite().all() and len(nudges) == 3


def test_what_an_inpainting_sampler_keeps_does_not_move(host: Host) -> None:
    scene = Scene(**SIZE)
    left = scene.add("SolidMask", value=1.0, width=32, height=64)[0]
    canvas = scene.add("SolidMask", value=0.0, width=64, height=64)[0]
    mask = scene.add("MaskComposite", destination=canvas, source=left, x=0, y=0, operation="add")[0]
    empty = scene.latent
    scene.latent = scene.add("SetLatentNoiseMask", samples=empty, mask=mask)[0]
    with nudges_of(host) as nudges:
        latent, _ = run(host, WARM, scene)
    assert len(nudges) == 3 and all(
        move[..., :4].any() and not move[..., 4:].any() for _, move in nudges
    )
    torch.testing.assert_close(
        latent[..., 4:], torch.zeros(1, 4, 8, 4), rtol=0, atol=1e-6
    )  # the sampler's rounding


def test_a_sample_of_a_batch_is_moved_as_it_is_alone(host: Host) -> None:
    scene = Scene(**SIZE, batch=2)
    both, _ = run(host, WARM, scene)
    scene.latent = scene.add("LatentFromBatch", samples=scene.latent, batch_index=1, length=1)[0]
    alone, _ = run(host, WARM, scene)
    torch.testing.assert_close(both[1:], alone, rtol=1e-3, atol=1e-3)


def test_an_object_without_weight_has_no_say_in_how_far(host: Host) -> None:
    sizes = []
    for weights in ("1, 0", "0, 1", "1, 1"):
        with nudges_of(host) as nudges:
            _, trace = run(host, WARM | {"object_weights": weights})
        sizes.append(rms(nudges[0][1]))
    losses = (
        trace.steps[0].readings["spatial"][0].losses[0]
    )  # the same in all three: nothing has moved yet
    wanted = torch.stack([*losses, losses.mean()]) / losses.mean()
    assert relative(torch.stack(sizes) / sizes[2], wanted) < 1e-3


def rms(move: Tensor) -> Tensor:
    return move.square().mean().sqrt()


def test_a_model_that_guides_itself_is_not_guided_twice(host: Host) -> None:
    scene = Scene(**SIZE)
    itself = scene.add(
        "RealCompoLayoutGuidance",
        model=scene.model,
        scale=30.0,
        threshold=0.0,
        iterations=1,
        start=0.0,
        end=0.5,
    )[0]
    with nudges_of(host) as nudges:
        run(host, WARM, scene, spatial_model=itself)
    assert not nudges


def test_the_models_own_functions_see_the_latent_that_is_evaluated(host: Host) -> None:
    """Perturbed attention and the like evaluate the model once more, at the latent that they are
    given.
    """
    told = []

    def post_cfg(args: dict) -> Tensor:
        told.append(args["input"].clone())
        return args["denoised"]

    def watched(model: Any) -> Any:
        clone = model.clone()
        clone.set_model_sampler_post_cfg_function(post_cfg)
        return clone

    scene = Scene(**SIZE)
    host.functions["watched"] = watched
    model = scene.apply(scene.model, "watched")
    with latents_of(host) as seen:
        run(host, WARM, scene, spatial_model=model)
    assert len(told) == len(seen) == 6
    assert all(torch.equal(one, x) for one, (x, _, _) in zip(told, seen, strict=True))
