"""Model evaluations by exact count, seen by a hook on the network itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from testkit.host import Host
from testkit.scene import Scene

STEPS, WARMUP = 50, 20
FLOOR = 2 * WARMUP + 4 * (STEPS - WARMUP)
BALANCER = {"warmup": WARMUP / STEPS}
SAMPLING = {"steps": STEPS, "sampler_name": "ddim"}


@contextmanager
def counted(module: Any) -> Iterator[list[int]]:
    rows: list[int] = []
    hook = module.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[0]))
    try:
        yield rows
    finally:
        hook.remove()


def evaluations(host: Host, settings: dict | None) -> tuple[int, dict]:
    """Rows through the U-Net, and the trace's own count; ``settings`` None is the stock sampler."""
    host.forget()
    scene = Scene(width=64, height=64)
    loaded = host.run(scene, model=scene.model)["model"]
    ours = None if settings is None else scene.realcompo(BALANCER | settings, **SAMPLING)
    with counted(loaded.model.diffusion_model) as rows:
        if ours is None:
            return host.run(scene, latent=scene.stock(**SAMPLING)[0]) and (sum(rows), {})
        trace = host.run(scene, latent=ours[0], trace=ours[1])["trace"]
    return sum(rows), dict(trace.rows)


@pytest.mark.parametrize(("every", "budget"), [(1, 1.5), (2, 1.25)])
def test_looking_ahead_stays_within_its_budget(host: Host, every: int, budget: float) -> None:
    rows, counted_rows = evaluations(host, {"mode": "dynamic", "every": every, "online": False})
    balanced = len(range(WARMUP, STEPS - 1, every))  # never at the last step, which ends at sigma 0
    assert rows == FLOOR + 2 * balanced == sum(counted_rows.values())
    assert rows <= budget * FLOOR


def test_a_fixed_weight_runs_at_the_floor(host: Host) -> None:
    assert evaluations(host, {"mode": "fixed"})[0] == FLOOR == 160


def test_online_balancing_evaluates_nothing_more(host: Host) -> None:
    rows, counted_rows = evaluations(host, {"mode": "dynamic"})
    assert rows == FLOOR and set(counted_rows) == {"text", "spatial"}


@pytest.mark.parametrize("mode", ["text only", "spatial only"])
def test_one_branch_costs_what_the_stock_sampler_does(host: Host, mode: str) -> None:
    assert evaluations(host, {"mode": mode})[0] == evaluations(host, None)[0] == 2 * STEPS


def test_the_official_recipe_is_the_dear_one(host: Host) -> None:
    """Its released code also balances in warm-up: the count shows that the recipe is followed."""
    rows, counted_rows = evaluations(host, {"mode": "dynamic", "recipe": "official"})
    assert rows == 4 * STEPS + 2 * (STEPS - 1)
    assert counted_rows["text"] == counted_rows["spatial"] == 2 * STEPS


def test_multi_stage_samplers_balance_once_a_step(host: Host) -> None:
    for name in ("heun", "dpm_2", "dpmpp_sde", "uni_pc", "seeds_3"):
        scene = Scene(width=64, height=64)
        ours = scene.realcompo({"warmup": 0.0, "online": False}, steps=4, sampler_name=name)
        rows = host.run(scene, trace=ours[1])["trace"].rows
        assert rows["text attention"] == rows["spatial attention"] == 3, name
