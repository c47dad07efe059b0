"""The method on toy branches, whose attention is a closed formula.

Every kind of step, and each recipe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from realcompo_core.errors import InputError
from realcompo_core.sampling.balancer import Balancer
from realcompo_core.sampling.branch import Point, Prediction, Side
from realcompo_core.sampling.gradient_passes import GradientPasses
from realcompo_core.sampling.kinds import Kind, kind_of, plain_kind
from realcompo_core.sampling.moving_frame import MovingFrame
from realcompo_core.sampling.run import Run
from realcompo_core.sampling.schedule import Schedule
from realcompo_core.sampling.settings import BalancerSettings, Mode, Recipe
from realcompo_core.sampling.step import RealCompo
from realcompo_core.sampling.trace import Trace
from realcompo_core.words.grounding import Objects
from testkit.toy_branch import ToyBranch, euler, plain_guidance

SIGMAS = [10.0, 6.0, 3.0, 1.5, 0.7, 0.2, 0.0]
HEIGHT, WIDTH, CHANNELS, CFG = 6, 8, 3, 4.0
LOOKING_AHEAD = BalancerSettings(online=False, guidance=0.0, warmup=0.0)
DTYPE = torch.float64


def objects() -> Objects:
    left, right = torch.zeros(2, 1, HEIGHT, WIDTH, dtype=DTYPE)
    left[:, 1:5, :4] = 1
    right[:, 2:6, 4:] = 1
    return Objects(("a cat", "a dog"), ((1, 2), (4, 5)), (left, right), ((0,), (1,)))


def branch(side: Side, seed: int) -> ToyBranch:
    generator = torch.Generator().manual_seed(seed)
    bias = torch.randn(1, CHANNELS, HEIGHT, WIDTH, generator=generator, dtype=DTYPE)
    keys = torch.randn(2, CHANNELS, generator=generator, dtype=DTYPE)
    return ToyBranch(side, objects(), 0.1 * seed, bias, keys)


class Toy:
    """A run of toy branches, and the trace that it fills."""

    def __init__(self, settings: BalancerSettings, sigmas: list[float] = SIGMAS) -> None:
        self.text, self.spatial = branch(Side.TEXT, 1), branch(Side.SPATIAL, 2)
        branches = {Side.TEXT: self.text, Side.SPATIAL: self.spatial}
        if settings.mode is Mode.TEXT_ONLY:
            del branches[Side.SPATIAL]
        if settings.mode is Mode.SPATIAL_ONLY:
            del branches[Side.TEXT]
        steps = len(sigmas) - 1
        schedule = Schedule(sigmas, settings.warmup_steps(steps), settings.every)
        weights = {
            Side.TEXT: settings.text_loss * settings.rules.text_gradient,
            Side.SPATIAL: settings.spatial_loss,
        }
        passes = GradientPasses(weights, settings.every, settings.checkpointing)
        self.method = RealCompo(branches, settings, schedule, CFG, passes)
        self.trace = Trace()

        def start(latent: Tensor) -> Balancer:
            return Balancer(settings, objects().regions, len(latent), 7, steps)

        self.run = Run(self.method, start, plain_guidance(CFG), MovingFrame(), self.trace)

    def sample(self, batch: int = 1, sigmas: list[float] = SIGMAS) -> Tensor:
        x = sigmas[0] * noise(batch)
        samples = euler(self.run.denoised, x, sigmas)
        self.run.make_pending_move(torch.tensor(sigmas[-1:], dtype=DTYPE))
        return self.run.frame.pictured(samples)

    def calls(self) -> tuple[list[str], list[str]]:
        return self.text.calls(), self.spatial.calls()


def noise(batch: int = 1) -> Tensor:
    draws = []
    for seed in range(batch):
        generator = torch.Generator().manual_seed(100 + seed)
        draws.append(torch.randn(CHANNELS, HEIGHT, WIDTH, generator=generator, dtype=DTYPE))
    return torch.stack(draws)


# What kind a step is: a table, by settings, step, and what waits.


def kinds(settings: BalancerSettings, *, nudges: bool = False, steps: int = 6) -> list[Kind]:
    """The kinds of a run's steps; ``waiting`` as a run itself would find it."""
    schedule = Schedule(SIGMAS, settings.warmup_steps(steps), settings.every)
    found, waiting = [], False
    for step in range(steps):
        found.append(kind_of(step, settings, schedule, to_catch_up=waiting, nudges=nudges))
        waiting = settings.looks_back and schedule.reads_attention(step, in_warmup=False)
        waiting = waiting and settings.mode is Mode.DYNAMIC
    return found


