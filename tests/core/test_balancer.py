"""The balancer.

The blend and its exact ends, the closed-form gradient against autograd, the update and its start.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from realcompo_core.errors import InputError
from realcompo_core.sampling.balancer import (
    Balancer,
    balance_gradient,
    blend,
    next_latent,
    normalise,
    smooth,
    start_balance,
)
from realcompo_core.sampling.settings import (
    RULES,
    BalancerSettings,
    Mode,
    Recipe,
    Start,
    parse_weights,
)

SIZE = (6, 10)
SIGMA, SIGMA_NEXT = torch.tensor(3.0, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64)
REGION = torch.zeros(1, *SIZE, dtype=torch.float64)
REGION[:, :3, :4] = 1
RAW_SCALE = 1e-7  # brings the raw step of 1e6 to the size of this file's gradients


def normal(seed: int, batch: int = 2, channels: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, *SIZE, generator=generator, dtype=torch.float64)


def settings_of(recipe: Recipe, **changes: Any) -> BalancerSettings:
    scale = 1.0 if RULES[recipe].normalised else RAW_SCALE
    return BalancerSettings(**({"recipe": recipe, "step_scale": scale} | changes))


def balancer_of(recipe: Recipe, batch: int = 2, steps: int = 5, **changes: Any) -> Balancer:
    return Balancer(settings_of(recipe, **changes), REGION, batch, seed=0, steps=steps)


def advance(latent: Tensor, text: Tensor, spatial: Tensor, balance: Tensor) -> Tensor:
    return next_latent(latent, blend(text, spatial, balance.sigmoid()), SIGMA, SIGMA_NEXT)


def pull(latent: Tensor, text: Tensor, spatial: Tensor, balance: Tensor, target: Tensor) -> Tensor:
    """dL/dbalance of the quadratic loss 0.5*|x' - target|^2."""
    gradient = advance(latent, text, spatial, balance) - target
    return gradient_at(latent, gradient, text, spatial, balance)


def gradient_at(
    latent: Tensor, gradient: Tensor, text: Tensor, spatial: Tensor, balance: Tensor
) -> Tensor:
    ahead = [next_latent(latent, denoised, SIGMA, SIGMA_NEXT) for denoised in (text, spatial)]
    return balance_gradient(gradient, *ahead, balance)


# Blend


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_the_blend_is_exact_at_weights_zero_and_one(scale: float) -> None:
    text, spatial = normal(0).float() * scale, normal(1).float()
    assert torch.equal(blend(text, spatial, torch.ones(2, 1, *SIZE)), text)
    assert torch.equal(blend(text, spatial, torch.zeros(2, 1, *SIZE)), spatial)


@pytest.mark.parametrize("logit", [-torch.inf, -200.0, -4.0, 0.0, 0.3, 4.0, 200.0, torch.inf])
def test_equal_predictions_blend_to_themselves_whatever_the_balance(logit: float) -> None:
    same = normal(0).float()
    assert torch.equal(blend(same, same.clone(), torch.full((2, 1, *SIZE), logit).sigmoid()), same)


def test_the_blend_is_the_weighted_sum() -> None:
    text, spatial, weight = normal(0), normal(1), normal(2, channels=1).sigmoid()
    torch.testing.assert_close(blend(text, spatial, weight), weight * text + (1 - weight) * spatial)


def test_blending_denoised_is_blending_noise() -> None:
    latent, text, spatial, weight = normal(0), normal(1), normal(2), normal(3, channels=1).sigmoid()
    eps = weight * (latent - text) / SIGMA + (1 - weight) * (latent - spatial) / SIGMA
    expected = latent + (SIGMA_NEXT - SIGMA) * eps
    torch.testing.assert_close(
        next_latent(latent, blend(text, spatial, weight), SIGMA, SIGMA_NEXT), expected
    )


