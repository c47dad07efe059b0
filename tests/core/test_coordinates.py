"""VE and flow coordinates: two scales of one latent, in which everything is moved alike."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from realcompo_core.sampling.coordinates import Coordinates
from realcompo_core.sampling.kinds import Kind, kind_of
from realcompo_core.sampling.latent_guidance import GuidanceSettings, descend
from realcompo_core.sampling.moving_frame import MovingFrame
from realcompo_core.sampling.nudge import Nudge
from realcompo_core.sampling.schedule import Schedule, step_at
from realcompo_core.sampling.settings import BalancerSettings, Recipe

VE, FLOW = Coordinates.VE, Coordinates.FLOW
DTYPE = torch.float64
TIMES = [1.0, 0.9, 0.75, 0.5, 0.25, 0.0]  # a flow model's sigmas


def draw(seed: int) -> Tensor:
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=DTYPE)


def of(*values: float) -> Tensor:
    return torch.tensor(values, dtype=DTYPE)


@pytest.mark.parametrize("coordinates", Coordinates)
def test_noise_and_sigma_undo_each_other(coordinates: Coordinates) -> None:
    sigma = of(0.0, 0.1, 0.5, 0.99)
    torch.testing.assert_close(coordinates.sigma(coordinates.noise(sigma)), sigma)


def test_infinite_noise_is_flows_end_and_ve_has_none() -> None:
    assert FLOW.noise(of(1.0)).isinf().all() and FLOW.sigma(of(float("inf"))) == 1
    assert FLOW.sigma(of(0.0)) == 0
    assert not FLOW.holds_picture(1.0) and FLOW.holds_picture(0.999) and VE.holds_picture(5000.0)


def test_a_flow_latent_is_a_ve_latent_to_scale() -> None:
    picture, noise, sigma = draw(0), draw(1), 0.8
    there, scale = FLOW.noise(of(sigma)), FLOW.scale(of(sigma))
    torch.testing.assert_close(
        (1 - sigma) * picture + sigma * noise, scale * (picture + there * noise)
    )


# Nudges


@pytest.mark.parametrize(("now", "later"), [(0.95, 0.9), (0.9, 0.2), (0.5, 0.4), (0.3, 0.0)])
def test_a_nudge_moves_a_picture_alike(now: float, later: float) -> None:
    direction = draw(0)
    flow = Nudge(direction, of(now), coordinates=FLOW).at(of(later), 0.7)
    read, reached = FLOW.noise(of(now)), FLOW.noise(of(later))
    ve = Nudge(direction, read).at(reached, 0.7)
    torch.testing.assert_close(flow, (1 - later) * ve)


def test_the_first_moves_on_a_flow_model_are_as_strong_as_on_a_ve_model() -> None:
    """A quarter of a latent's rms, the picture's being 1: shift 3, twenty steps."""
    times = [3 * t / (1 + 2 * t) for t in (1 - step / 20 for step in range(6))]
    for now, later in pairwise(times[1:]):
        nudge = Nudge(torch.ones(1, 1, 2, 2, dtype=DTYPE), of(now), coordinates=FLOW)
        latent = (later**2 + (1 - later) ** 2) ** 0.5
        assert float(nudge.at(of(later), 1.0).mean()) / latent == pytest.approx(0.25, abs=0.005)


def test_layout_guidance_moves_a_picture_alike() -> None:
    """The gradient at a flow latent is that at the VE latent, by the chain rule to scale."""
    latent, slope, time = draw(0), draw(1), of(0.6, 0.9)
    scale = FLOW.scale(time).view(2, 1, 1, 1)
    ve = descend(latent / scale, slope, FLOW.noise(time), 30.0)
    torch.testing.assert_close(descend(latent, slope / scale, time, 30.0), scale * ve)


# The steps that find no picture


def test_only_flows_first_step_is_blank() -> None:
    assert Schedule(TIMES).blank == 0
    assert Schedule(TIMES, coordinates=FLOW).blank == 1
    assert Schedule(TIMES[1:], coordinates=FLOW).blank == 0
    assert Schedule([1.0, 1.0], coordinates=FLOW).blank == 1


@pytest.mark.parametrize(("steps", "blank", "expected"), [(50, 0, 8), (8, 1, 2), (4, 1, 1)])
def test_a_share_of_the_steps_counts_those_that_find_a_picture(
    steps: int, blank: int, expected: int
) -> None:
    assert step_at(0.16, steps, blank) == expected
    assert BalancerSettings(warmup=0.16).warmup_steps(steps, blank) == expected
    assert BalancerSettings(warmup=0.0).warmup_steps(steps, blank) == 0


@pytest.mark.parametrize(("steps", "expected"), [(4, [1]), (8, [1]), (20, [1, 2, 3, 4])])
def test_layout_guidance_has_steps_of_a_turbo_model(steps: int, expected: list[int]) -> None:
    schedule = Schedule([1 - step / steps for step in range(steps + 1)], coordinates=FLOW)
    found = [step for step in range(steps) if GuidanceSettings().guides(step, schedule)]
    assert found == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"warmup": 0.5}, [Kind.SPATIAL_ONLY, Kind.NUDGED, Kind.NUDGED]),
        ({"warmup": 0.5, "every": 2}, [Kind.SPATIAL_ONLY, Kind.NUDGED, Kind.SPATIAL_ONLY]),
        ({"warmup": 0.0, "online": False}, [Kind.LOOKED_AHEAD] * 3),
        ({"warmup": 0.0, "recipe": Recipe.PAPER}, [Kind.BLENDED] + [Kind.LOOKED_AHEAD] * 2),
        ({"warmup": 0.5, "recipe": Recipe.OFFICIAL}, [Kind.SPATIAL_ONLY] + [Kind.REHEARSED] * 2),
    ],
)
def test_no_model_is_asked_for_attention_where_there_is_no_picture(
    settings: dict, expected: list[Kind]
) -> None:
    """At sigma 1 a look ahead reads the next step's latent, unless told the current sigma."""
    chosen = BalancerSettings(**settings)
    schedule = Schedule(TIMES, chosen.warmup_steps(5, 1), chosen.every, FLOW)
    nudges = chosen.nudges
    found = [kind_of(step, chosen, schedule, to_catch_up=False, nudges=nudges) for step in range(3)]
    assert found == expected


