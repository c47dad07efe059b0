"""Checkpointing: activations that are recomputed in the backward pass instead of stored."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

LARGE = (ResBlock, SpatialTransformer)


@contextmanager
def recomputed(module: nn.Module, keep: Iterable[nn.Module]) -> Generator[None]:
    """Recompute the activations of all layers but ``keep`` in the backward pass."""
    kept = {id(layer) for layer in keep}
    large = [layer for layer in module.modules() if isinstance(layer, LARGE)]
    layers = [layer for layer in large if id(layer) not in kept]
    for layer in layers:
        layer.forward = _recomputed_forward(layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _recomputed_forward(forward: Callable) -> Callable:
    def run(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        # Options are mutated as the model goes: the second run must see them as the first did.
        def again(x: Tensor) -> Tensor:
            return forward(x, *_snapshot(frozen), **kwargs)

        frozen = _snapshot(args)
        return checkpoint(again, x, use_reentrant=False, preserve_rng_state=False)

    return run


def _snapshot(args: tuple) -> tuple:
    return tuple(dict(arg) if isinstance(arg, dict) else arg for arg in args)
