"""What is repaired for a backward pass: operations without one, and additions in place."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from comfy.ldm.flux.layers import DoubleStreamBlock, SingleStreamBlock
from comfy.ldm.modules.attention import CrossAttention, attention_pytorch
from torch import Tensor, nn

from .attention_calls import OVERRIDE, replaced_attention

AFTER_SKIP = "input_block_patch_after_skip"
# Patches that get a block's whole output, and may write to it.
ON_FEATURES = ("input_block_patch", AFTER_SKIP, "output_block_patch")
# Patches that get tensors of a transformer by name, and may add to them for the network.
ON_STREAMS = ("post_input", "noise_refiner", "double_block")
ADDS_IN_PLACE = (DoubleStreamBlock, SingleStreamBlock)  # of Flux, Chroma and HunyuanImage


@contextmanager
def differentiable_attention(module: nn.Module) -> Generator[None]:
    """Make attention that is called without transformer options use PyTorch's SDPA.

    The memory-saving backends have no backward; GLIGEN, ControlNets and PixArt never see the
    override in the options.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, CrossAttention)]
    with ExitStack() as stack:
        for layer in layers:
            hook = layer.register_forward_pre_hook(_with_override, with_kwargs=True)
            stack.callback(hook.remove)
        stack.enter_context(replaced_attention(module.modules(), lambda _: attention_pytorch))
        yield


@contextmanager
def cloned_norms(module: nn.Module) -> Generator[None]:
    """Let norms save a copy of their input where the block around them adds to it in place."""
    with ExitStack() as stack:
        for block in module.modules():
            if isinstance(block, ADDS_IN_PLACE):
                for part in block.children():
                    if isinstance(part, nn.LayerNorm):
                        stack.callback(part.register_forward_pre_hook(_copied).remove)
        yield


@contextmanager
def separate_controls(module: nn.Module) -> Generator[None]:
    """Let a ControlNet's residuals be tensors of their own: the host multiplies them in place.

    Those of Qwen-Image's Fun ControlNet are parts of one.
    """
    hook = module.register_forward_hook(_separated)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def plain_rope() -> Generator[None]:
    """Compute rotary embeddings by operations that have a backward.

    Newer hosts compute them by kernels that have none, and keep plain twins of these.
    """
    try:
        import comfy.quant_ops as host
        import comfy_kitchen.backends.eager.rope as plain
    except ImportError:
        yield
        return
    kernels = host.ck
    host.ck = _Twins(plain, kernels)
    try:
        yield
    finally:
        host.ck = kernels


def differentiable_options(options: dict) -> dict:
    """Change model options (a copy of one's own) so that a backward pass is possible."""
    transformer = options.setdefault("transformer_options", {})
    transformer[OVERRIDE] = attention_override(transformer.get(OVERRIDE))
    patches = transformer.setdefault("patches", {})
    for name in ON_FEATURES:
        if name in patches:
            patches[name] = [_writing_to_copies(patch) for patch in patches[name]]
    for name in ON_STREAMS:
        if name in patches:
            patches[name] = [_keeping_copies(patch) for patch in patches[name]]
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


def _keeping_copies(patch: Callable) -> Callable:
    """Let a patch add to its tensors for the network: autograd keeps copies of what they were."""

    def run(args: dict) -> Any:
        if not torch.is_grad_enabled():
            return patch(args)
        given = {_storage(arg) for arg in args.values() if isinstance(arg, Tensor)}

        def keep(saved: Tensor) -> Tensor:
            return _copy(saved) if _storage(saved) in given else saved.detach()

        with torch.autograd.graph.saved_tensors_hooks(keep, _itself):
            return patch(args)

    return run


def _storage(t: Tensor) -> int:
    return t.untyped_storage().data_ptr()


def _separated(network: nn.Module, args: tuple, out: Any) -> Any:
    """A ControlNet's residuals; what stands there repeatedly does so still."""
    if not isinstance(out, dict) or any(type(part) not in (list, tuple) for part in out.values()):
        return out
    own: dict[int, Any] = {}
    separated = {}
    for name, residuals in out.items():
        separated[name] = [_separate(residual, own) for residual in residuals]
    return separated


def _separate(residual: Any, own: dict[int, Any]) -> Any:
    if isinstance(residual, Tensor) and residual._is_view():
        if id(residual) not in own:
            own[id(residual)] = residual.clone()
        return own[id(residual)]
    return residual


def _copy(saved: Tensor) -> Tensor:
    return saved.detach().clone()


def _itself(saved: Tensor) -> Tensor:
    return saved


class _Twins:
    """The host's kernels, of which those for rotary embeddings are replaced by their twins."""

    def __init__(self, plain: Any, kernels: Any) -> None:
        self.plain, self.kernels = plain, kernels

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain if "rope" in name else self.kernels, name)


def _copied(norm: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    return (args[0].clone(),)


def _cloned(h: Tensor, options: dict) -> Tensor:
    return h.clone()
