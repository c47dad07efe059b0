"""Guidance settings and the update of a guided latent."""

import pytest
import torch

from realcompo_core.errors import InputError
from realcompo_core.guidance import GuidanceSettings, descend, nudge


def test_the_papers_steps() -> None:
    guided = [step for step in range(50) if GuidanceSettings().guides(step, 50)]
    assert guided == list(range(10))


def test_a_range_of_steps() -> None:
    settings = GuidanceSettings(start=0.25, end=0.5)
    assert [step for step in range(8) if settings.guides(step, 8)] == [2, 3]


def test_the_update_scales_with_the_noise_of_each_sample() -> None:
    latent, gradient = torch.zeros(2, 4, 3, 3), torch.full((2, 4, 3, 3), 0.1)
    moved = descend(latent, gradient, torch.tensor([2.0, 0.5]), scale=30.0)
    assert moved[:, 0, 0, 0].tolist() == pytest.approx([-12.0, -0.75])


def rms(moves: torch.Tensor) -> list[float]:
    return moves.square().mean(dim=(1, 2, 3)).sqrt().tolist()


def test_a_nudge_goes_against_the_gradient_as_far_as_the_noise_and_what_is_outside_say() -> None:
    direction = torch.randn(1, 4, 5, 6, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1, -1)
    gradient = direction * torch.tensor([1e-9, 1.0, 1e9]).view(3, 1, 1, 1)
    move = nudge(gradient, torch.tensor([10.0, 10.0, 2.0]), torch.tensor([1.0, 0.5, 0.5]), guidance=0.1)
    assert rms(move) == pytest.approx([1.0, 0.5, 0.1])
    cosine = torch.nn.functional.cosine_similarity(move.flatten(1), direction.flatten(1))
    torch.testing.assert_close(cosine, -torch.ones(3))


def test_a_sample_with_nothing_finite_to_follow_stays() -> None:
    gradient = torch.ones(4, 1, 2, 2)
    gradient[0, 0, 0, 0], gradient[1], gradient[3] = float("nan"), 0.0, float("inf")
    move = nudge(gradient, torch.ones(4), torch.tensor([1.0, 1.0, float("nan"), 1.0]), guidance=0.1)
    assert not move.any()


def test_a_nudge_leaves_what_is_masked_and_is_as_strong_beside_it() -> None:
    gradient = torch.ones(1, 2, 4, 4)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 0] = 1.0
    move = nudge(gradient, torch.ones(1), torch.ones(1), 0.1, mask)
    assert not move[..., 1:].any()
    torch.testing.assert_close(move[..., 0], torch.full((1, 2, 4), -0.1))


@pytest.mark.parametrize("settings", [{"scale": -1.0}, {"threshold": 2.0}, {"iterations": 0}, {"end": float("nan")}])
def test_settings_out_of_range(settings: dict) -> None:
    with pytest.raises(InputError) as caught:
        GuidanceSettings(**settings)
    assert caught.value.field in settings
