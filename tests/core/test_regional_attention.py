"""Regional attention's masks: where words are heard, and what that adds to logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from realcompo_core.errors import InputError
from realcompo_core.layout.model import Box, Layout, LayoutObject
from realcompo_core.sampling.regional_attention import (
    SILENCE,
    Hearing,
    RegionalSettings,
    blurred,
    in_sight,
)
from realcompo_core.words.grounding import Grounding

LEFT, RIGHT, WHOLE = Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1), Box(0, 0, 1, 1)
ROWS = 6  # of text


def hearing(
    *placed: tuple[tuple[int, ...], Box],
    blur: float = 0.0,
    size: int = 4,
    wordless: tuple[int, ...] = (),
) -> Hearing:
    """Objects' tokens and boxes, in the layout's order."""
    layout = Layout(tuple(LayoutObject("x", box) for _, box in placed))
    grounding = Grounding(layout, tuple(tokens for tokens, _ in placed))
    return Hearing.of(grounding.objects(size, size), wordless, blur)


def factors(
    found: Hearing, size: tuple[int, int] = (4, 4), rows: int = ROWS, **settings: Any
) -> Tensor:
    """What the weight of each row of text is multiplied by [rows, height, width]."""
    chosen = RegionalSettings(**{"emphasis": 1.0} | settings)
    return found.log_mask(size, rows, chosen).exp().T.unflatten(1, size)


def test_words_are_heard_in_their_own_region_alone() -> None:
    found = hearing(((1, 2), LEFT), ((4,), RIGHT))
    logits = found.log_mask((4, 4), ROWS, RegionalSettings(emphasis=1.0))
    left, right = logits.softmax(dim=1).view(4, 4, ROWS).split(2, dim=1)
    assert torch.equal(left, torch.tensor([0.2, 0.2, 0.2, 0.2, 0, 0.2]).expand_as(left))
    assert torch.equal(right, torch.tensor([0.25, 0, 0, 0.25, 0.25, 0.25]).expand_as(right))


def test_outside_all_regions_no_object_is_heard() -> None:
    found = factors(hearing(((1,), Box(0, 0, 0.5, 0.5))))[1]
    assert found.sum() == found[:2, :2].sum() == 4


def test_strength_0_adds_exactly_nothing() -> None:
    found = hearing(((1,), LEFT), blur=0.7, wordless=(2, 5))
    settings = RegionalSettings(strength=0.0, emphasis=50.0)
    assert (found.log_mask((4, 4), ROWS, settings) == 0).all()


def test_strength_multiplies_what_is_heard_outside() -> None:
    found = factors(hearing(((1,), LEFT)), strength=0.75)[1]
    assert torch.equal(found[:, :2], torch.ones(4, 2))
    assert torch.allclose(found[:, 2:], torch.full((4, 2), 0.25))


def test_emphasis_is_for_an_object_in_its_region() -> None:
    found = factors(hearing(((1,), LEFT), ((2,), RIGHT)), emphasis=9.0, strength=0.5)
    own = torch.full((4, 2), 3.0)
    assert torch.allclose(found[1, :, :2], own) and torch.allclose(found[2, :, 2:], own)
    assert (found[[0, 3, 4, 5]] == 1).all()
    assert torch.allclose(found[1, :, 2:], torch.full((4, 2), 0.5))


def test_rows_of_no_word_are_heard_outside_alone() -> None:
    """The end and padding, which sum the text up; not the start, which knows no word yet."""
    found = factors(hearing(((1,), LEFT), wordless=(2, 4, 5)))
    assert (found[[0, 3]] == 1).all()
    for row in (2, 4, 5):
        assert (found[row, :, :2] == 0).all() and (found[row, :, 2:] == 1).all()


def test_a_cell_hears_as_much_as_its_region_covers() -> None:
    """At the layer's own resolution, whatever the latent's."""
    found = factors(hearing(((1,), Box(0, 0, 0.625, 1)), size=8), (3, 4))[1]
    assert torch.allclose(found, torch.tensor([1, 1, 0.5, 0]).expand(3, 4), atol=1e-6)


def test_who_comes_later_stands_in_front() -> None:
    regions = torch.stack([torch.ones(4, 4), torch.zeros(4, 4)])
    regions[1, :, 2:] = 0.75
    behind, front = in_sight(regions)
    assert torch.equal(front, regions[1])
    assert (behind[:, :2] == 1).all() and (behind[:, 2:] == 0.25).all()


def test_objects_that_share_words_are_in_front_by_their_own_places() -> None:
    """A corgi, a ball before it, and a corgi before both: the corgis have the same words."""
    found = hearing(((1,), LEFT), ((2,), WHOLE), ((1,), Box(0.75, 0, 1, 1)))
    shares = dict(zip(found.tokens, found.shares, strict=True))
    assert torch.equal(shares[2][0], torch.tensor([1.0, 1, 1, 0]))
    # Of the first corgi nothing would be seen, so its region counts as it is.
    assert torch.equal(shares[1][0], torch.tensor([1.0, 1, 0, 1]))


def test_a_word_of_two_objects_is_heard_in_both_regions() -> None:
    found = hearing(((1, 2), LEFT), ((2, 3), RIGHT))
    shares = dict(zip(found.tokens, found.shares, strict=True))
    assert (shares[2] == 1).all()
    assert (shares[1][:, 2:] == 0).all() and (shares[3][:, :2] == 0).all()


def test_a_mask_is_a_region_too() -> None:
    mask = torch.eye(4)
    layout = Layout((LayoutObject("x", WHOLE, mask=mask),))
    found = Hearing.of(Grounding(layout, ((1,),)).objects(4, 4), (), 0.0)
    assert torch.equal(factors(found)[1], mask)


def test_a_soft_border_keeps_what_is_far_from_it() -> None:
    region = torch.zeros(1, 32, 32)
    region[..., 16:] = 1
    found = blurred(region, 2.0)[0, 5]
    assert torch.allclose(found[:8], torch.zeros(8), atol=1e-3)
    assert torch.allclose(found[24:], torch.ones(8), atol=1e-3)
    assert (found.diff() >= -1e-6).all() and found[15] + found[16] == pytest.approx(1)
    assert torch.equal(blurred(region, 0.0), region)


def test_a_cell_that_hears_nothing_stays_a_number() -> None:
    """Where all rows of text are an object's."""
    mask = hearing(((0,), LEFT)).log_mask((4, 4), 1, RegionalSettings())
    assert mask.min() == SILENCE and mask.softmax(dim=1).isfinite().all()


def test_steps_are_a_share_of_the_run() -> None:
    half = RegionalSettings(end=0.5)
    assert [half.acts(step, 4) for step in range(4)] == [True, True, False, False]
    assert not any(RegionalSettings(end=0.0).acts(step, 4) for step in range(4))
    assert all(RegionalSettings(end=1.0).acts(step, 4) for step in range(4))
    assert RegionalSettings(end=0.0).idle and RegionalSettings(strength=0.0).idle


@pytest.mark.parametrize("name", ["strength", "end", "emphasis", "softness"])
def test_settings_are_checked(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: expected a number"):
        RegionalSettings(**{name: -1.0})
