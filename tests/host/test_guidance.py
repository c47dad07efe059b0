"""Layout Guidance: its moves are the paper's, and every sampler carries them on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from testkit.host import Host, PromptError
from testkit.live_run import inspect, relative
from testkit.scene import Scene

SIZE = {"width": 64, "height": 64, "gligen": False}
GUIDANCE = {"scale": 30.0, "threshold": 0.0, "iterations": 1, "start": 0.0, "end": 0.67}
SAMPLING = {"steps": 3, "cfg": 4.0}
INERT = {"threshold": 1.0}  # no loss is above it


def guided(scene: Scene, **settings: Any) -> list:
    return scene.add("RealCompoLayoutGuidance", model=scene.model, **GUIDANCE | settings)[0]


def moving_in_place(host: Host) -> Callable[[Any], Any]:
    """What to apply to a guided model, which then moves the sampler's own latent.

    That is the plainest form of the algorithm. Only for samplers that hand the model the very
    latent that they go on with.
    """
    latent_guidance = host.pack("nodes.host.sampling.latent_guidance")

    class InPlace(latent_guidance.GuidedRun):
        def predict(
            self, executor: Any, model: Any, conds: list, x: Tensor, timestep: Tensor, options: dict
        ) -> list:
            unmoved = x.clone()
            super().predict(lambda *_: [], model, conds, unmoved, timestep, options)
            x.add_(self.frame.offset)
            self.frame.offset = 0.0
            return executor(model, conds, x, timestep, options)

    def sample(executor: Any, *args: Any) -> Tensor:
        original, latent_guidance.GuidedRun = latent_guidance.GuidedRun, InPlace
        try:
            return latent_guidance._sample_guided(executor, *args)
        finally:
            latent_guidance.GuidedRun = original

    def apply(model: Any) -> Any:
        clone = model.clone()
        latent_guidance.wrap_sampling(clone, sample)
        return clone

    return apply


def images(host: Host, sampler_name: str, **settings: Any) -> dict[str, Tensor]:
    """Stock, guided, and guided by moving the sampler's latent in place."""
    host.functions["in place"] = moving_in_place(host)
    scene = Scene(**SIZE)
    model = guided(scene, **settings)
    sampling = SAMPLING | {"sampler_name": sampler_name}
    wanted = {
        "stock": scene.stock(**sampling)[0],
        "guided": scene.stock(model=model, **sampling)[0],
        "in_place": scene.stock(model=scene.apply(model, "in place"), **sampling)[0],
    }
    return {name: latent["samples"] for name, latent in host.run(scene, **wanted).items()}


EXACT = ["euler", "dpm_2", "euler_ancestral", "lcm", "euler_cfg_pp", "lms"]


@pytest.mark.parametrize("name", EXACT)
def test_the_moved_latent_is_carried_on(host: Host, name: str) -> None:
    found = images(host, name)
    assert relative(found["guided"] - found["stock"], found["in_place"] - found["stock"]) < 2e-3
    assert relative(found["guided"], found["stock"]) > 1e-2


def test_a_sampler_that_remembers_predictions_carries_it_nearly(host: Host) -> None:
    found = images(host, "dpmpp_2m")
    effect = (found["in_place"] - found["stock"]).norm()
    assert 0 < (found["guided"] - found["in_place"]).norm() < 0.25 * effect


def test_euler_is_the_explicit_algorithm(host: Host) -> None:
    """x <- x - scale * sigma^2 * gradient, twice, then the step.

    Each prediction and gradient of the live model.
    """

    def look(run: Any, latent: Tensor, sigma: Tensor, options: dict) -> Tensor:
        objective = (
            host.pack("nodes.host.sampling.layout_guidance").layout_guidance(None, "").objective
        )
        x = latent
        for _ in range(2):
            x = (
                x
                - GUIDANCE["scale"]
                * sigma**2
                * run.text.pull(x, sigma, objective, gradient=True).gradient
            )
        found = run.text.predict(x, sigma)
        denoised = found.uncond + (found.cond - found.uncond) * 7.5
        sigma_next = run.schedule.sigmas[1]
        return x + (sigma_next - sigma) * (x - denoised) / sigma

    expected = inspect(host, Scene(**SIZE), look, mode="text only")
    scene = Scene(**SIZE)
    sampling = {
        "steps": 4,
        "start_at_step": 0,
        "end_at_step": 1,
        "sampler_name": "euler",
        "scheduler": "normal",
    }
    one_step = scene.add(
        "KSamplerAdvanced",
        model=guided(scene, iterations=2),
        positive=scene.text,
        negative=scene.negative,
        cfg=7.5,
        latent_image=scene.latent,
        noise_seed=7,
        add_noise="enable",
        return_with_leftover_noise="enable",
        **sampling,
    )
    found = host.run(scene, latent=one_step[0])["latent"]["samples"]
    scale = (
        host.run(scene, model=scene.model)["model"].get_model_object("latent_format").scale_factor
    )
    torch.testing.assert_close(found * scale, expected, rtol=1e-4, atol=1e-3)


