"""A branch in another model's coordinates: the change is exact, and so are its gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from realcompo_core.sampling.branch import Point, Side
from realcompo_core.sampling.bridge import Bridge, BridgedBranch
from realcompo_core.sampling.coordinates import Coordinates
from realcompo_core.words.grounding import Objects
from testkit.toy_branch import ToyBranch

VE, FLOW = Coordinates.VE, Coordinates.FLOW
TO_VE, TO_FLOW = Bridge(FLOW, VE, 14.6), Bridge(VE, FLOW)
DTYPE = torch.float64
SHAPE = (2, 3, 4, 6)


def of(*values: float) -> Tensor:
    return torch.tensor(values, dtype=DTYPE)


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=DTYPE)


def toy() -> ToyBranch:
    left, right = torch.zeros(2, 1, *SHAPE[2:], dtype=DTYPE)
    left[..., :3], right[..., 3:] = 1, 1
    objects = Objects(("a cat", "a dog"), ((1,), (2,)), (left, right), ((0,), (1,)))
    return ToyBranch(Side.SPATIAL, objects, 0.3, draw(*SHAPE), draw(2, 3))


@pytest.mark.parametrize(
    ("bridge", "sigma", "own", "factor"),
    [
        (TO_VE, 0.5, 1.0, 2.0),
        (TO_VE, 0.9, 9.0, 10.0),
        (TO_VE, 0.0, 0.0, 1.0),
        (TO_VE, 1.0, 14.6, 14.6),
        (TO_VE, 0.99, 14.6, 14.6 / 0.99),
        (TO_FLOW, 1.0, 0.5, 0.5),
        (TO_FLOW, 9.0, 0.9, 0.1),
        (TO_FLOW, 0.0, 0.0, 1.0),
        (Bridge(VE, FLOW, math.inf), 4518.0, 4518 / 4519, 1 / 4519),
    ],
)
def test_a_latent_on_the_other_side(
    bridge: Bridge, sigma: float, own: float, factor: float
) -> None:
    """Noise that a model does not know is given to it as the most that it knows."""
    assert bridge.sigma(of(sigma)).item() == pytest.approx(own)
    assert bridge.factor(of(sigma)).item() == pytest.approx(factor)


@pytest.mark.parametrize(("bridge", "sigmas"), [(TO_VE, (0.8, 0.1)), (TO_FLOW, (5.0, 0.2))])
def test_the_same_picture_and_noise_make_both_latents(bridge: Bridge, sigmas: tuple) -> None:
    picture, noise = draw(*SHAPE), draw(*SHAPE).flip(0)

    def mixed(coordinates: Coordinates, sigma: Tensor) -> Tensor:
        scale, rms = coordinates.scale(sigma), coordinates.noise(sigma)
        return scale.view(-1, 1, 1, 1) * (picture + rms.view(-1, 1, 1, 1) * noise)

    there = bridge.factor(of(*sigmas)).view(-1, 1, 1, 1) * mixed(bridge.run, of(*sigmas))
    torch.testing.assert_close(there, mixed(bridge.own, bridge.sigma(of(*sigmas))))


@pytest.mark.parametrize("bridge", [TO_VE, TO_FLOW])
def test_the_branch_is_asked_at_its_own_latent_and_its_picture_is_common(bridge: Bridge) -> None:
    branch, latent, sigma = toy(), draw(*SHAPE), of(0.7, 0.2)
    found = BridgedBranch(branch, bridge).predict(Point(latent, sigma, 3, first=True))
    asked = branch.asked[0][1]
    factor = bridge.factor(sigma).view(-1, 1, 1, 1)
    torch.testing.assert_close(asked.latent, factor * latent)
    torch.testing.assert_close(asked.sigma, bridge.sigma(sigma))
    assert (asked.step, asked.first) == (3, True)
    assert torch.equal(found.cond, branch.predict(asked).cond)


@pytest.mark.parametrize("bridge", [TO_VE, TO_FLOW])
def test_the_gradient_is_the_slope_of_the_loss_at_the_runs_latent(bridge: Bridge) -> None:
    branch, latent, sigma = toy(), 0.1 * draw(*SHAPE), of(0.7, 0.2)
    bridged = BridgedBranch(branch, bridge)

    def losses(at: Tensor) -> Tensor:
        how = {"gradient": False, "checkpointing": False}
        return bridged.predict_and_pull(Point(at, sigma, 0), **how)[1].losses

    pull = bridged.pull(Point(latent, sigma, 0), gradient=True, checkpointing=False)
    both = bridged.predict_and_pull(Point(latent, sigma, 0), gradient=True, checkpointing=False)
    assert torch.equal(pull.gradient, both[1].gradient)
    step = 1e-6 * draw(*SHAPE).flip(-1)
    slope = (losses(latent + step) - losses(latent - step)) / 2
    torch.testing.assert_close((pull.gradient * step).sum(dim=(1, 2, 3)), slope, rtol=1e-5, atol=0)


def test_a_branchs_own_move_is_one_of_the_runs_latent() -> None:
    branch, sigma = toy(), of(0.5, 0.5)
    branch.lead = draw(*SHAPE)
    bridged = BridgedBranch(branch, TO_VE)
    assert bridged.guides_itself and bridged.side is Side.SPATIAL
    found = bridged.predict(Point(draw(*SHAPE), sigma, 0, first=True))
    torch.testing.assert_close(found.move, branch.lead / 2)


@pytest.mark.parametrize(("bridge", "sigma"), [(TO_VE, 0.8), (TO_FLOW, 5.0)])
def test_the_networks_input_is_that_of_its_own_latent(bridge: Bridge, sigma: float) -> None:
    branch, latent = toy(), draw(1, *SHAPE[1:])
    own = bridge.factor(of(sigma)).item() * latent
    expected = branch.input_scale(bridge.sigma(of(sigma))) * own
    found = BridgedBranch(branch, bridge).input_scale(of(sigma)) * latent
    torch.testing.assert_close(found, expected)
