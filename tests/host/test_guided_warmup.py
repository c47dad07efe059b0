"""The warm-up's guidance: the attention of the spatial branch's own evaluations moves the latent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from comfy_host import Host
from scenes import Scene
from torch import Tensor

SIZE = {"width": 64, "height": 64}
WARM = {"warmup": 0.5, "guidance": 0.1}
EULER = {"steps": 6, "sampler_name": "euler"}
OFF = ({"recipe": "paper"}, {"mode": "fixed"}, {"mode": "spatial only"}, {"spatial_loss": 0.0})
SAMPLERS = ("heun", "dpmpp_2m", "euler_ancestral", "uni_pc", "ddim", "euler_cfg_pp", "dpm_fast")


@contextmanager
def nudges_of(host: Host) -> Iterator[list[Tensor]]:
    """Every move that attention asks for."""
    run = host.pack("nodes.host.run")
    nudge, found = run.nudge, []

    def noting(*args: object) -> Tensor:
        found.append(nudge(*args))
        return found[-1]

    run.nudge = noting
    try:
        yield found
    finally:
        run.nudge = nudge


@contextmanager
def latents_of(host: Host) -> Iterator[list[tuple[Tensor, Tensor, Tensor]]]:
    """Every latent that a branch keeps the graph at, its sigma, and what the branch predicts there."""
    branch = host.pack("nodes.host.branch").Branch
    predict, found = branch.predict_and_pull, []

    def noting(self: object, latent: Tensor, sigma: Tensor, *args: object, **kwargs: object) -> tuple:
        out = predict(self, latent, sigma, *args, **kwargs)
        found.append((latent.clone(), sigma.clone(), out[0].guided(7.5)))
        return out

    branch.predict_and_pull = noting
    try:
        yield found
    finally:
        branch.predict_and_pull = predict


def run(host: Host, settings: dict, scene: Scene | None = None, **sampling: object) -> tuple[Tensor, object]:
    scene = scene or Scene(**SIZE)
    ours = scene.realcompo(settings, **EULER | sampling)
    out = host.run(scene, latent=ours[0], trace=ours[1])
    return out["latent"]["samples"], out["trace"]


def test_each_step_of_the_warm_up_starts_where_attention_moved_the_last_ones_latent(host: Host) -> None:
    with nudges_of(host) as nudges, latents_of(host) as seen:
        run(host, WARM | {"online": False})
    assert len(nudges) == len(seen) == 3
    for (x, sigma, denoised), (x_next, sigma_next, _), move in zip(seen, seen[1:], nudges, strict=False):
        euler = x + (sigma_next - sigma) * (x - denoised) / sigma
        assert move.any()
        torch.testing.assert_close(x_next, euler + move, rtol=1e-4, atol=1e-4)


def test_attention_goes_where_the_boxes_are(host: Host) -> None:
    """Random weights attend at random, so that a latent is moved far here."""
    (_, left), (_, guided) = (run(host, WARM | {"warmup": 1.0, "guidance": g}, steps=8) for g in (1e-9, 0.5))
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
        with_it, without = (run(host, WARM | off | {"guidance": g})[0] for g in (0.1, 0.0))
    assert not nudges and torch.equal(with_it, without)


def test_it_follows_the_cadence(host: Host) -> None:
    _, trace = run(host, {"warmup": 1.0, "guidance": 0.1, "every": 2})
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
    assert all(move[..., :4].any() and not move[..., 4:].any() for move in nudges)
    torch.testing.assert_close(latent[..., 4:], torch.zeros(1, 4, 8, 4), rtol=0, atol=1e-6)  # the sampler's rounding


def test_a_sample_of_a_batch_is_moved_as_it_is_alone(host: Host) -> None:
    scene = Scene(**SIZE, batch=2)
    both, _ = run(host, WARM, scene)
    scene.latent = scene.add("LatentFromBatch", samples=scene.latent, batch_index=1, length=1)[0]
    alone, _ = run(host, WARM, scene)
    torch.testing.assert_close(both[1:], alone, rtol=1e-3, atol=1e-3)
