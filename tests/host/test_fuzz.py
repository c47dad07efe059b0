"""Random graphs against the stock sampler; ``make fuzz`` draws many more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from testkit import fuzz
from testkit.bare_scene import FAMILIES
from testkit.host import Host

SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_graph_is_the_stock_samplers(host: Host, seed: int) -> None:
    case = fuzz.draw(host, seed, FAMILIES)
    left_out = fuzz.check(host, replace(case, steps=min(case.steps, 2)))
    assert not left_out or "stock" in left_out or "refused" in left_out


def test_a_failure_is_made_smaller(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(host: Host, case: fuzz.Case) -> str:
        if case.batch == 2 and case.sampler == "heun":
            raise fuzz.Failure("together")
        return ""

    monkeypatch.setattr(fuzz, "check", check)
    case = replace(fuzz.draw(host, 3), batch=2, sampler="heun")
    smallest, told = fuzz.shrink(host, case, "")
    assert str(smallest) == "sampler='heun', batch=2" and told == "together"
