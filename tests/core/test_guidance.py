"""Guidance settings and the update of a guided latent."""

import pytest
import torch

from realcompo_core.errors import InputError
from realcompo_core.guidance import GuidanceSettings, descend


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


@pytest.mark.parametrize("settings", [{"scale": -1.0}, {"threshold": 2.0}, {"iterations": 0}, {"end": float("nan")}])
def test_settings_out_of_range(settings: dict) -> None:
    with pytest.raises(InputError) as caught:
        GuidanceSettings(**settings)
    assert caught.value.field in settings