def test_the_moves_follow_the_finite_difference(host: Host) -> None:
    def look(run: Any, latent: Tensor, sigma: Tensor, options: dict) -> tuple[float, float]:
        objective = (
            host.pack("nodes.host.sampling.layout_guidance").layout_guidance(None, "").objective
        )
        gradient = run.text.pull(latent, sigma, objective, gradient=True).gradient
        step = 0.01 * latent.norm() * gradient / gradient.norm()
        ahead, behind = (
            run.text.pull(latent + s * step, sigma, objective, gradient=False).losses
            for s in (1, -1)
        )
        return float((gradient * step).sum()), float(ahead - behind) / 2

    slope, difference = inspect(host, Scene(**SIZE), look)
    assert slope > 0 and relative(slope, difference) < 1e-2


def test_a_loss_below_the_threshold_is_the_stock_sampler(host: Host) -> None:
    found = images(host, "euler", **INERT)
    assert torch.equal(found["guided"], found["stock"])


def test_what_is_reported_is_the_guided_latent(host: Host) -> None:
    """The last prediction that SamplerCustomAdvanced was told of is the image that it ends with."""
    scene = Scene(**SIZE)
    model = guided(scene, end=1.0)
    guider = scene.add(
        "CFGGuider", model=model, positive=scene.text, negative=scene.negative, cfg=4.0
    )[0]
    sigmas = scene.add(
        "BasicScheduler", model=scene.model, scheduler="normal", steps=3, denoise=1.0
    )[0]
    noise = scene.add("RandomNoise", noise_seed=7)[0]
    sampler = scene.add("KSamplerSelect", sampler_name="euler")[0]
    done = scene.add(
        "SamplerCustomAdvanced",
        noise=noise,
        guider=guider,
        sampler=sampler,
        sigmas=sigmas,
        latent_image=scene.latent,
    )
    out = host.run(scene, latent=done[0], denoised=done[1])
    torch.testing.assert_close(
        out["latent"]["samples"], out["denoised"]["samples"], rtol=1e-4, atol=1e-4
    )


def test_an_inpainting_sampler_keeps_what_is_not_painted(host: Host) -> None:
    scene = Scene(**SIZE)
    scene.latent = half_painted(scene)
    out = host.run(
        scene,
        kept=scene.latent,
        found=scene.stock(model=guided(scene, end=1.0))[0],
        stock=scene.stock()[0],
    )
    kept, found, stock = (out[name]["samples"] for name in ("kept", "found", "stock"))
    torch.testing.assert_close(found[..., 4:], kept[..., 4:])
    assert relative(found[..., :4], stock[..., :4]) > 1e-2


def test_guidance_moves_nothing_where_the_original_is_mixed_in(host: Host) -> None:
    """A sampler that keeps half of a cell's original would keep half of a move's opposite, too."""
    scene = Scene(**SIZE)
    scene.latent = half_painted(scene, painted=0.5)
    out = host.run(
        scene, found=scene.stock(model=guided(scene, end=1.0))[0], stock=scene.stock()[0]
    )
    assert torch.equal(out["found"]["samples"], out["stock"]["samples"])


def half_painted(scene: Scene, painted: float = 1.0) -> list:
    """A latent of which only the left half is to be painted."""
    pixels = scene.add("EmptyImage", width=64, height=64, batch_size=1, color=0x336699)[0]
    encoded = scene.add("VAEEncode", pixels=pixels, vae=scene.vae)[0]
    left = scene.add("SolidMask", value=painted, width=32, height=64)[0]
    canvas = scene.add("SolidMask", value=0.0, width=64, height=64)[0]
    mask = scene.add("MaskComposite", destination=canvas, source=left, x=0, y=0, operation="add")[0]
    return scene.add("SetLatentNoiseMask", samples=encoded, mask=mask)[0]


def test_two_guidances_act_in_order(host: Host) -> None:
    scene = Scene(**SIZE)
    first = guided(scene, end=0.34)
    both = scene.add(
        "RealCompoLayoutGuidance", model=first, **GUIDANCE | {"start": 0.34, "end": 1.0}
    )[0]
    whole = guided(scene, end=1.0)
    out = host.run(scene, both=scene.stock(model=both)[0], whole=scene.stock(model=whole)[0])
    assert torch.equal(out["both"]["samples"], out["whole"]["samples"])


ONE_SIDED = [
    ("euler", {"mode": "fixed", "text_weight": 0.0}),
    ("dpmpp_2m", {"mode": "spatial only"}),
]