def test_a_step_to_sigma_zero_lands_on_the_prediction() -> None:
    latent, denoised = normal(0), normal(1)
    torch.testing.assert_close(next_latent(latent, denoised, SIGMA, torch.tensor(0.0)), denoised)


# Gradient


@pytest.mark.parametrize("loss", [lambda x: x.square().sum(), lambda x: x.sin().prod(dim=1).sum()])
def test_the_closed_form_is_what_autograd_finds(loss: Callable[[Tensor], Tensor]) -> None:
    latent, text, spatial, balance = normal(0), normal(1), normal(2), 3 * normal(3, channels=1)
    balance.requires_grad_()
    ahead = advance(latent, text, spatial, balance)
    (expected,) = torch.autograd.grad(loss(ahead), balance)
    leaf = ahead.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    found = gradient_at(latent, gradient, text, spatial, balance.detach())
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-14)


def test_equal_predictions_have_no_gradient() -> None:
    same = normal(0)
    assert balance_gradient(normal(1), same, same, normal(2, channels=1)).eq(0).all()


@pytest.mark.parametrize("recipe", Recipe)
def test_a_step_lowers_a_quadratic_loss_on_the_fixed_latent(recipe: Recipe) -> None:
    latent, text, spatial, target = (normal(seed) for seed in range(4))
    balancer = balancer_of(recipe, step_scale=RAW_SCALE if recipe is not Recipe.BALANCED else 0.1)
    before = (advance(latent, text, spatial, balancer.balance) - target).square().sum(dim=(1, 2, 3))
    balancer.update(pull(latent, text, spatial, balancer.balance, target), 0, SIZE)
    after = (advance(latent, text, spatial, balancer.balance) - target).square().sum(dim=(1, 2, 3))
    assert (after < before).all()


@pytest.mark.parametrize("recipe", [Recipe.PAPER, Recipe.BALANCED])
def test_swapping_the_branches_mirrors_the_weights(recipe: Recipe) -> None:
    latent, text, spatial, target = (normal(seed) for seed in range(4))
    one, other = balancer_of(recipe, prior=0, lean=0), balancer_of(recipe, prior=0, lean=0)
    for step in range(5):
        one.update(pull(latent, text, spatial, one.balance, target), step, (3, 5))
        other.update(pull(latent, spatial, text, other.balance, target), step, (3, 5))
    assert one.balance.abs().mean() > 0.01
    torch.testing.assert_close(one.balance, -other.balance, rtol=0, atol=1e-12)
    torch.testing.assert_close(one.weight, 1 - other.weight, rtol=0, atol=1e-12)


# Update


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 0.0])
@pytest.mark.parametrize("changes", [{}, {"prior": 10.0}, {"limit": 0.5}])
@pytest.mark.parametrize("recipe", Recipe)
def test_a_sample_without_a_gradient_stays_while_others_move(
    recipe: Recipe, changes: dict, bad: float
) -> None:
    balancer = balancer_of(recipe, **changes)
    gradient = normal(0, channels=1)
    gradient[1] = bad if bad == 0 else torch.where(gradient[1] > 0, gradient[1], bad)
    before = balancer.balance.clone()
    moved = balancer.update(gradient, 0, SIZE)
    assert moved.tolist() == [True, bad == 0]
    assert torch.equal(balancer.balance[1], before[1])
    assert not torch.equal(balancer.balance[0], before[0])
    assert balancer.balance.isfinite().all()