A, S, N = Kind.ONE_SIDED, Kind.SPATIAL_ONLY, Kind.NUDGED
R, B, L, C = Kind.REHEARSED, Kind.BLENDED, Kind.LOOKED_AHEAD, Kind.CAUGHT_UP
TABLE: list[tuple[dict[str, Any], bool, list[Kind]]] = [
    ({"mode": Mode.TEXT_ONLY}, False, [A, A, A, A, A, A]),
    ({"mode": Mode.SPATIAL_ONLY}, True, [A, A, A, A, A, A]),
    ({"mode": Mode.FIXED, "warmup": 0.5}, False, [S, S, S, B, B, B]),
    ({"warmup": 0.34}, True, [N, N, B, C, C, C]),
    ({"warmup": 0.34}, False, [S, S, B, C, C, C]),
    ({"warmup": 0.34, "every": 2}, True, [N, S, B, C, B, C]),
    ({"warmup": 0.34, "online": False}, True, [N, N, L, L, L, B]),
    ({"warmup": 0.34, "online": False, "every": 2}, False, [S, S, L, B, L, B]),
    ({"recipe": Recipe.PAPER, "warmup": 0.34}, False, [S, S, L, L, L, B]),
    ({"recipe": Recipe.OFFICIAL, "warmup": 0.34}, False, [R, R, L, L, L, B]),
    ({"recipe": Recipe.OFFICIAL, "warmup": 0.34, "every": 2}, False, [R, S, L, B, L, B]),
    ({"warmup": 0.0}, False, [B, C, C, C, C, C]),
    ({"warmup": 1.0}, False, [S, S, S, S, S, S]),
]


@pytest.mark.parametrize(("settings", "nudges", "expected"), TABLE)
def test_the_kinds_of_a_runs_steps(
    settings: dict[str, Any], nudges: bool, expected: list[Kind]
) -> None:
    assert kinds(BalancerSettings(**settings), nudges=nudges) == expected


def test_further_evaluations_of_a_step_read_nothing() -> None:
    schedule = Schedule(SIGMAS, 2)
    for recipe in Recipe:
        settings = BalancerSettings(recipe=recipe)
        assert plain_kind(1, settings, schedule) is Kind.SPATIAL_ONLY
        assert plain_kind(2, settings, schedule) is Kind.BLENDED


# What each kind does, against the algorithm written out.


@pytest.mark.parametrize("mode", [Mode.TEXT_ONLY, Mode.SPATIAL_ONLY])
def test_one_side_alone_is_the_plain_sampler(mode: Mode) -> None:
    toy = Toy(BalancerSettings(mode=mode))
    alone = toy.text if mode is Mode.TEXT_ONLY else toy.spatial

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        return alone._prediction(Point(x, sigma, 0)).guided(CFG)

    assert torch.equal(toy.sample(), euler(denoised, SIGMAS[0] * noise(), SIGMAS))
    assert alone.calls() == ["predict"] * 6
    assert [step.weight for step in toy.trace.steps] == [None] * 6


