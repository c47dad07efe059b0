"""Settings: ranges, the words that explain them, and the slider that moves several together."""

import re
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import pytest

from realcompo_core.errors import InputError
from realcompo_core.sampling.attention import Layers
from realcompo_core.sampling.fields import from_widgets, settings_of
from realcompo_core.sampling.latent_guidance import GuidanceSettings
from realcompo_core.sampling.sepen_guidance import SeparationSettings
from realcompo_core.sampling.settings import (
    LOOK,
    LOOK_OR_PLACEMENT,
    PLACEMENT,
    BalancerSettings,
    Mode,
)
from realcompo_core.training.finetuning import FinetuningSettings

CLASSES = (BalancerSettings, GuidanceSettings, SeparationSettings, FinetuningSettings)
RANGED = [
    pytest.param(of, name, id=f"{of.__name__} {name}")
    for of in CLASSES
    for name, setting in settings_of(of).items()
    if setting.bounded
]
WORDS = {
    f"{of.__name__} {name}": setting for of in CLASSES for name, setting in settings_of(of).items()
}
LOOKS = [step / 10 for step in range(-10, 11)]

# Ranges


def test_every_number_has_a_range() -> None:
    numbers = {key for key, setting in WORDS.items() if type(setting.default) in (int, float)}
    assert numbers == {key for key, setting in WORDS.items() if setting.bounded}


@pytest.mark.parametrize("bad", [-1e9, 1e9, float("nan"), float("-inf")])
@pytest.mark.parametrize(("of", "name"), RANGED)
def test_settings_out_of_range_are_input_errors(of: type, name: str, bad: float) -> None:
    with pytest.raises(InputError, match=rf"^{name}: expected a number from") as caught:
        of(**{name: bad})
    assert caught.value.got == str(bad)


@pytest.mark.parametrize(("of", "name"), RANGED)
def test_both_ends_of_a_range_belong_to_it(of: type, name: str) -> None:
    setting = settings_of(of)[name]
    for bound in (setting.low, setting.high):
        assert getattr(of(**{name: bound}), name) == bound


# Words


@pytest.mark.parametrize("setting", WORDS.values(), ids=WORDS)
def test_every_setting_is_explained_in_sentences(setting: Any) -> None:
    for text in (setting.text, setting.more or "A."):
        assert re.fullmatch(r"[A-Z0-9`].*\.", text), text
    assert len(setting.text) <= 250, "a tooltip is short; put the rest into `more`"


def test_the_values_of_widgets_become_settings() -> None:
    values = {"mode": "fixed", "layers": "up", "limit": 2.0}
    settings = BalancerSettings(**from_widgets(BalancerSettings, values))
    assert settings == BalancerSettings(mode=Mode.FIXED, layers=Layers.UP, limit=2.0)
    assert settings.layers is Layers.UP


# Look or placement


def moved(settings: BalancerSettings, look: float) -> dict[str, float]:
    leaning = asdict(settings.leaning(look))
    return {name: leaning[name] for name in LOOK}


def test_the_slider_in_the_middle_changes_nothing() -> None:
    settings = BalancerSettings(lean=0.1, prior=0.7, release=1 / 3, limit=9.0)
    assert settings.leaning(0) is settings


def test_the_slider_moves_what_it_says_and_nothing_else() -> None:
    for look in (-1.0, -0.3, 0.3, 1.0):
        before, after = asdict(BalancerSettings()), asdict(BalancerSettings().leaning(look))
        assert {name for name in before if before[name] != after[name]} == set(LOOK)
    assert LOOK.keys() == PLACEMENT.keys()


def test_the_slider_reaches_its_ends() -> None:
    assert moved(BalancerSettings(), -1) == PLACEMENT
    assert moved(BalancerSettings(), 1) == LOOK


def test_the_slider_goes_to_its_ends_in_equal_steps() -> None:
    half = moved(BalancerSettings(), 0.5)
    assert half == pytest.approx(
        {name: (getattr(BalancerSettings(), name) + LOOK[name]) / 2 for name in LOOK}
    )


@pytest.mark.parametrize("changes", [{}, {"lean": 9.0, "release": 1.0}, {"limit": 0.5}])
def test_more_look_is_never_more_placement(changes: dict[str, float]) -> None:
    """Along the slider each setting only rises or only falls, wherever it starts."""
    found = [moved(BalancerSettings(**changes), look) for look in LOOKS]
    for before, after in pairwise(found):
        for name in LOOK:
            change = after[name] - before[name]
            assert change * (LOOK[name] - PLACEMENT[name]) >= 0, name


def test_a_setting_beyond_an_end_stays_there() -> None:
    assert BalancerSettings(lean=9.0).leaning(1).lean == 9.0
    assert BalancerSettings(lean=-9.0).leaning(-0.5).lean == -9.0


def test_in_fixed_mode_the_slider_is_the_text_branchs_share() -> None:
    weights = [BalancerSettings(mode=Mode.FIXED).leaning(look).text_weight for look in LOOKS]
    assert weights == pytest.approx([(look + 1) / 2 for look in LOOKS])


@pytest.mark.parametrize("look", [-1.1, 2.0, float("nan")])
def test_the_slider_has_two_ends(look: float) -> None:
    with pytest.raises(
        InputError, match=r"^look_or_placement: expected a number from -1 to 1, got"
    ):
        BalancerSettings().leaning(look)
    assert (LOOK_OR_PLACEMENT.low, LOOK_OR_PLACEMENT.high) == (-1, 1)
