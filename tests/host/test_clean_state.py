"""Whatever happens in a run, the host is as it was: weights, patches, memory and the next stock image."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from comfy_host import Host, PromptError
from scenes import Scene


def stock_image(host: Host) -> torch.Tensor:
    host.forget()
    scene = Scene(width=64, height=64)
    return host.run(scene, latent=scene.stock(scene.spatial)[0])["latent"]["samples"]


def state(host: Host) -> tuple[Any, dict[str, int]]:
    """The loaded model, and for each weight which storage it is and what autograd thinks of it."""
    scene = Scene(width=64, height=64)
    patcher = host.run(scene, model=scene.model)["model"]
    weights = dict(patcher.model.named_parameters()) | dict(patcher.model.named_buffers())
    return patcher, {name: (id(w), w.data_ptr(), w.is_inference(), w.requires_grad) for name, w in weights.items()}


def hooks_left(patcher: Any) -> list[str]:
    modules = patcher.model.named_modules()
    return [name for name, m in modules if m._forward_pre_hooks or m._forward_hooks or "forward" in vars(m)]


def run_and_fail(host: Host, fail: Callable[[], None], **settings: Any) -> None:
    """A dynamic run in which ``fail`` is called in the middle of a gradient pass's U-Net."""
    calls = []

    def patch(q: torch.Tensor, context: torch.Tensor, value: torch.Tensor, options: dict) -> tuple:
        if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
            calls.append(options["block"])
            if len(calls) == 7:
                fail()
        return q, context, value

    def patched(model: Any) -> Any:
        clone = model.clone()
        clone.set_model_attn2_patch(patch)
        return clone

    host.functions["failing"] = patched
    host.forget()
    scene = Scene(width=64, height=64)
    with pytest.raises(PromptError):
        host.run(scene, latent=scene.realcompo(settings, model=scene.apply(scene.model, "failing"))[0])
    assert len(calls) >= 7


def interrupt() -> None:
    import comfy.model_management

    comfy.model_management.interrupt_current_processing()
    comfy.model_management.throw_exception_if_processing_interrupted()


def break_down() -> None:
    raise RuntimeError("a patch broke")


def run_out_of_memory() -> None:
    import comfy.model_management

    raise comfy.model_management.OOM_EXCEPTION("simulated: out of memory")


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("fail", [interrupt, break_down, run_out_of_memory])
def test_a_failed_run_leaves_nothing_behind(host: Host, fail: Callable[[], None], checkpointing: bool) -> None:
    before_image = stock_image(host)
    patcher, before = state(host)
    run_and_fail(host, fail, checkpointing=checkpointing)
    _, after = state(host)
    assert {n: w[1:] for n, w in before.items()} == {n: w[1:] for n, w in after.items()}
    assert hooks_left(patcher) == []
    assert torch.equal(before_image, stock_image(host))


def test_a_good_run_leaves_every_weight_itself(host: Host) -> None:
    scene = Scene(width=64, height=64)
    model = host.run(scene, model=scene.model)["model"].model
    before = {name: w for name, w in model.named_parameters()}
    host.run(scene, latent=scene.realcompo()[0])
    after = dict(model.named_parameters())
    assert all(after[name] is weight for name, weight in before.items())
    assert model.current_patcher is None


def test_twenty_runs_do_not_grow(host: Host) -> None:
    """Tensors alive, counted exactly; resident memory would also count the allocator's habits."""
    counts = []
    for seed in range(20):
        scene = Scene(width=64, height=64)
        host.run(scene, latent=scene.realcompo(seed=seed, steps=2)[0])
        gc.collect()
        counts.append(tensor_bytes())
    assert max(counts[2:]) <= counts[2] + 2**20


def tensor_bytes() -> int:
    alive = [o for o in gc.get_objects() if type(o) in (torch.Tensor, torch.nn.Parameter)]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in alive}
    return sum(storages.values())


def test_attention_that_is_not_finite_skips_the_update_with_one_warning(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """Queries turn NaN in gradient passes only; the image stays what the start of the balance makes it."""

    def patch(q: torch.Tensor, context: torch.Tensor, value: torch.Tensor, options: dict) -> tuple:
        reading = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        return (q * float("nan") if reading else q), context, value

    def patched(model: Any) -> Any:
        clone = model.clone()
        clone.set_model_attn2_patch(patch)
        return clone

    host.functions["nan attention"] = patched
    host.forget()
    scene = Scene(width=64, height=64)
    broken = scene.realcompo(model=scene.apply(scene.model, "nan attention"))
    still = scene.realcompo({"step_scale": 0.0})
    with caplog.at_level(logging.WARNING):
        out = host.run(scene, broken=broken[0], trace=broken[1], still=still[0])
    assert torch.equal(out["broken"]["samples"], out["still"]["samples"])
    assert sum("attention is zero or not finite" in record.message for record in caplog.records) == 1