def test_warm_up_asks_the_spatial_branch_alone() -> None:
    toy = Toy(BalancerSettings(mode=Mode.FIXED, warmup=0.5))
    toy.sample()
    assert toy.calls() == (["predict"] * 3, ["predict"] * 6)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_a_fixed_weight_is_equations_1_to_3(weight: float) -> None:
    toy = Toy(BalancerSettings(mode=Mode.FIXED, warmup=0.0, text_weight=weight))

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        both = [b._prediction(Point(x, sigma, 0)).guided(CFG) for b in (toy.text, toy.spatial)]
        return weight * both[0] + (1 - weight) * both[1]

    torch.testing.assert_close(toy.sample(), euler(denoised, SIGMAS[0] * noise(), SIGMAS))


def written_out(toy: Toy, settings: BalancerSettings, x: Tensor) -> Tensor:
    """Algorithm 1 with both of the paper's coefficient maps, their gradient by autograd."""
    warmup = settings.warmup_steps(6)
    rules, steps = settings.rules, len(SIGMAS) - 1
    generator = torch.Generator().manual_seed(7)
    coef = torch.zeros(2, 1, 1, HEIGHT, WIDTH, dtype=DTYPE)
    if settings.recipe is Recipe.OFFICIAL:
        text, spatial = torch.randn(2, 1, 1, HEIGHT, WIDTH, generator=generator)
        coef[0] = text - spatial  # softmax knows only the difference
    for step, (sigma, sigma_next) in enumerate(pairwise(SIGMAS)):
        found = [b._prediction(Point(x, None, 0)) for b in (toy.text, toy.spatial)]
        eps = [(x - p.guided(CFG)) / sigma for p in found]
        led = [(x - p.cond) / sigma for p in found] if rules.conditional_only else eps
        if sigma_next > 0 and (step >= warmup or rules.update_in_warmup):
            leaf = coef.clone().requires_grad_()
            w = leaf.softmax(dim=0)
            ahead = x + (sigma_next - sigma) * (w[0] * led[0] + w[1] * led[1])
            scale = ((sigma**2 + 1) / (sigma_next**2 + 1)) ** 0.5  # x' as the network sees it at t
            losses = toy.spatial.loss(scale * ahead).sum()
            if rules.text_gradient:
                losses = losses + toy.text.loss(scale * ahead).sum()
            (slope,) = torch.autograd.grad(losses, leaf)
            decay = (1 - 0.5 * step / (steps - 1)) ** 0.5
            coef = coef - rules.step * settings.step_scale * decay * slope
        w = coef.softmax(dim=0)
        blended = eps[1] if step < warmup else w[0] * eps[0] + w[1] * eps[1]
        x = x + (sigma_next - sigma) * blended
    return x


@pytest.mark.parametrize("recipe", [Recipe.PAPER, Recipe.OFFICIAL])
@pytest.mark.parametrize("warmup", [0.0, 0.34])
def test_the_papers_recipes_are_the_algorithm_written_out(recipe: Recipe, warmup: float) -> None:
    """In float64, over a whole run; the balance neither rests nor saturates."""
    settings = BalancerSettings(recipe=recipe, warmup=warmup, step_scale=1e-5)
    toy = Toy(settings)
    expected = written_out(Toy(settings), settings, SIGMAS[0] * noise())
    torch.testing.assert_close(toy.sample(), expected, rtol=1e-9, atol=1e-9)
    assert toy.method.balancer.balance.std() > 0.1


def balance_slope(toy: Toy, look: Callable[[], Any]) -> list[Tensor]:
    """The gradients that the balance is given while ``look`` runs."""
    slopes: list[Tensor] = []
    update = toy.method.balancer.update

    def noting(gradient: Tensor, *args: Any) -> Tensor:
        slopes.append(gradient)
        return update(gradient, *args)

    toy.method.balancer.update = noting
    look()
    return slopes


