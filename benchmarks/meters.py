"""Meters: counted rows, seconds of calls, and the most memory that tensors held."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass
class Rows:
    """Evaluations of one sample."""

    count: int = 0


@contextmanager
def counted_rows(unet: nn.Module) -> Generator[Rows]:
    """Count the samples of every call of a module, whoever calls it."""
    rows = Rows()

    def count(_: nn.Module, args: tuple) -> None:
        rows.count += args[0].shape[0]

    hook = unet.register_forward_pre_hook(count)
    try:
        yield rows
    finally:
        hook.remove()


def seconds(call: Callable[[], Any]) -> float:
    """Return the wall time of a call, its work on a GPU included."""
    synchronise()
    start = time.perf_counter()
    call()
    synchronise()
    return time.perf_counter() - start


def synchronise() -> None:
    """Wait for a GPU."""
    if on_cuda():
        torch.cuda.synchronize()


def on_cuda() -> bool:
    """Tell whether the host, which must have booted, samples on CUDA."""
    import comfy.model_management

    return comfy.model_management.get_torch_device().type == "cuda"


@contextmanager
def around(owner: type, method: str, wrap: Callable[[Callable], Any]) -> Generator[None]:
    """Send calls of a method through ``wrap(call)``, which must run ``call()`` once."""
    original = getattr(owner, method)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        results: list[Any] = []
        wrap(lambda: results.append(original(*args, **kwargs)))
        return results[0]

    setattr(owner, method, wrapped)
    try:
        yield
    finally:
        setattr(owner, method, original)


@contextmanager
def timed(owner: type, method: str) -> Generator[list[float]]:
    """Note the seconds of every call of a method."""
    times: list[float] = []
    with around(owner, method, lambda call: times.append(seconds(call))):
        yield times


@contextmanager
def weighed(owner: type, method: str) -> Generator[list[int]]:
    """Note the most bytes that every call of a method held over what was there before it."""
    peaks: list[int] = []
    with around(owner, method, lambda call: peaks.append(peak_bytes(call))):
        yield peaks


def peak_bytes(call: Callable[[], Any]) -> int:
    """Return the most bytes that a call holds, by the allocator or else :class:`LiveTensors`."""
    if not on_cuda():
        with LiveTensors() as live:
            call()
        return live.peak
    torch.cuda.reset_peak_memory_stats()
    base = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - base


class LiveTensors(TorchDispatchMode):
    """Bytes of the tensors that operators make while it is on, ``now`` and at the ``peak``.

    They are those of forward and backward passes. Exact and repeatable, unlike a process' resident
    memory; it doesn't see what a kernel allocates for itself while it computes. Storages are
    counted, so views and borrowed weights are free.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        for storage in storages((args, kwargs)):
            self._meet(storage, 0)  # already there, or made by an operator and met before
        out = func(*args, **kwargs or {})
        for storage in storages(out):
            self._meet(storage, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _meet(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key in self.known:
            return

        def forget(_: weakref.ref) -> None:
            del self.known[key]
            self.now -= size

        self.known[key] = weakref.ref(storage, forget)
        self.now += size


def storages(tree: Any) -> list[torch.UntypedStorage]:
    """Return the storages of all tensors in a structure, and those that stand there themselves."""
    found = []
    for leaf in tree_leaves(tree):
        if isinstance(leaf, torch.Tensor):
            found.append(leaf.untyped_storage())
        elif isinstance(leaf, torch.UntypedStorage):
            found.append(leaf)
    return found
