"""Attention maps.

Token probabilities against plain softmax attention, and the share inside a region.
"""

import pytest
import torch
from torch import Tensor

from realcompo_core.sampling import attention
from realcompo_core.sampling.attention import (
    joint_probabilities,
    over_tokens,
    pool,
    settled,
    share_inside,
    token_probabilities,
)

OBJECTS = ((1,), (2, 5), (3, 4, 6))
TOKENS = [token for tokens in OBJECTS for token in tokens]


def queries_and_keys(
    dtype: torch.dtype = torch.float64, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 12, 24, generator=generator), torch.randn(2, 7, 24, generator=generator)
    return (q * scale).to(dtype), (k * scale).to(dtype)


def naive(q: Tensor, k: Tensor, heads: int) -> Tensor:
    """One head at a time, softmax over all text tokens, mean over heads."""
    pairs = zip(q.chunk(heads, dim=-1), k.chunk(heads, dim=-1), strict=True)
    maps = sum((a @ b.mT / a.shape[-1] ** 0.5).softmax(dim=-1) for a, b in pairs) / heads
    return maps[..., TOKENS].mT


@pytest.mark.parametrize("heads", [1, 3, 8])
def test_probabilities_are_those_of_softmax_attention(heads: int) -> None:
    q, k = queries_and_keys()
    torch.testing.assert_close(
        token_probabilities(q, k, heads, TOKENS), naive(q, k, heads), rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    q, k = queries_and_keys(dtype)
    maps = token_probabilities(q, k, 3, TOKENS)
    assert maps.dtype == torch.float32
    assert torch.equal(maps, token_probabilities(q.float(), k.float(), 3, TOKENS))


def test_large_logits_stay_finite() -> None:
    q, k = queries_and_keys(torch.float32, scale=100)
    maps = token_probabilities(q, k, 3, TOKENS)
    assert maps.isfinite().all() and maps.min() >= 0 and maps.max() <= 1


def test_each_token_by_itself_sums_to_one() -> None:
    q, k = queries_and_keys()
    every = token_probabilities(q, k, 3, range(k.shape[1]))
    torch.testing.assert_close(every.sum(dim=1), torch.ones(2, 12, dtype=torch.float64))


def test_the_gradient_reaches_the_queries() -> None:
    q, k = queries_and_keys()
    q.requires_grad_()
    (found,) = torch.autograd.grad(token_probabilities(q, k, 3, TOKENS).square().sum(), q)
    (expected,) = torch.autograd.grad(naive(q, k, 3).square().sum(), q)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


def joint(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 3, 12, 8, generator=generator)
    k = torch.randn(2, 3, 19, 8, generator=generator)
    return q.to(dtype), k.to(dtype)


def plain_joint(q: Tensor, k: Tensor, mask: Tensor | None, tokens: list[int]) -> Tensor:
    logits = q @ k.mT / q.shape[-1] ** 0.5
    return (logits if mask is None else logits + mask).softmax(dim=-1)[..., tokens].mean(1).mT


MASKS = {
    "none": None,
    "one row": torch.where(torch.arange(19) < 17, 0.0, -torch.inf).view(1, 1, 1, -1).double(),
    "each query": torch.linspace(-3, 3, 2 * 12 * 19, dtype=torch.float64).view(2, 1, 12, 19),
}


@pytest.mark.parametrize("chunk", [1, 500, attention.CHUNK])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_joint_probabilities_and_their_gradients_are_those_of_the_full_map(
    monkeypatch: pytest.MonkeyPatch, mask: Tensor | None, chunk: int
) -> None:
    """Also where a token is asked for twice, as two objects with one phrase do."""
    monkeypatch.setattr(attention, "CHUNK", chunk)
    q, k = (t.requires_grad_() for t in joint())
    twice = [*TOKENS, TOKENS[0]]
    found, expected = joint_probabilities(q, k, twice, mask), plain_joint(q, k, mask, twice)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)
    gradients = (torch.autograd.grad(maps.square().sum(), (q, k)) for maps in (found, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-13)


def test_a_gradient_of_joint_probabilities_keeps_no_full_map() -> None:
    """What is saved for the backward pass grows with pixels + keys."""

    def saved(pixels: int) -> int:
        q = torch.randn(1, 2, pixels, 4, requires_grad=True)
        k = torch.randn(1, 2, pixels + 8, 4, requires_grad=True)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()), id):
            joint_probabilities(q, k, [0, 1])
        return sum(sizes)

    assert saved(1024) < 2.1 * saved(512)