def test_the_balances_gradient_is_the_finite_difference() -> None:
    toy = Toy(LOOKING_AHEAD)
    x = SIGMAS[0] * noise()
    sigma = torch.full((1,), SIGMAS[0], dtype=DTYPE)
    toy.method.started = toy.run.start(x)
    at, start = Point(x, sigma, 0, first=True), toy.method.balancer.balance.clone()
    (slope,) = balance_slope(toy, lambda: toy.method.looked_ahead(at, None))

    def loss(balance: Tensor) -> Tensor:
        weight = balance.sigmoid()
        predictions = {s: b.predict(at) for s, b in toy.method.branches.items()}
        ahead = toy.method._fork(at, predictions)
        latent = weight * ahead.text + (1 - weight) * ahead.spatial
        return toy.text.loss(latent).sum() + toy.spatial.loss(latent).sum()

    leaf = start.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(slope, expected)


def test_online_reads_where_a_step_has_led() -> None:
    """Euler: where the step leads is where a look ahead would have looked, so the slopes agree."""
    frozen = {"step_scale": 0.0, "release": 0.0, "guidance": 0.0, "warmup": 0.0}
    slopes = {}
    for online in (True, False):
        toy = Toy(BalancerSettings(online=online, **frozen))
        x = SIGMAS[0] * noise()
        toy.method.started = toy.run.start(x)
        slopes[online] = balance_slope(toy, toy.sample)
    assert len(slopes[True]) == len(slopes[False]) == 5
    for late, early in zip(slopes[True], slopes[False], strict=True):
        torch.testing.assert_close(late, early)


def test_online_asks_nothing_more() -> None:
    toy = Toy(BalancerSettings(warmup=0.34))
    toy.sample()
    assert toy.text.calls() == ["predict"] + ["predict and pull"] * 3
    assert toy.spatial.calls() == ["predict and pull"] * 2 + ["predict"] + ["predict and pull"] * 3


def test_balancing_lowers_the_loss() -> None:
    def final(settings: BalancerSettings) -> float:
        toy = Toy(settings)
        toy.sample()
        return sum(toy.trace.losses()[-1][side] for side in ("text", "spatial"))

    moving = final(replace(LOOKING_AHEAD, release=0.0))
    resting = final(replace(LOOKING_AHEAD, release=0.0, step_scale=0.0))
    assert moving < resting


def test_a_nudge_goes_down_the_loss_and_waits_for_the_next_step() -> None:
    toy = Toy(BalancerSettings(warmup=0.34))
    x, sigma = SIGMAS[0] * noise(), torch.full((1,), SIGMAS[0], dtype=DTYPE)
    toy.run.denoised(x, sigma)
    nudge = toy.run.nudge
    assert nudge is not None and torch.equal(toy.run.frame.pictured(x), x)
    toy.run.denoised(x, torch.full((1,), SIGMAS[1], dtype=DTYPE))
    moved = toy.run.frame.pictured(x)
    assert toy.spatial.loss(moved) < toy.spatial.loss(x)
    assert toy.spatial.asked[-1][1].latent.equal(moved)


def test_a_branch_that_guides_itself_is_not_nudged_but_followed() -> None:
    toy = Toy(BalancerSettings(warmup=0.34))
    toy.spatial.lead = torch.full((1, CHANNELS, HEIGHT, WIDTH), 0.5, dtype=DTYPE)
    x, sigma = SIGMAS[0] * noise(), torch.full((1,), SIGMAS[0], dtype=DTYPE)
    toy.run.denoised(x, sigma)
    assert toy.run.nudge is None
    torch.testing.assert_close(toy.run.frame.pictured(x), x + 0.5)


@pytest.mark.parametrize("recipe", Recipe)
def test_a_batch_is_its_samples(recipe: Recipe) -> None:
    settings = BalancerSettings(recipe=recipe, warmup=0.34, step_scale=1e-4)
    settings = settings if recipe is not Recipe.BALANCED else replace(settings, step_scale=1.0)
    together = Toy(settings).sample(batch=2)
    torch.testing.assert_close(together[:1], Toy(settings).sample(batch=1), rtol=1e-9, atol=1e-9)


