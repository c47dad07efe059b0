"""What is repaired for a backward pass: attention without one, and additions in place."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from comfy.ldm.modules.attention import CrossAttention, attention_pytorch
from torch import Tensor, nn

OVERRIDE = "optimized_attention_override"
AFTER_SKIP = "input_block_patch_after_skip"
# Patches that get a block's whole output, and may write to it.
ON_FEATURES = ("input_block_patch", AFTER_SKIP, "output_block_patch")


@contextmanager
def differentiable_attention(module: nn.Module) -> Generator[None]:
    """Make attention layers that are called without transformer options use PyTorch's SDPA.

    The memory-saving backends have no backward; GLIGEN and ControlNet never see the override in
    the options.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, CrossAttention)]
    hooks = [layer.register_forward_pre_hook(_with_override, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def differentiable_options(options: dict) -> dict:
    """Change model options (a copy of one's own) so that a backward pass is possible."""
    transformer = options.setdefault("transformer_options", {})
    transformer[OVERRIDE] = attention_override(transformer.get(OVERRIDE))
    patches = transformer.setdefault("patches", {})
    for name in ON_FEATURES:
        if name in patches:
            patches[name] = [_writing_to_copies(patch) for patch in patches[name]]
    # ControlNet adds its residuals in place, also to tensors that the next block has saved.
    patches[AFTER_SKIP] = [*patches.get(AFTER_SKIP, []), _cloned]
    return options


def attention_override(existing: Callable | None) -> Callable:
    """Return PyTorch's SDPA instead of the host's choice, offered to an override that is there."""
    if existing is None:
        return lambda _, *args, **kwargs: attention_pytorch(*args, **kwargs)
    return lambda _, *args, **kwargs: existing(attention_pytorch, *args, **kwargs)


def _with_override(layer: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    options = kwargs.get("transformer_options") or {}
    if OVERRIDE not in options:
        options = options | {OVERRIDE: attention_override(None)}
        kwargs = kwargs | {"transformer_options": options}
    return args, kwargs


def _writing_to_copies(patch: Callable) -> Callable:
    """Let a patch write to its tensors (FreeU_V2): autograd keeps copies of its own."""

    def run(*args: Any) -> Any:
        if not torch.is_grad_enabled():
            return patch(*args)
        own = [arg.clone() if isinstance(arg, Tensor) else arg for arg in args]
        with torch.autograd.graph.saved_tensors_hooks(_copy, _itself):
            return patch(*own)

    return run


def _copy(saved: Tensor) -> Tensor:
    return saved.detach().clone()


def _itself(saved: Tensor) -> Tensor:
    return saved


def _cloned(h: Tensor, options: dict) -> Tensor:
    return h.clone()