@pytest.mark.parametrize("recipe", [Recipe.PAPER, Recipe.BALANCED])
def test_each_sample_has_its_own_balance(recipe: Recipe) -> None:
    both, gradient = (
        balancer_of(recipe),
        normal(0, channels=1) * torch.tensor([1.0, 1e3])[:, None, None, None],
    )
    both.update(gradient, 1, (3, 5))
    for sample in range(2):
        alone = balancer_of(recipe, batch=1)
        alone.update(gradient[sample : sample + 1], 1, (3, 5))
        torch.testing.assert_close(
            both.balance[sample : sample + 1], alone.balance, rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("limit", [0.0, 0.5, 4.0])
def test_the_balance_stays_within_its_limit(limit: float) -> None:
    balancer = balancer_of(Recipe.BALANCED, limit=limit, step_scale=3.0)
    extremes = [balancer.balance.abs().max()]
    for step in range(5):
        balancer.update(normal(0, channels=1), step, SIZE)
        extremes.append(balancer.balance.abs().max())
    assert max(extremes) == limit


@pytest.mark.parametrize("recipe", [Recipe.PAPER, Recipe.OFFICIAL])
def test_the_raw_rule_steps_twice_the_decaying_official_step(recipe: Recipe) -> None:
    steps = 7
    balancer = Balancer(
        BalancerSettings(recipe=recipe, step_scale=0.5), REGION, 1, seed=0, steps=steps
    )
    for step, factor in enumerate(torch.linspace(1, 0.5, steps, dtype=torch.float64).sqrt()):
        before = balancer.balance
        balancer.update(torch.full_like(before, 1e-6), step, (3, 5))
        torch.testing.assert_close(before - balancer.balance, (2 * 0.5 * factor).expand_as(before))


def test_a_run_of_one_step_steps_in_full() -> None:
    balancer = Balancer(BalancerSettings(recipe=Recipe.PAPER), REGION, 1, seed=0, steps=1)
    balancer.update(torch.full((1, 1, *SIZE), 1e-6, dtype=torch.float64), 0, (3, 5))
    torch.testing.assert_close(balancer.balance, torch.full_like(balancer.balance, -2))


def test_the_normalised_rule_steps_by_logits() -> None:
    balancer = balancer_of(Recipe.BALANCED, prior=0, lean=0, step_scale=0.2)
    balancer.update(normal(0, channels=1), 0, SIZE)
    rms = balancer.balance.square().mean(dim=(1, 2, 3)).sqrt()
    torch.testing.assert_close(rms, torch.full_like(rms, 0.5 * 0.2))


def test_the_normalised_rule_moves_whole_attention_cells() -> None:
    balancer, gradient = (
        balancer_of(Recipe.BALANCED, prior=0, lean=0),
        torch.zeros(2, 1, *SIZE, dtype=torch.float64),
    )
    gradient[..., 0, 0] = 1
    balancer.update(gradient, 0, cells=(1, 1))
    torch.testing.assert_close(balancer.balance, torch.full_like(gradient, -0.5))


@pytest.mark.parametrize("scale", [1e-35, 1e-22, 1.0, 1e30])
def test_normalising_is_free_of_scale(scale: float) -> None:
    gradient = normal(0, channels=1).float()
    found = normalise(gradient * scale)
    torch.testing.assert_close(found.square().mean(dim=(1, 2, 3)), torch.ones(2))
    torch.testing.assert_close(found, normalise(gradient), rtol=1e-4, atol=1e-4)


def test_each_sample_is_normalised_by_itself() -> None:
    gradient = normal(0, channels=1).float() * torch.tensor([1e-30, 1e3])[:, None, None, None]
    torch.testing.assert_close(normalise(gradient).square().mean(dim=(1, 2, 3)), torch.ones(2))


def test_a_zero_gradient_stays_zero() -> None:
    assert normalise(torch.zeros(2, 1, *SIZE)).eq(0).all()


@pytest.mark.parametrize("cells", [SIZE, (64, 64)])
def test_cells_as_fine_as_the_latent_smooth_nothing(cells: tuple[int, int]) -> None:
    torch.testing.assert_close(smooth(normal(0, channels=1), cells), normal(0, channels=1))


def test_smoothing_spreads_one_pixel_over_its_cell() -> None:
    gradient = torch.zeros(1, 1, 8, 8)
    gradient[..., 2, 2] = 1
    smoothed = smooth(gradient, (2, 2))
    assert smoothed.max() == 1 / 16
    assert (smoothed[..., :4, :4] > 0).all()
    assert smooth(gradient, (1, 1)).eq(1 / 64).all()


# Start


def test_the_equal_start_is_half_and_half() -> None:
    assert balancer_of(Recipe.PAPER).weight.eq(0.5).all()


def test_the_prior_gives_regions_to_the_spatial_branch() -> None:
    regions = torch.tensor([[[1.0, 0.0, 0.5, 0.0]], [[0.0, 0.0, 0.25, 0.75]]])
    balance = start_balance(BalancerSettings(prior=2, lean=0), regions, 3, 0)
    assert balance.shape == (3, 1, 1, 4)
    assert balance[2].flatten().tolist() == [-2, 2, 0, -1]


def test_the_random_start_depends_on_its_seed_alone() -> None:
    settings, state = BalancerSettings(recipe=Recipe.OFFICIAL), torch.get_rng_state()
    first = start_balance(settings, REGION, 2, seed=2**64 - 1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    assert torch.equal(start_balance(settings, REGION, 2, seed=2**64 - 1), first)
    assert not torch.equal(start_balance(settings, REGION, 2, seed=1), first)
    torch.set_rng_state(state)


def test_the_random_start_is_the_difference_of_two_normal_maps() -> None:
    balance = start_balance(
        BalancerSettings(recipe=Recipe.OFFICIAL), torch.zeros(1, 128, 128), 4, seed=0
    )
    assert float(balance.mean()) == pytest.approx(0, abs=0.05)
    assert float(balance.std()) == pytest.approx(2**0.5, rel=0.03)


def test_the_random_start_of_a_batch_is_that_of_its_samples_alone() -> None:
    settings = BalancerSettings(recipe=Recipe.OFFICIAL)
    together, alone = (
        start_balance(settings, REGION, 4, seed=3),
        start_balance(settings, REGION, 1, seed=3),
    )
    assert all(torch.equal(sample, alone[0]) for sample in together)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("recipe", Recipe)
def test_a_fixed_balance_is_its_weight_everywhere(recipe: Recipe, weight: float) -> None:
    balancer = balancer_of(recipe, mode=Mode.FIXED, text_weight=weight)
    torch.testing.assert_close(
        balancer.weight, torch.full((2, 1, *SIZE), weight, dtype=torch.float64)
    )
    assert weight not in (0, 1) or balancer.weight.eq(weight).all()


@pytest.mark.parametrize("recipe", Recipe)
def test_the_start_has_the_regions_type_and_a_map_per_sample(recipe: Recipe) -> None:
    balance = start_balance(BalancerSettings(recipe=recipe), REGION.float(), 3, 0)
    assert balance.shape == (3, 1, *SIZE) and balance.dtype == torch.float32


def test_release_hands_settled_pixels_to_the_text_branch_over_a_run() -> None:
    """Over all steps a settled pixel gains ``release`` logits, whether every step balances or every
    second.
    """
    settled = torch.zeros(1, 1, *SIZE, dtype=torch.float64)
    settled[..., :2] = 1
    for every in (1, 2):
        balancer = balancer_of(
            Recipe.BALANCED, batch=1, steps=6, prior=0, lean=0, release=3, every=every
        )
        for step in range(0, 6, every):
            balancer.update(torch.zeros_like(settled), step, SIZE, settled, every=every)
        torch.testing.assert_close(balancer.balance, 3 * settled)


def test_release_keeps_its_pace_when_a_run_comes_to_balance_less_often() -> None:
    settled = torch.ones(1, 1, *SIZE, dtype=torch.float64)
    balancer = balancer_of(Recipe.BALANCED, batch=1, steps=6, prior=0, lean=0, release=3)
    for step, every in ((0, 1), (1, 1), (2, 2), (4, 2)):
        balancer.update(torch.zeros_like(settled), step, SIZE, settled, every=every)
    torch.testing.assert_close(balancer.balance, 3 * settled)


def test_a_gradient_of_few_pixels_makes_no_larger_steps_there() -> None:
    gradient = torch.randn(
        1, 1, *SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    half = torch.zeros_like(gradient)
    half[..., : SIZE[1] // 2] = gradient[..., : SIZE[1] // 2]
    moves = []
    for of, sampled in (
        (half, torch.tensor(0.5, dtype=torch.float64).view(1, 1, 1, 1)),
        (half, 1.0),
    ):
        balancer = balancer_of(Recipe.BALANCED, batch=1, steps=6, prior=0, lean=0, release=0)
        balancer.update(of, 0, SIZE, sampled=sampled)
        moves.append(balancer.balance)
    open_rms = moves[0][..., : SIZE[1] // 2].square().mean().sqrt()
    torch.testing.assert_close(
        open_rms, torch.tensor(0.5, dtype=torch.float64)
    )  # the recipe's step
    torch.testing.assert_close(moves[1], moves[0] * 2**0.5)


@pytest.mark.parametrize("recipe", [Recipe.PAPER, Recipe.OFFICIAL])
def test_the_papers_recipes_release_nothing(recipe: Recipe) -> None:
    balancer = balancer_of(recipe, release=3, lean=2)
    before, zero = balancer.balance, torch.zeros(2, 1, *SIZE, dtype=torch.float64)
    assert torch.equal(before, balancer_of(recipe, release=0, lean=0).balance)
    balancer.update(zero, 0, SIZE, torch.ones_like(zero))
    assert torch.equal(balancer.balance, before)


def test_lean_moves_the_start_everywhere_within_the_limit() -> None:
    even, leaning = (
        balancer_of(Recipe.BALANCED, prior=1.5, limit=2, lean=lean).balance for lean in (0, 1)
    )
    torch.testing.assert_close(leaning, (even + 1).clamp(-2, 2))


# Recipes and settings


def test_the_recipes_are_what_they_say() -> None:
    starts = {recipe: BalancerSettings(recipe=recipe).rules.start for recipe in Recipe}
    assert starts == {
        Recipe.BALANCED: Start.PRIOR,
        Recipe.PAPER: Start.EQUAL,
        Recipe.OFFICIAL: Start.RANDOM,
    }
    assert [recipe for recipe in Recipe if RULES[recipe].update_in_warmup] == [Recipe.OFFICIAL]
    assert [recipe for recipe in Recipe if not RULES[recipe].text_gradient] == [Recipe.OFFICIAL]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(Mode.DYNAMIC, 20), (Mode.FIXED, 20), (Mode.TEXT_ONLY, 0), (Mode.SPATIAL_ONLY, 0)],
)
def test_only_blending_modes_warm_up(mode: Mode, expected: int) -> None:
    assert BalancerSettings(mode=mode, warmup=0.4).warmup_steps(50) == expected


# Weights of objects


@pytest.mark.parametrize(
    ("text", "weights"), [("", ()), ("2, 1, 0.5", (2, 1, 0.5)), (" 3 0 ", (3, 0))]
)
def test_object_weights_are_read(text: str, weights: tuple[float, ...]) -> None:
    assert parse_weights(text) == weights


@pytest.mark.parametrize("text", ["two", "1, -1", "nan", "1, 1e9"])
def test_object_weights_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="object_weights: expected numbers from 0 to 1000"):
        parse_weights(text)


def test_every_object_needs_a_weight_or_none_does() -> None:
    BalancerSettings().check_objects(3)
    BalancerSettings(object_weights=(1.0, 2.0, 3.0)).check_objects(3)
    with pytest.raises(InputError, match="expected 3 numbers, got 2"):
        BalancerSettings(object_weights=(1.0, 2.0)).check_objects(3)
