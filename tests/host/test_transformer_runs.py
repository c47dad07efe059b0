"""Whole runs of every family that has a reader, on tiny models."""

from __future__ import annotations

import gc
import logging
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from testkit import tiny_transformers as tiny
from testkit.failing import break_down, interrupt, run_out_of_memory
from testkit.host import Host
from testkit.live_run import relative
from testkit.tiny_runs import Pack, noise_of, stock

FAMILIES = list(tiny.FAMILIES)
DYNAMIC = {"mode": "dynamic", "warmup": 0.34}
# Half and half, which no attention moves.
STILL = {"step_scale": 0.0, "release": 0.0, "guidance": 0.0, "prior": 0.0, "lean": 0.0}
# Of padding in a text the host makes a mask for one picture of HunyuanImage, not for two.
BATCHES = [name for name in FAMILIES if name != "hunyuan image"]


@pytest.fixture(scope="module")
def pack(host: Host) -> Pack:
    return Pack(host)


@pytest.mark.parametrize("name", FAMILIES)
def test_one_sided_modes_are_the_stock_sampler(pack: Pack, name: str) -> None:
    for mode, seed in (("text only", 1), ("spatial only", 2)):
        ours, _ = pack.run(name, pack.settings(mode))
        assert torch.equal(ours, pack.stock(name, seed))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_balance_that_cannot_move_is_a_fixed_weight(pack: Pack, name: str) -> None:
    """Bit for bit where it looks ahead; online, attention is computed by another function."""
    fixed, _ = pack.run(name, pack.settings("fixed"))
    ahead, trace = pack.run(name, pack.settings("dynamic", online=False, **STILL))
    online, _ = pack.run(name, pack.settings("dynamic", **STILL))
    assert torch.equal(fixed, ahead) and len(trace.losses()) == readable(trace)
    assert relative(fixed, online) < 1e-3


@pytest.mark.parametrize("name", BATCHES)
def test_a_balanced_batch_is_its_pictures_one_by_one(pack: Pack, name: str) -> None:
    settings, noise = pack.settings(**DYNAMIC), noise_of(name, 2)
    together, trace = pack.run(name, settings, noise=noise)
    alone = [pack.run(name, settings, noise=one)[0] for one in noise.split(1)]
    assert len(trace.losses()) == readable(trace)
    assert relative(together, torch.cat(alone)) < 1e-3


@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_leaves_nothing_behind(
    pack: Pack, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it ends well, breaks down, is interrupted, or runs out of memory once."""
    import comfy.model_management

    caplog.set_level(logging.WARNING)
    model, before = pack.model(name), pack.stock(name, 1)
    state = state_of(model)
    well, _ = pack.run(name, pack.settings(**DYNAMIC))
    assert state_of(model) == state
    stopped = comfy.model_management.InterruptProcessingException
    for fail, error in ((break_down, RuntimeError), (interrupt, stopped)):
        for call in (1, 2):
            with failing(pack, name, fail, call), pytest.raises(error):
                pack.run(name, pack.settings(**DYNAMIC))
            assert state_of(model) == state
    with failing(pack, name, run_out_of_memory, 1):
        short, _ = pack.run(name, pack.settings(**DYNAMIC))
    assert "checkpointing" in caplog.text and torch.equal(short, well)
    assert state_of(model) == state
    assert torch.equal(before, stock(name, model, 1))


@pytest.mark.parametrize(
    "mode, fails", [("text only", False), ("dynamic", False), ("dynamic", True)]
)
def test_a_run_lets_go_of_its_models_at_once(pack: Pack, mode: str, fails: bool) -> None:
    """Without waiting for a garbage collection, in which the host may lose track of them."""
    model = pack.model("sd3").clone()
    gone = weakref.ref(model)
    gc.collect()
    gc.disable()
    try:
        fault = failing(pack, "sd3", break_down, 1) if fails else nullcontext()
        with fault, pytest.raises(RuntimeError) if fails else nullcontext():
            pack.run("sd3", pack.settings(mode), model=model)
        del model
        assert gone() is None
    finally:
        gc.enable()


@contextmanager
def failing(pack: Pack, name: str, fail: Callable[[], None], call: int) -> Iterator[None]:
    """Let a call of a part of the first layer fail: the first, or one of its second run."""
    block = pack.reader(pack.model(name)).layers()[0].block
    part = next(part for part in block.modules() if isinstance(part, nn.Linear))
    calls: list[int] = []

    def count(*_: Any) -> None:
        if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
            calls.append(1)
            if len(calls) == call:
                fail()

    hook = part.register_forward_pre_hook(count)
    try:
        yield
    finally:
        hook.remove()
    assert len(calls) >= call


def readable(trace: Any) -> int:
    """How many steps there are to read: not the last, nor one at which a flow holds no picture."""
    return 2 - (trace.steps[0].sigma == 1)


def state_of(model: Any) -> list:
    """What a run changes while it lasts: weights, hooks, functions, the host's switches."""
    weights = [(id(t), t.is_inference(), t.requires_grad) for t in model.model.parameters()]
    hooks = [
        (bool(part._forward_pre_hooks), bool(part._forward_hooks), "forward" in vars(part))
        for part in model.model.modules()
    ]
    scopes = {type(part).__module__ for part in model.model.modules()}
    attention = [getattr(sys.modules[scope], "optimized_attention", None) for scope in scopes]
    switches = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    current = model.model.current_patcher
    kernels = getattr(sys.modules.get("comfy.quant_ops"), "ck", None)
    return [weights, hooks, attention, switches, current, kernels]
