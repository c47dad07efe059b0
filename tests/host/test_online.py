"""Online balancing: the next step's own evaluations say what the last step's balance has led to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from testkit.host import Host
from testkit.live_run import relative
from testkit.scene import LORA, Scene

SIZE = {"width": 64, "height": 64}
FROZEN = {"step_scale": 0.0, "release": 0.0, "guidance": 0.0}


@contextmanager
def slopes_of(host: Host) -> Iterator[list[Tensor]]:
    """Every gradient that the balance is given."""
    balancer = host.pack("realcompo_core.sampling.balancer").Balancer
    update, found = balancer.update, []

    def noting(self: object, gradient: Tensor, *args: object) -> Tensor:
        found.append(gradient.clone())
        return update(self, gradient, *args)

    balancer.update = noting
    try:
        yield found
    finally:
        balancer.update = update


def run(
    host: Host, settings: dict, scene: Scene | None = None, **sampling: object
) -> tuple[Tensor, object, list]:
    """The latent, the trace and the balance's gradients of a run."""
    scene = scene or Scene(**SIZE)
    ours = scene.realcompo(settings, **sampling)
    with slopes_of(host) as slopes:
        out = host.run(scene, latent=ours[0], trace=ours[1])
    return out["latent"]["samples"], out["trace"], slopes


@pytest.mark.parametrize("checkpointing", [False, True])
def test_with_the_balance_frozen_it_reads_what_the_look_ahead_reads(
    host: Host, checkpointing: bool
) -> None:
    """Euler's provisional latent is then the one that the next step starts from.

    One gradient, a step later.
    """
    sampling = {"steps": 4, "sampler_name": "euler", "cfg": 3.0}
    image, trace, ahead = run(host, FROZEN | {"online": False}, **sampling)
    late = run(host, FROZEN | {"online": True, "checkpointing": checkpointing}, **sampling)
    torch.testing.assert_close(late[0], image, rtol=1e-4, atol=1e-4)
    assert len(ahead) == len(late[2]) == 3
    assert all(relative(one, other) < 1e-2 for one, other in zip(ahead, late[2], strict=True))
    assert [step.index for step in late[1].steps if step.readings] == [1, 2, 3]
    assert [step.index for step in trace.steps if step.readings] == [0, 1, 2]


@pytest.mark.parametrize("online", [False, True])
def test_what_an_inpainting_sampler_keeps_has_no_say(host: Host, online: bool) -> None:
    """Pixels that the balance cannot change don't move it, nor make others' steps smaller."""
    scene = Scene(**SIZE)
    left = scene.add("SolidMask", value=1.0, width=32, height=64)[0]
    canvas = scene.add("SolidMask", value=0.0, width=64, height=64)[0]
    mask = scene.add("MaskComposite", destination=canvas, source=left, x=0, y=0, operation="add")[0]
    scene.latent = scene.add("SetLatentNoiseMask", samples=scene.latent, mask=mask)[0]
    _, _, slopes = run(host, {"online": online}, scene, steps=4)
    assert len(slopes) == 3 and all(
        slope[..., :4].any() and not slope[..., 4:].any() for slope in slopes
    )


def test_it_moves_the_balance(host: Host) -> None:
    still, moved = run(host, FROZEN | {"online": True})[0], run(host, {"online": True})[0]
    assert moved.isfinite().all() and not torch.equal(still, moved)


def test_it_waits_for_the_first_blended_step_and_follows_the_cadence(host: Host) -> None:
    _, trace, _ = run(host, {"online": True, "warmup": 0.25, "guidance": 0.0, "every": 2}, steps=8)
    assert [step.index for step in trace.steps if step.readings] == [3, 5, 7]


@pytest.mark.parametrize(
    "sampler", ["heun", "dpmpp_2m", "euler_ancestral", "uni_pc", "ddim", "euler_cfg_pp"]
)
def test_it_balances_once_a_step_in_any_sampler(host: Host, sampler: str) -> None:
    latent, trace, slopes = run(host, {"online": True}, steps=4, sampler_name=sampler)
    assert latent.isfinite().all() and len(slopes) == len(trace.losses()) == 3


@pytest.mark.parametrize("sampler", ["dpm_fast", "dpm_adaptive"])
def test_samplers_with_sigmas_of_their_own(host: Host, sampler: str) -> None:
    """They may leave a step out, the first blended one too."""
    latent, trace, slopes = run(
        host, {"online": True, "warmup": 0.4, "guidance": 0.0}, steps=5, sampler_name=sampler
    )
    assert latent.isfinite().all() and len(slopes) == len(trace.losses())


def test_a_text_loss_of_zero_is_still_read(host: Host) -> None:
    _, trace, _ = run(host, {"online": True, "text_loss": 0.0}, steps=4)
    assert all({"text", "spatial"} <= set(losses) for losses in trace.losses())


def test_other_recipes_look_ahead_all_the_same(host: Host) -> None:
    one, other = (run(host, {"recipe": "paper", "online": on})[0] for on in (False, True))
    assert torch.equal(one, other)


def test_conditionings_with_weights_of_their_own_are_read_apart(fresh: Host) -> None:
    """The host changes weights between them, so no graph may span both.

    Each costs an evaluation more.
    """
    scene = Scene(**SIZE)
    hooks = scene.add("CreateHookLoraModelOnly", lora_name=LORA, strength_model=0.8)[0]
    hooked = scene.add(
        "ConditioningSetProperties",
        cond_NEW=scene.spatial,
        hooks=hooks,
        strength=1.0,
        set_cond_area="default",
    )[0]
    scene.spatial = scene.add(
        "ConditioningCombine", conditioning_1=scene.spatial, conditioning_2=hooked
    )[0]
    _, trace, slopes = run(fresh, FROZEN | {"online": True}, scene)
    ahead = run(fresh, FROZEN | {"online": False}, scene)[2]
    assert trace.rows["spatial attention"] == 4 and "text attention" not in trace.rows
    assert all(relative(one, other) < 1e-2 for one, other in zip(ahead, slopes, strict=True))


def test_a_guided_branch(host: Host) -> None:
    scene = Scene(**SIZE)
    guided = scene.add(
        "RealCompoLayoutGuidance",
        model=scene.model,
        scale=30.0,
        threshold=0.0,
        iterations=1,
        start=0.0,
        end=1.0,
    )[0]
    latent, trace, _ = run(host, {"online": True}, scene, spatial_model=guided)
    assert latent.isfinite().all() and len(trace.losses()) == 2
