"""The balance's gradient through real models: right, early, and cheap."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from testkit.controls import CONTROLS, Control
from testkit.host import Host
from testkit.live_run import (
    inspect,
    pull_agrees_with_finite_difference,
    relative,
    total_loss,
)
from testkit.scene import Scene

SIZE = {"width": 128, "height": 128}


def rebalanced_loss(run: Any, latent: Tensor, sigma: Tensor) -> float:
    """The loss of both branches at the present balance; the balance is put back."""
    balance = run.balancer.balance
    pulls = run.rebalance(latent, sigma, run.predict(latent, sigma))
    run.balancer.balance = balance
    return total_loss(pulls)


def test_the_loss_on_a_fixed_latent_falls_along_the_gradient(host: Host) -> None:
    def look(run: Any, latent: Tensor, sigma: Tensor, options: dict) -> list[float]:
        losses = []
        for _ in range(6):
            predictions = run.predict(latent, sigma)
            losses.append(total_loss(run.rebalance(latent, sigma, predictions)))
        return losses

    losses = inspect(host, Scene(**SIZE), look, prior=0.0, step_scale=0.5)
    assert losses[-1] < losses[0]
    assert all(after <= before + 1e-5 for before, after in pairwise(losses))


def test_the_balance_gradient_is_the_finite_difference(host: Host) -> None:
    """Closed form times backprop through both networks, against moving the balance and reading the
    loss.
    """

    def look(run: Any, latent: Tensor, sigma: Tensor, options: dict) -> tuple[float, float]:
        slopes: list[Tensor] = []
        update, run.balancer.update = (
            run.balancer.update,
            lambda g, *_: slopes.append(g) or torch.ones(1),
        )
        start = run.balancer.balance
        rebalanced_loss(run, latent, sigma)
        direction = slopes[0] / slopes[0].abs().max()
        sides = []
        for sign in (1, -1):
            run.balancer.balance = start + sign * 0.05 * direction
            sides.append(rebalanced_loss(run, latent, sigma))
        run.balancer.update = update
        return float((slopes[0] * direction).sum()), (sides[0] - sides[1]) / 0.1

    slope, difference = inspect(host, Scene(**SIZE), look, prior=0.0)
    assert relative(slope, difference) < 2e-2


@pytest.mark.parametrize("kind", CONTROLS.values(), ids=CONTROLS)
def test_gradients_flow_through_a_controlnet(host: Host, kind: Control) -> None:
    scene = Scene(**SIZE, gligen=False)
    kind(host, scene)
    assert pull_agrees_with_finite_difference(host, scene)


def test_gradients_flow_through_gligen(host: Host) -> None:
    assert pull_agrees_with_finite_difference(host, Scene(**SIZE))


def test_early_exit_and_checkpointing_change_no_gradient(host: Host) -> None:
    def look(run: Any, latent: Tensor, sigma: Tensor, options: dict) -> list[Tensor]:
        from dataclasses import replace

        recomputing = replace(run.objective, checkpointing=True)
        early = run.text.pull(latent, sigma, run.objective, gradient=True).gradient
        recomputed = run.text.pull(latent, sigma, recomputing, gradient=True).gradient
        branch = host.pack("nodes.host.sampling.prepared_model")
        install = branch.Capture.install
        branch.Capture.install = lambda self, options, ending: install(self, options)
        try:
            whole = run.text.pull(latent, sigma, run.objective, gradient=True).gradient
        finally:
            branch.Capture.install = install
        return [early, recomputed, whole]

    early, recomputed, whole = inspect(host, Scene(**SIZE), look)
    assert early.abs().max() > 0
    assert torch.equal(early, recomputed) and torch.equal(early, whole)


def test_checkpointing_changes_no_image(host: Host) -> None:
    scene = Scene(width=64, height=64)
    plain, recomputed = (scene.realcompo({"checkpointing": on})[0] for on in (False, True))
    out = host.run(scene, plain=plain, recomputed=recomputed)
    assert torch.equal(out["plain"]["samples"], out["recomputed"]["samples"])


def test_a_u_nets_attention_is_shared_out_among_the_text_anyway(host: Host) -> None:
    scene = Scene(width=64, height=64)
    every, text = (scene.realcompo({"keys": keys})[0] for keys in ("all", "text"))
    out = host.run(scene, every=every, text=text)
    assert torch.equal(out["every"]["samples"], out["text"]["samples"])


def test_gradients_need_no_differentiable_backend(host: Host) -> None:
    """On the CPU the host chooses an attention backend without a backward.

    The pass must not use it.
    """
    from comfy.ldm.modules import attention

    assert attention.optimized_attention is attention.attention_sub_quad

    def look(run: Any, latent: Tensor, sigma: Tensor, options: dict) -> Tensor:
        return run.spatial.pull(latent, sigma, run.objective, gradient=True).gradient

    assert inspect(host, Scene(**SIZE), look).abs().max() > 0
