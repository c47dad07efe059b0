"""What is repaired for a backward pass: attention without one, and additions in place."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from comfy.ldm.modules.attention import CrossAttention, attention_pytorch
from torch import Tensor, nn

OVERRIDE = "optimized_attention_override"
AFTER_SKIP = "input_block_patch_after_skip"


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
    # ControlNet adds its residuals in place, also to tensors that the next block has saved.
    patches = transformer.setdefault("patches", {})
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


def _cloned(h: Tensor, options: dict) -> Tensor:
    return h.clone()
