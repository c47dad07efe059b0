"""Weights that were loaded for inference, lent to autograd without a copy."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


@contextmanager
def borrowed(module: nn.Module) -> Generator[None]:
    """Swap every weight for an alias of the same storage that autograd accepts and never trains.

    Inference tensors cannot be saved for backward; an alias can, and costs no memory. The
    originals come back whatever happens inside.
    """
    lent: list[tuple[dict, str, Tensor]] = []
    try:
        for owner in module.modules():
            lent += [*_to_lend(owner._parameters), *_to_lend(owner._buffers)]
        for tensors, name, tensor in lent:
            tensors[name] = _alias(tensor)
        yield
    finally:
        for tensors, name, tensor in lent:
            tensors[name] = tensor


def _to_lend(tensors: dict[str, Any]) -> list[tuple[dict, str, Tensor]]:
    return [(tensors, name, tensor) for name, tensor in tensors.items() if _needs_alias(tensor)]


def _needs_alias(tensor: Tensor | None) -> bool:
    if tensor is None or is_traceable_wrapper_subclass(tensor):
        return False  # such a wrapper has no storage, and is unwrapped first
    return tensor.is_inference() or tensor.requires_grad


def _alias(tensor: Tensor) -> Tensor:
    """A tensor of the same class on the same storage.

    Subclasses, as of GGUF loaders, say what shape they stand for.
    """
    alias = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    alias.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
    if type(tensor) is nn.Parameter:
        return nn.Parameter(alias, requires_grad=False)
    if type(tensor) is Tensor:
        return alias
    alias = alias.as_subclass(type(tensor))
    vars(alias).update(vars(tensor))
    return alias
