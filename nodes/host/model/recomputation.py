"""Checkpointing: activations that are recomputed in the backward pass instead of stored."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Context = Callable[[nn.Module | None], AbstractContextManager]
_in_force: list[Context] = []  # around every run of a block whose first run is now


@contextmanager
def recomputed(blocks: Iterable[nn.Module]) -> Generator[None]:
    """Recompute the activations of some blocks in the backward pass, which must end inside."""
    blocks = list(blocks)
    for block in blocks:
        block.forward = _recomputed_forward(block)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


@contextmanager
def in_every_run(context: Context) -> Generator[None]:
    """Enter a context now, and again around the second run of a block whose first run is inside.

    It is told which block runs; None is the code inside. A block's own hooks don't fire again.
    """
    _in_force.append(context)
    try:
        with context(None):
            yield
    finally:
        _in_force.remove(context)


def _recomputed_forward(block: nn.Module) -> Callable:
    forward = block.forward

    def run(*args: Any, **kwargs: Any) -> Any:
        names, count, contexts = list(kwargs), len(args), tuple(_in_force)

        def again(*values: Any) -> Any:
            own = [_own(value) for value in values]
            named = dict(zip(names, own[count:], strict=True))
            with ExitStack() as stack:
                for context in contexts:
                    stack.enter_context(context(block))
                return forward(*own[:count], **named)

        kept = [_kept(value) for value in (*args, *kwargs.values())]
        return checkpoint(again, *kept, use_reentrant=False, preserve_rng_state=False)

    return run


def _kept(value: Any) -> Any:
    """What the second run gets: options are mutated as the model goes, so they are copied here."""
    if isinstance(value, Tensor) and value.is_inference():
        return value.clone()  # a graph can't keep it
    return dict(value) if isinstance(value, dict) else value


def _own(value: Any) -> Any:
    """What one run may change: some blocks add in place, and every run must see the same."""
    if isinstance(value, Tensor):
        return value.clone()
    return dict(value) if isinstance(value, dict) else value
