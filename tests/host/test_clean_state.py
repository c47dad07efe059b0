"""Whatever happens in a run, the host is as it was.

Weights, patches, memory and the next stock image.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from testkit.failing import break_down, interrupt, patched_attn2, run_out_of_memory
from testkit.held import Held, tensor_bytes
from testkit.host import Host, PromptError
from testkit.scene import LORA, Scene


class Seen(list):
    """A list that both branches have in common: a plain one would be each branch's own."""


def run_and_fail(scene: Held, fail: Callable[[], None], **settings: Any) -> None:
    """A dynamic run in which ``fail`` is called in the middle of a gradient pass's U-Net."""
    calls = Seen()

    def patch(q: torch.Tensor, context: torch.Tensor, value: torch.Tensor, options: dict) -> tuple:
        if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
            calls.append(options["block"])
            if len(calls) == 7:
                fail()
        return q, context, value

    scene.build()
    scene.host.functions["failing"] = patched_attn2(patch)
    broken = scene.realcompo(settings, model=scene.apply(scene.model, "failing"))
    with pytest.raises(PromptError):
        scene.host.run(scene, latent=broken[0])
    assert len(calls) >= 7


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("fail", [interrupt, break_down])
def test_a_failed_run_leaves_nothing_behind(
    host: Host, fail: Callable[[], None], checkpointing: bool
) -> None:
    scene = Held(host)
    image, weights = scene.stock_image(), scene.weights()
    run_and_fail(scene, fail, checkpointing=checkpointing)
    assert scene.weights() == weights
    assert scene.hooks() == []
    assert torch.equal(image, scene.stock_image())


def failing_gradients(scene: Held, times: int) -> list:
    """The scene's model with a patch that runs out of memory in its first gradient passes."""
    left = Seen([times])

    def patch(q: torch.Tensor, context: torch.Tensor, value: torch.Tensor, options: dict) -> tuple:
        if left[0] and torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
            left[0] -= 1
            run_out_of_memory()
        return q, context, value

    name = f"short of memory {times} times"
    scene.host.functions[name] = patched_attn2(patch)
    return scene.apply(scene.model, name)


@pytest.mark.parametrize("settings", [{"online": False}, {"online": True}, {"warmup": 0.67}])
def test_short_memory_turns_to_checkpointing(
    host: Host, caplog: pytest.LogCaptureFixture, settings: dict
) -> None:
    scene = Held(host)
    image, weights = scene.stock_image(), scene.weights()
    scene.build()
    short = scene.realcompo(settings, model=failing_gradients(scene, times=1))
    plain = scene.realcompo(settings, model=failing_gradients(scene, times=0))
    with caplog.at_level(logging.WARNING):
        out = host.run(scene, short=short[0], plain=plain[0])
    assert torch.equal(out["short"]["samples"], out["plain"]["samples"])
    own = [
        record.message for record in caplog.records if record.message.startswith("RealCompo")
    ]  # the host warns too
    assert len(own) == 1 and "checkpointing" in own[0]
    assert scene.weights() == weights and scene.hooks() == []
    assert torch.equal(image, scene.stock_image())


@pytest.mark.parametrize("online", [False, True])
def test_a_run_goes_on_while_memory_stays_short(
    host: Host, caplog: pytest.LogCaptureFixture, online: bool
) -> None:
    """The image is what the balance's start makes it; ever fewer steps try to move it."""
    scene = Held(host)
    image, weights = scene.stock_image(), scene.weights()
    scene.build()
    short = scene.realcompo({"online": online}, model=failing_gradients(scene, times=-1), steps=8)
    still = scene.realcompo({"step_scale": 0.0, "online": False}, steps=8)
    with caplog.at_level(logging.WARNING):
        out = host.run(scene, short=short[0], trace=short[1], still=still[0])
    assert (
        torch.equal(out["short"]["samples"], out["still"]["samples"]) and not out["trace"].losses()
    )
    skipped = [
        record.args[0] for record in caplog.records if "this step goes without" in record.message
    ]
    assert skipped == [2, 4, 8]
    assert scene.weights() == weights and scene.hooks() == []
    assert torch.equal(image, scene.stock_image())


def test_a_warm_up_goes_on_without_guidance_while_memory_stays_short(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Held(host)
    scene.build()
    short = scene.realcompo({"warmup": 1.0}, model=failing_gradients(scene, times=-1), steps=4)
    plain = scene.realcompo({"warmup": 1.0, "guidance": 0.0}, steps=4)
    with caplog.at_level(logging.WARNING):
        out = host.run(scene, short=short[0], plain=plain[0])
    assert torch.equal(out["short"]["samples"], out["plain"]["samples"])
    assert [r.args[0] for r in caplog.records if "this step goes without" in r.message] == [2, 4]


@pytest.mark.parametrize("recipe", ["balanced", "paper", "official"])
def test_a_good_run_leaves_nothing_behind(host: Host, recipe: str) -> None:
    scene = Held(host)
    image, weights = scene.stock_image(), scene.weights()
    scene.build()
    host.run(scene, latent=scene.realcompo({"recipe": recipe})[0])
    assert scene.weights() == weights
    assert scene.hooks() == [] and scene.loaded["model"].model.current_patcher is None
    assert torch.equal(image, scene.stock_image())


def test_runs_do_not_grow(host: Host) -> None:
    """Tensors alive, counted exactly; resident memory would also count the allocator's habits."""
    counts = []
    for seed in range(9):
        scene = Scene(width=64, height=64)
        host.run(scene, latent=scene.realcompo(seed=seed, steps=2)[0])
        gc.collect()
        counts.append(tensor_bytes())
    assert max(counts[2:]) <= counts[2] + 2**18


def test_a_copy_for_a_lora_branch_is_given_back(host: Host) -> None:
    """The other branch's own copy of the checkpoint lives as long as its run."""
    counts = []
    for seed in range(5):
        scene = Scene(width=64, height=64)
        model = scene.add(
            "LoraLoaderModelOnly", model=scene.model, lora_name=LORA, strength_model=0.5
        )[0]
        host.run(
            scene,
            latent=scene.realcompo(model=model, spatial_model=scene.model, seed=seed, steps=2)[0],
        )
        gc.collect()
        counts.append(tensor_bytes())
    assert max(counts[2:]) <= counts[2] + 2**20


def test_attention_that_is_not_finite_skips_the_update_with_one_warning(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """Queries turn NaN in gradient passes only.

    The image stays what the start of the balance makes it.
    """

    def patch(q: torch.Tensor, context: torch.Tensor, value: torch.Tensor, options: dict) -> tuple:
        reading = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        return (q * float("nan") if reading else q), context, value

    host.functions["nan attention"] = patched_attn2(patch)
    host.forget()
    scene = Scene(width=64, height=64)
    broken = scene.realcompo({"online": False}, model=scene.apply(scene.model, "nan attention"))
    still = scene.realcompo({"step_scale": 0.0, "online": False})
    with caplog.at_level(logging.WARNING):
        out = host.run(scene, broken=broken[0], trace=broken[1], still=still[0])
    assert torch.equal(out["broken"]["samples"], out["still"]["samples"])
    assert (
        sum("attention is zero or not finite" in record.message for record in caplog.records) == 1
    )
