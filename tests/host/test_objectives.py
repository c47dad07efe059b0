"""What the balance follows: weights of objects and branches, and losses beside the region loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from testkit.host import Host, PromptError
from testkit.live_run import inspect, relative
from testkit.scene import Scene

SIZE = {"width": 64, "height": 64, "gligen": False}
JOINT = {"object_weights": "2, 0.5", "separate": 3.0, "enhance": 0.5}


def test_the_objective_is_the_weighted_sum_of_its_terms(host: Host) -> None:
    def look(run: Any, latent: Tensor, sigma: Tensor, options: dict) -> tuple[Tensor, Tensor]:
        losses = host.pack("realcompo_core.sampling.losses")
        pull = run.spatial.pull(latent, sigma, run.objective, gradient=True)
        (reading,) = pull.readings
        expected = (reading.losses * torch.tensor([2, 0.5])).sum(dim=1)
        expected += 3 * losses.separate_loss(reading.attention) + 0.5 * losses.enhance_loss(
            reading.attention
        )
        return pull.losses, expected

    found, expected = inspect(host, Scene(**SIZE), look, **JOINT)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "settings", [JOINT, {"separate": 100.0}, {"enhance": 1.0}], ids=["joint", "separate", "enhance"]
)
def test_the_gradient_of_a_joint_objective_is_the_finite_difference(
    host: Host, settings: dict
) -> None:
    def look(run: Any, latent: Tensor, sigma: Tensor, options: dict) -> tuple[float, float]:
        gradient = run.spatial.pull(latent, sigma, run.objective, gradient=True).gradient
        step = 0.01 * latent.norm() * gradient / gradient.norm()
        ahead, behind = (
            run.spatial.pull(latent + s * step, sigma, run.objective, gradient=False).losses
            for s in (1, -1)
        )
        return float((gradient * step).sum()), float(ahead - behind) / 2

    slope, difference = inspect(host, Scene(**SIZE), look, **settings)
    assert slope > 0 and relative(slope, difference) < 1e-2


def test_branch_weights_split_the_gradient(host: Host) -> None:
    def look(run: Any, latent: Tensor, sigma: Tensor, options: dict) -> list[Tensor]:
        slopes: list[Tensor] = []
        run.balancer.update = lambda g, *_: slopes.append(g) or torch.ones(1)
        predictions = run.predict(latent, sigma)
        for weights in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (3.0, 0.5)):
            run.method.passes.loss_weights = dict(zip(("text", "spatial"), weights, strict=True))
            run.rebalance(latent, sigma, predictions)
        return slopes

    scene = Scene(**SIZE | {"gligen": True})
    both, text, spatial, uneven = inspect(host, scene, look)
    torch.testing.assert_close(both, text + spatial)
    torch.testing.assert_close(uneven, 3 * text + 0.5 * spatial)
    assert text.abs().max() > 0 and spatial.abs().max() > 0


def test_an_object_without_weight_does_not_move_the_balance(host: Host) -> None:
    """With weight for the first alone, a layout of the first alone gives the same balance."""
    scene = Scene(**SIZE | {"gligen": True})
    first = scene.add("RealCompoLayout", layout="a red cube: 0.05 0.30 0.45 0.90")[0]
    alone = scene.add(
        "RealCompoLayoutConditioning",
        clip=scene.clip,
        text="a red cube and a blue ball",
        layout=first,
    )[0]
    settings = {"prior": 0.0}
    one = scene.realcompo(
        settings, positive=alone, spatial_positive=alone, spatial_model=scene.predicting("lcm")
    )
    two = scene.realcompo(
        settings | {"object_weights": "1, 0"},
        positive=scene.text,
        spatial_positive=scene.text,
        spatial_model=scene.predicting("lcm"),
    )
    out = host.run(scene, one=one[1], two=two[1])
    one, two = (out[name].steps[-1].weight for name in ("one", "two"))
    assert one.std() > 0 and torch.allclose(one, two, atol=1e-5)


def test_weights_for_other_objects_than_the_layouts(host: Host) -> None:
    scene = Scene(**SIZE)
    ours = scene.realcompo({"object_weights": "1, 2, 3"})
    with pytest.raises(
        PromptError, match="RealCompo KSampler, object_weights: expected 2 numbers, got 3"
    ):
        host.run(scene, latent=ours[0])
