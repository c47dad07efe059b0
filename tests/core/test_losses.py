"""The losses on attention in closed form, and their gradients."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch

from realcompo_core.layout.model import Box, LayoutObject
from realcompo_core.sampling.losses import (
    Overlap,
    enhance_loss,
    layout_guidance_loss,
    region_loss,
    separate_loss,
)

REGION = LayoutObject("a cat", Box(0.25, 0.5, 0.75, 1)).region(8, 8)[None]


def test_all_attention_inside_costs_nothing() -> None:
    assert region_loss(3 * REGION[None], REGION).item() == 0


def test_all_attention_outside_costs_one() -> None:
    assert region_loss(1 - REGION[None], REGION).item() == 1


@pytest.mark.parametrize("size", [(8, 8), (4, 4), (16, 32)])
def test_flat_attention_costs_the_area_outside(size: tuple[int, int]) -> None:
    assert region_loss(torch.ones(1, 1, *size), REGION).item() == pytest.approx(1 - 0.5 * 0.5)


def test_each_object_of_each_sample_has_its_own_loss() -> None:
    regions = torch.cat([REGION, 1 - REGION])
    attention = torch.stack([torch.cat([REGION, REGION]), torch.cat([1 - REGION, 1 - REGION])])
    assert region_loss(attention, regions).tolist() == [[0, 1], [1, 0]]


def test_descent_moves_attention_into_the_region() -> None:
    attention = torch.ones(1, 1, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(region_loss(attention, REGION).sum(), attention)
    assert (gradient[0, 0][REGION[0] == 1] < 0).all()
    assert (gradient[0, 0][REGION[0] == 0] > 0).all()


# Separate and enhance


def maps_of(*values: float, size: int = 6) -> torch.Tensor:
    """Flat maps, one of each value: [1, objects, size, size]."""
    return torch.stack([torch.full((size, size), value, dtype=torch.float64) for value in values])[
        None
    ]


def disjoint(count: int) -> torch.Tensor:
    """Maps that each have a row of cells to themselves, all of it: [1, count, count, 4]."""
    return torch.eye(count, dtype=torch.float64)[None, :, :, None].expand(1, -1, -1, 4)


@pytest.mark.parametrize("overlap", Overlap)
@pytest.mark.parametrize("count", [2, 3, 5])
def test_disjoint_maps_are_separate(count: int, overlap: Overlap) -> None:
    assert separate_loss(disjoint(count), overlap).item() == 0


@pytest.mark.parametrize("count", [2, 3, 5])
def test_identical_maps_cost_what_the_formula_says(count: int) -> None:
    maps = maps_of(*[0.5] * count)
    assert separate_loss(maps, Overlap.ALL).item() == pytest.approx(
        0.5**count / (0.5 * count), rel=1e-5
    )
    assert separate_loss(maps, Overlap.PAIRS).item() == pytest.approx(0.25, rel=1e-5)


def test_of_two_objects_both_overlaps_are_the_papers_formula() -> None:
    maps = torch.rand(3, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    paper = (maps[:, 0] * maps[:, 1] / (maps.sum(1) + 1e-6)).flatten(1).amax(1)
    assert torch.equal(separate_loss(maps, Overlap.ALL), separate_loss(maps, Overlap.PAIRS))
    torch.testing.assert_close(separate_loss(maps), paper)


def test_two_of_three_objects_that_meet_are_seen_in_pairs_only() -> None:
    maps = torch.cat([disjoint(2)[:, :1], disjoint(2)[:, :1], disjoint(2)[:, 1:]], dim=1)
    assert separate_loss(maps, Overlap.ALL).item() == 0
    assert separate_loss(maps, Overlap.PAIRS).item() == pytest.approx(0.5 / 3, rel=1e-5)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_weakest_flat_map_decides_how_much_is_to_enhance(count: int) -> None:
    values = torch.linspace(0.2, 0.9, count).tolist()
    assert enhance_loss(maps_of(*values)).item() == pytest.approx(1 - 0.2)


def test_a_single_cell_counts_by_the_weight_of_the_gaussians_centre() -> None:
    maps = torch.zeros(1, 2, 5, 5, dtype=torch.float64)
    maps[..., 2, 2] = 1
    neighbour = math.exp(-1 / (2 * 0.5**2))
    assert enhance_loss(maps).item() == pytest.approx(1 - 1 / (1 + 2 * neighbour) ** 2)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2)])
def test_maps_of_any_size_can_be_enhanced(size: tuple[int, int]) -> None:
    assert enhance_loss(torch.full((1, 2, *size), 0.5)).item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    "loss", [separate_loss, partial(separate_loss, overlap=Overlap.ALL), enhance_loss]
)
@pytest.mark.parametrize("count", [2, 3, 5])
def test_gradients_are_finite_differences(loss: Callable, count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    maps = torch.rand(2, count, 4, 4, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(loss, maps)


@pytest.mark.parametrize(
    "loss", [separate_loss, partial(separate_loss, overlap=Overlap.ALL), enhance_loss]
)
def test_maps_without_any_attention_have_finite_losses_and_gradients(loss: Callable) -> None:
    maps = torch.zeros(1, 3, 4, 4, requires_grad=True)
    value = loss(maps)
    (gradient,) = torch.autograd.grad(value.sum(), maps)
    assert value.isfinite().all() and gradient.isfinite().all()


def test_layout_guidance_is_the_mean_over_maps_then_tokens_then_objects() -> None:
    """Two maps of two objects, the first with one token, the second with three, each either inside
    or outside.
    """
    inside, outside = REGION, 1 - REGION
    maps = [
        torch.cat(parts)[None]
        for parts in ([inside, inside, outside, outside], [outside, inside, inside, outside])
    ]
    # Outside in half of the maps for the first object; for the second in 0, a half and both of its
    # tokens' maps.
    expected = (1 / 2 + (0 + 1 / 2 + 1) / 3) / 2
    assert layout_guidance_loss(maps, torch.cat([REGION, REGION]), [1, 3]).item() == pytest.approx(
        expected
    )


def test_layout_guidance_squares_what_is_outside() -> None:
    flat = torch.ones(2, 1, 4, 4)
    assert layout_guidance_loss([flat], REGION, [1]).tolist() == pytest.approx(
        [(1 - 0.25) ** 2] * 2
    )
