"""The region loss in closed form: the share of attention outside the region."""

import pytest
import torch

from realcompo_core.layout import Box, Entity
from realcompo_core.losses import layout_guidance_loss, region_loss

REGION = Entity("a cat", Box(0.25, 0.5, 0.75, 1)).region(8, 8)[None]


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


def test_layout_guidance_is_the_mean_over_maps_then_tokens_then_objects() -> None:
    """Two maps of two objects, the first with one token, the second with three, each either inside or outside."""
    inside, outside = REGION, 1 - REGION
    maps = [
        torch.cat(parts)[None] for parts in ([inside, inside, outside, outside], [outside, inside, inside, outside])
    ]
    # Outside in half of the maps for the first object; for the second in 0, a half and both of its tokens' maps.
    expected = (1 / 2 + (0 + 1 / 2 + 1) / 3) / 2
    assert layout_guidance_loss(maps, torch.cat([REGION, REGION]), [1, 3]).item() == pytest.approx(expected)


def test_layout_guidance_squares_what_is_outside() -> None:
    flat = torch.ones(2, 1, 4, 4)
    assert layout_guidance_loss([flat], REGION, [1]).tolist() == pytest.approx([(1 - 0.25) ** 2] * 2)