def test_an_object_is_the_mean_of_its_tokens() -> None:
    attention = torch.arange(6.0).view(1, 6, 1, 1).expand(2, 6, 3, 4)
    assert over_tokens(attention, OBJECTS)[1, :, 2, 3].tolist() == [0, 1.5, 4]


def test_layers_are_pooled_by_their_mean() -> None:
    assert pool([torch.zeros(1, 2, 3, 4), torch.ones(1, 2, 3, 4)]).eq(0.5).all()


def test_layers_of_other_sizes_are_pooled_at_the_finest() -> None:
    coarse, fine = torch.arange(4.0).view(1, 1, 2, 2), torch.zeros(1, 1, 4, 4)
    expected = torch.tensor([[0.0, 0.0, 0.5, 0.5], [1.0, 1.0, 1.5, 1.5]]).repeat_interleave(2, 0)
    assert torch.equal(pool([coarse, fine])[0, 0], expected)


def test_the_share_inside_is_the_inside_sum_over_the_whole() -> None:
    attention = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    regions = torch.tensor([[[1.0, 0.0], [0.5, 0.0]]])
    assert share_inside(attention, regions).item() == pytest.approx((1 + 1.5) / 10)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_share_does_not_depend_on_scale(scale: float) -> None:
    attention = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    regions = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        share_inside(attention * scale, regions), share_inside(attention, regions)
    )


def test_regions_of_another_size_are_resampled() -> None:
    left = torch.zeros(1, 8, 6)
    left[..., :3] = 1
    attention = torch.tensor([[[[3.0, 1.0]]]])
    assert share_inside(attention, left).item() == pytest.approx(0.75)


def test_an_object_without_attention_has_no_share() -> None:
    shares = share_inside(
        torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)]), torch.ones(1, 2, 2)
    )
    assert shares.isnan().tolist() == [[True], [False]]


def test_settled_is_one_outside_regions_and_the_share_inside_within() -> None:
    attention = torch.tensor([[[[3.0, 1.0]], [[1.0, 1.0]]]])  # two objects on a map of 1 x 2
    left_and_right = torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]])  # of a latent of 1 x 3
    shares = share_inside(attention, left_and_right)[0]
    expected = torch.tensor([[[[shares[0], 1.0, shares[1]]]]])
    torch.testing.assert_close(settled(attention, left_and_right.split(1)), expected)


def test_where_regions_overlap_the_least_settled_object_counts() -> None:
    attention = torch.tensor([[[[3.0, 1.0]], [[0.0, 0.0]]]])  # the second has no attention at all
    regions = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])
    torch.testing.assert_close(settled(attention, regions.split(1)), torch.tensor([[[[0.0, 1.0]]]]))


def test_of_several_regions_of_one_object_each_asks_for_its_share() -> None:
    attention = torch.tensor(
        [[[[6.0, 2.0, 0.0, 2.0]]]]
    )  # three regions and a cell outside, of 10 in all
    parts = torch.eye(4)[:3, None]
    torch.testing.assert_close(
        settled(attention, [parts]), torch.tensor([[[[1.0, 0.6, 0.0, 1.0]]]])
    )


def test_a_region_without_area_asks_for_nothing() -> None:
    parts = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])  # cut off by the conditioning's area
    torch.testing.assert_close(
        settled(torch.tensor([[[[1.0, 3.0]]]]), [parts]), torch.tensor([[[[0.25, 1.0]]]])
    )