# The frame: a sampler that knows nothing of the moves goes where a step from the moved latent leads

Update = Callable[[Tensor, Tensor, float, float, Tensor], Tensor]


def euler(x: Tensor, denoised: Tensor, sigma: float, after: float, noise: Tensor) -> Tensor:
    return x + (after - sigma) * (x - denoised) / sigma


def ancestral(x: Tensor, denoised: Tensor, sigma: float, after: float, noise: Tensor) -> Tensor:
    """Rectified flow's: down beyond the next sigma, then scaled and noised up to it."""
    down = after**2 / sigma
    x = euler(x, denoised, sigma, down, noise)
    ratio = (1 - after) / (1 - down)
    return ratio * x + max(after**2 - (down * ratio) ** 2, 0) ** 0.5 * noise


def renoised(x: Tensor, denoised: Tensor, sigma: float, after: float, noise: Tensor) -> Tensor:
    """LCM's: noise anew."""
    return (1 - after) * denoised + after * noise


def predicted(x: Tensor, sigma: float) -> Tensor:
    return (x * (1 - 0.5 * sigma)).tanh()


@pytest.mark.parametrize("update", [euler, ancestral, renoised])
@pytest.mark.parametrize("end", [5, 4], ids=["to 0", "split"])
def test_a_moved_latent_is_carried_on_by_flow_samplers(update: Update, end: int) -> None:
    frame = MovingFrame(FLOW)
    x = moved = draw(0)
    times = TIMES[: end + 1]
    for step, (sigma, after) in enumerate(pairwise(times)):
        by, now = 0.3 * draw(10 + step) * (step > 0), of(sigma)
        frame.move(by, now)
        moved = moved + by
        seen = frame.seen(x, now)
        torch.testing.assert_close(seen, moved)
        torch.testing.assert_close(frame.kept(seen, now), x)
        told = frame.told(predicted(seen, sigma))
        noise = draw(20 + step)
        x = update(x, told, sigma, after, noise)
        moved = update(moved, predicted(moved, sigma), sigma, after, noise)
    # As the host gives back a latent: without the factor of its picture.
    scale = 1 - times[-1]
    torch.testing.assert_close(frame.pictured(x / scale), moved / scale)


def test_no_move_where_there_is_no_picture_is_no_move() -> None:
    frame, x = MovingFrame(FLOW), draw(0)
    frame.move(torch.zeros(1, 1, 1, 1, dtype=DTYPE), of(1.0))
    assert torch.equal(frame.seen(x, of(1.0)), x) and torch.equal(frame.told(x), x)


def test_what_is_shown_is_what_the_models_last_saw() -> None:
    frame = MovingFrame(FLOW)
    frame.move(draw(2), of(0.5))
    seen = frame.seen(draw(0), of(0.75))
    torch.testing.assert_close(seen, draw(0) + 0.5 * draw(2))
    assert torch.equal(frame.shown(draw(0)), seen)