def test_nothing_moves_where_an_inpainting_sampler_keeps_the_latent() -> None:
    toy = Toy(replace(LOOKING_AHEAD, release=0.0))
    toy.method.mask = torch.zeros(1, CHANNELS, HEIGHT, WIDTH, dtype=DTYPE)
    toy.method.mask[..., :4] = 1
    start = toy.run.start(noise()).balance
    toy.sample()
    moved = (toy.method.balancer.balance - start).abs()
    assert moved[..., :3].max() > 0


# Memory.


@pytest.mark.parametrize("online", [True, False])
def test_short_memory_turns_to_checkpointing_then_reads_half_as_often(online: bool) -> None:
    settings = BalancerSettings(online=online, warmup=0.0, guidance=0.0)
    toy = Toy(settings)
    toy.text.short_of_memory = 1
    expected = Toy(settings).sample()
    assert torch.equal(toy.sample(), expected)
    how = [how for name, _, how in toy.text.asked if name != "predict"]
    assert [h["checkpointing"] for h in how[:3]] == [False, True, True]
    assert toy.method.schedule.every == 1

    toy = Toy(settings)
    toy.text.short_of_memory = 2
    assert toy.sample().isfinite().all()
    assert toy.method.schedule.every == 2 and toy.method.passes.checkpointing


def test_a_latent_that_changes_its_size_is_refused() -> None:
    toy = Toy(LOOKING_AHEAD)
    x, sigma = SIGMAS[0] * noise(), torch.full((1,), SIGMAS[0], dtype=DTYPE)
    toy.run.denoised(x, sigma)
    with pytest.raises(InputError, match="6 x 8 cells, then 12 x 16"):
        toy.run.denoised(x.repeat(1, 1, 2, 2), sigma)


def test_a_loss_that_counts_for_nothing_needs_no_gradient() -> None:
    toy = Toy(replace(LOOKING_AHEAD, text_loss=0.0))
    toy.sample()
    assert not any(how["gradient"] for name, _, how in toy.text.asked if name == "pull")
    assert all(how["gradient"] for name, _, how in toy.spatial.asked if name == "pull")


def test_the_trace_tells_every_step() -> None:
    toy = Toy(BalancerSettings(warmup=0.34))
    toy.sample()
    assert [step.index for step in toy.trace.steps] == list(range(6))
    assert [step.weight is None for step in toy.trace.steps] == [True] * 2 + [False] * 4
    assert [sorted(step.readings) for step in toy.trace.steps] == [
        ["spatial"], ["spatial"], [], ["spatial", "text"], ["spatial", "text"], ["spatial", "text"],
    ]  # fmt: skip


# Guidance of a branch's own.


def test_a_branch_with_functions_of_its_own_is_guided_before_the_blend() -> None:
    toy = Toy(BalancerSettings(mode=Mode.FIXED, warmup=0.0, text_weight=0.3))
    predict = toy.spatial.predict

    def cubed(at: Point) -> Prediction:
        found = predict(at)
        return replace(found, own=found.cond**3)

    toy.spatial.predict = cubed
    x, sigma = SIGMAS[0] * noise(), torch.full((1,), SIGMAS[0], dtype=DTYPE)
    text, spatial = (b._prediction(Point(x, sigma, 0)) for b in (toy.text, toy.spatial))
    expected = 0.3 * text.guided(CFG) + 0.7 * spatial.cond**3
    torch.testing.assert_close(toy.run.denoised(x, sigma), expected)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_one_sided_weights_are_one_branchs_own_guidance(weight: float) -> None:
    toy = Toy(BalancerSettings(mode=Mode.FIXED, warmup=0.0, text_weight=weight))
    alone = toy.text if weight else toy.spatial
    own = torch.randn(1, CHANNELS, HEIGHT, WIDTH, dtype=DTYPE)
    predict = alone.predict
    alone.predict = lambda at: replace(predict(at), own=own)
    x, sigma = SIGMAS[0] * noise(), torch.full((1,), SIGMAS[0], dtype=DTYPE)
    assert torch.equal(toy.run.denoised(x, sigma), own)
