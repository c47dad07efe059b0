"""Where an evaluation stands in the schedule, and at which steps the balance moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realcompo_core.sampling.schedule import TOLERANCE, Schedule

SIGMAS = (14.6, 7.0, 3.0, 1.0, 0.4, 0.0)
SCHEDULES = st.lists(
    st.floats(0.01, 100), min_size=1, max_size=30, unique_by=lambda s: round(s, 1)
).map(lambda sigmas: (*sorted(sigmas, reverse=True), 0.0))


def moving(schedule: Schedule, *, in_warmup: bool = False) -> list[int]:
    return [
        step
        for step in range(schedule.steps)
        if schedule.reads_attention(step, in_warmup=in_warmup)
    ]


def test_a_run_has_one_step_less_than_sigmas() -> None:
    assert Schedule(SIGMAS).steps == 5


@pytest.mark.parametrize("rounding", [1, 1 + TOLERANCE / 2, 1 - TOLERANCE / 2, 1 + 1e-7, 1 - 1e-7])
def test_each_sigma_begins_its_step_in_spite_of_rounding(rounding: float) -> None:
    assert [Schedule(SIGMAS).step(sigma * rounding) for sigma in SIGMAS[:-1]] == [0, 1, 2, 3, 4]


@given(SCHEDULES, st.data())
def test_a_sigma_in_between_belongs_to_the_step_it_falls_in(
    sigmas: tuple[float, ...], data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, len(sigmas) - 2))
    share = data.draw(st.floats(0.1, 1))
    sigma = sigmas[step + 1] + share * (sigmas[step] - sigmas[step + 1])
    expected = step if sigma > sigmas[step + 1] * (1 + TOLERANCE) else step + 1
    assert Schedule(sigmas).step(sigma) == expected


@pytest.mark.parametrize(("sigma", "step"), [(20.0, 0), (1e9, 0), (0.1, 4), (0.0, 4)])
def test_a_sigma_beyond_the_schedule_belongs_to_its_nearest_step(sigma: float, step: int) -> None:
    assert Schedule(SIGMAS).step(sigma) == step


def test_the_first_steps_warm_up() -> None:
    schedule = Schedule(SIGMAS, warmup=2)
    assert [schedule.warming_up(step) for step in range(5)] == [True, True, False, False, False]


def test_the_balance_never_moves_at_the_step_to_sigma_zero() -> None:
    assert moving(Schedule(SIGMAS)) == [0, 1, 2, 3]


def test_the_balance_moves_at_a_last_step_that_ends_above_zero() -> None:
    assert moving(Schedule(SIGMAS[:4])) == [0, 1, 2]


def test_the_balance_rests_in_warm_up_unless_asked() -> None:
    assert moving(Schedule(SIGMAS, warmup=2)) == [2, 3]
    assert moving(Schedule(SIGMAS, warmup=2), in_warmup=True) == [0, 1, 2, 3]


def test_every_counts_from_the_first_blended_step() -> None:
    sigmas = [float(s) for s in range(10, 0, -1)]
    assert moving(Schedule(sigmas, warmup=2, every=3)) == [2, 5, 8]
    assert moving(Schedule(sigmas, warmup=2, every=3), in_warmup=True) == [0, 3, 6]
    assert moving(Schedule(sigmas, every=10_000)) == [0]


def test_all_warm_up_never_balances() -> None:
    assert moving(Schedule(SIGMAS, warmup=5)) == []