@pytest.mark.parametrize(("name", "settings"), ONE_SIDED)
def test_a_guided_spatial_branch_alone_is_the_guided_model(
    host: Host, name: str, settings: dict
) -> None:
    scene = Scene(**SIZE)
    model, sampling = guided(scene), SAMPLING | {"sampler_name": name}
    alone = scene.stock(scene.spatial, model=model, **sampling)
    ours = scene.realcompo(settings, spatial_model=model, **sampling)
    out = host.run(scene, alone=alone[0], ours=ours[0])
    difference = relative(out["alone"]["samples"], out["ours"]["samples"])
    assert difference < 1e-5  # the move is taken back before guidance there, and after it here


def test_a_text_branch_of_full_weight_is_not_guided_by_the_other(host: Host) -> None:
    scene = Scene(**SIZE)
    ours = scene.realcompo(
        {"mode": "fixed", "text_weight": 1.0}, spatial_model=guided(scene), **SAMPLING
    )
    out = host.run(scene, stock=scene.stock(**SAMPLING)[0], ours=ours[0])
    assert torch.equal(out["stock"]["samples"], out["ours"]["samples"])


def test_a_guided_branch_moves_the_shared_latent_by_its_weight(host: Host) -> None:
    """One Euler step at equal weights: the mean of where each branch by itself would have led."""
    scene = Scene(**SIZE)
    model = guided(scene, end=1.0)
    sigmas = scene.add(
        "SplitSigmas",
        step=1,
        sigmas=scene.add(
            "BasicScheduler", model=scene.model, scheduler="normal", steps=4, denoise=1.0
        )[0],
    )[0]
    modes = ["fixed", "text only", "spatial only"]
    out = host.run(scene, **{mode: one_step(scene, model, sigmas, mode) for mode in modes})
    half, text, spatial = (out[mode]["samples"] for mode in modes)
    assert relative(text, spatial) > 1e-2
    torch.testing.assert_close(half, (text + spatial) / 2, rtol=1e-4, atol=1e-3)


def one_step(scene: Scene, model: list, sigmas: list, mode: str) -> list:
    guider = scene.add(
        "RealCompoGuider",
        model=scene.model,
        positive=scene.text,
        negative=scene.negative,
        spatial_positive=scene.spatial,
        cfg=4.0,
        spatial_model=model,
        balancer=scene.balancer(mode=mode),
    )[0]
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


def test_the_balance_gradient_knows_of_the_moves(host: Host) -> None:
    """Against moving the balance and reading the loss, with a spatial branch that is guided."""

    def look(run: Any, latent: Tensor, sigma: Tensor, options: dict) -> tuple[float, float]:
        text, spatial = run.predict(latent, sigma, first=True)  # only that one is guided
        assert spatial.move.abs().max() > 0 and text.move.abs().max() == 0
        slopes: list[Tensor] = []
        run.balancer.update = lambda g, *_: slopes.append(g) or torch.ones(1)
        start = run.balancer.balance
        run.rebalance(latent, sigma, (text, spatial))
        direction = slopes[0] / slopes[0].abs().max()
        losses = []
        for sign in (1, -1):
            run.balancer.balance = start + sign * 0.05 * direction
            pulls = run.rebalance(latent, sigma, (text, spatial))
            losses.append(sum(float(pull.losses) for pull in pulls.values()))
        return float((slopes[0] * direction).sum()), (losses[0] - losses[1]) / 0.1

    scene = Scene(**SIZE)
    scene.spatial_model = guided(scene, end=1.0)
    slope, difference = inspect(host, scene, look, prior=0.0)
    assert relative(slope, difference) < 2e-2


@pytest.mark.parametrize("mode", ["alone", "branch"])
def test_guidance_without_a_layout(host: Host, mode: str) -> None:
    host.forget()
    scene = Scene(**SIZE)
    model = guided(scene)
    if mode == "alone":
        wanted, start = (
            scene.stock(scene.negative, model=model)[0],
            "RealCompo Layout Guidance, guided positive:",
        )
    else:
        ours = scene.realcompo(
            {"mode": "spatial only"}, spatial_model=model, spatial_positive=scene.negative
        )
        wanted, start = ours[0], "RealCompo KSampler, spatial only positive:"
    with pytest.raises(PromptError, match="RealCompo Layout Conditioning") as caught:
        host.run(scene, latent=wanted)
    assert str(caught.value).startswith(start)


def test_guidance_leaves_nothing_behind(fresh: Host) -> None:
    scene = Scene(**SIZE)
    loaded = fresh.run(scene, model=scene.model)["model"]
    tensors = [*loaded.model.parameters(), *loaded.model.buffers()]
    before = [(id(t), t.data_ptr(), t.is_inference(), t.requires_grad) for t in tensors]
    out = fresh.run(
        scene, stock=scene.stock()[0], guided=scene.stock(model=guided(scene, end=1.0))[0]
    )
    after = [(id(t), t.data_ptr(), t.is_inference(), t.requires_grad) for t in tensors]
    assert before == after and not torch.equal(out["stock"]["samples"], out["guided"]["samples"])
    again = fresh.run(scene, stock=scene.stock(seed=7, steps=3)[0])
    assert torch.equal(out["stock"]["samples"], again["stock"]["samples"])
