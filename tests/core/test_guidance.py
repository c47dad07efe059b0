"""Guidance settings and the update of a guided latent."""

import pytest
import torch

from realcompo_core.errors import InputError
from realcompo_core.sampling.latent_guidance import GuidanceSettings, descend
from realcompo_core.sampling.nudge import Nudge, against
from realcompo_core.sampling.schedule import Schedule

VE_50 = Schedule([0.0] * 51)


def test_the_papers_steps() -> None:
    guided = [step for step in range(50) if GuidanceSettings().guides(step, VE_50)]
    assert guided == list(range(10))


def test_a_range_of_steps() -> None:
    settings = GuidanceSettings(start=0.25, end=0.5)
    assert [step for step in range(8) if settings.guides(step, Schedule([0.0] * 9))] == [2, 3]


def test_the_update_scales_with_the_noise_of_each_sample() -> None:
    latent, gradient = torch.zeros(2, 4, 3, 3), torch.full((2, 4, 3, 3), 0.1)
    moved = descend(latent, gradient, torch.tensor([2.0, 0.5]), scale=30.0)
    assert moved[:, 0, 0, 0].tolist() == pytest.approx([-12.0, -0.75])


def rms(moves: torch.Tensor) -> list[float]:
    return moves.square().mean(dim=(1, 2, 3)).sqrt().tolist()


def test_a_direction_is_against_the_gradient_and_as_strong_as_what_is_outside() -> None:
    wanted = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    gradient = wanted * torch.tensor([1e-9, 1.0, 1e9]).view(3, 1, 1, 1)
    direction = against(gradient, torch.tensor([1.0, 0.5, 0.1]))
    assert rms(direction) == pytest.approx([1.0, 0.5, 0.1])
    cosine = torch.nn.functional.cosine_similarity(direction.flatten(1), wanted.flatten(1))
    torch.testing.assert_close(cosine, -torch.ones(3))


def test_a_sample_with_nothing_finite_to_follow_stays() -> None:
    gradient = torch.ones(5, 1, 2, 2)
    gradient[0, 0, 0, 0], gradient[1], gradient[3] = float("nan"), 0.0, float("inf")
    direction = against(gradient, torch.tensor([1.0, 1.0, float("nan"), 1.0, 1.0]))
    assert not direction[:4].any() and direction[4].all()


def test_what_is_masked_has_no_direction_and_the_rest_is_as_strong_as_ever() -> None:
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 0] = 1.0
    direction = against(torch.ones(1, 2, 4, 4), torch.ones(1), mask)
    assert not direction[..., 1:].any()
    torch.testing.assert_close(direction[..., 0], -torch.ones(1, 2, 4))


@pytest.mark.parametrize(
    ("read", "now", "every", "size"),
    [
        (10.0, 8.0, 1, 2.0),
        (10.0, 9.0, 1, 1.0),
        (10.0, 9.0, 2, 2.0),
        (10.0, 2.0, 1, 0.5),
        (10.0, 9.0, 100, 2.25),
        (4518.0, 106.0, 1, 26.5),
        (1.0, 0.0, 1, 0.0),
        (1.0, 2.0, 1, 0.0),
    ],
)
def test_a_nudge_goes_with_the_samplers_steps_and_never_far_beside_the_noise(
    read: float, now: float, every: int, size: float
) -> None:
    """Twice the steps are twice the nudges of half the size.

    A quarter of the noise that is left is the most.
    """
    nudge = Nudge(torch.ones(1, 1, 2, 2), torch.tensor([read]), every)
    for guidance in (1.0, 0.3):
        assert rms(nudge.at(torch.tensor([now]), guidance)) == pytest.approx([guidance * size])


@pytest.mark.parametrize(
    "settings", [{"scale": -1.0}, {"threshold": 2.0}, {"iterations": 0}, {"end": float("nan")}]
)
def test_settings_out_of_range(settings: dict) -> None:
    with pytest.raises(InputError) as caught:
        GuidanceSettings(**settings)
    assert caught.value.field in settings
