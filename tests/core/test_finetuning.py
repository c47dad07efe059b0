"""Settings of a finetuning run and what it remembers."""

import pytest
import torch

from realcompo_core.errors import InputError
from realcompo_core.sampling.fields import settings_of
from realcompo_core.training.finetuning import FinetuningSettings, History

RANGED = [name for name, each in settings_of(FinetuningSettings).items() if each.bounded]


def test_the_defaults_are_the_papers_for_one_prompt() -> None:
    s = FinetuningSettings()
    assert (s.steps, s.batch, s.learning_rate, s.separate, s.enhance, s.norm) == (
        200,
        4,
        8e-6,
        1.0,
        0.5,
        False,
    )


def test_the_total_weighs_the_terms_that_are_there() -> None:
    settings = FinetuningSettings(separate=2.0, enhance=3.0, norm_weight=5.0)
    assert settings.total({"separate": 1.0, "enhance": 10.0}) == 32.0
    assert settings.total({"norm": 100.0}) == 500.0


def test_terms_are_means_over_samples() -> None:
    maps = torch.stack([torch.full((2, 4, 4), value) for value in (0.2, 0.6)])
    terms = FinetuningSettings().composition(maps)
    assert terms["separate"].item() == pytest.approx((0.1 + 0.3) / 2, rel=1e-4)
    assert terms["enhance"].item() == pytest.approx(1 - 0.4)


@pytest.mark.parametrize("name", RANGED)
def test_settings_out_of_range_are_named(name: str) -> None:
    with pytest.raises(InputError, match=f"^{name}: expected a number from"):
        FinetuningSettings(**{name: -1})


def test_a_run_needs_a_loss() -> None:
    with pytest.raises(InputError, match="a separate or an enhance loss"):
        FinetuningSettings(separate=0.0, enhance=0.0)


def test_history_averages_its_start_and_its_end() -> None:
    history = History()
    for step in range(20):
        history.add(step, {"total": float(step)})
    assert (history.means(0.1), history.means(-0.1)) == ({"total": 0.5}, {"total": 18.5})
    assert history.latest() == "total 19"
