"""Backprop through models that ComfyUI loaded for inference."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import comfy.model_management
import torch
from comfy.ldm.modules.attention import CrossAttention, SpatialTransformer, attention_pytorch
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils.checkpoint import checkpoint

from ....realcompo_core.errors import InputError
from .compiling import compile_anew, uncompiled

# A gradient pass of one sample holds about seven times what the host reckons for evaluating two
# (SD1.5 at 512 pixels, online); more of the weights may have to wait elsewhere for it.
GRADIENT_MEMORY = 7
# Half precision loses the small gradients of a loss on attention; a power of two is exact to undo.
HALF_LOSS_SCALE = 2.0**12
# What autograd says of an operation that it cannot go back through.
NO_BACKWARD = (
    "does not require grad",
    "Inference tensor",
    "inference tensor",
    "inplace operation",
    "derivative for",
    "automatic differentiation",
)


def differentiable_patcher(patcher: ModelPatcher) -> ModelPatcher:
    """The patcher, or its plain twin where a newer host pages weights in and out below autograd."""
    return (
        compile_anew(patcher.get_non_dynamic_delegate())
        if getattr(patcher, "is_dynamic", bool)()
        else patcher
    )


def reserve_gradient_memory(patcher: ModelPatcher) -> None:
    """Let the host reckon with a gradient pass when it decides how much of this patcher's weights to load."""

    def reckon(
        executor: Callable, of: ModelPatcher, noise_shape: Sequence[int], *args: Any, **kwargs: Any
    ) -> Any:
        return executor(of, [noise_shape[0] * GRADIENT_MEMORY, *noise_shape[1:]], *args, **kwargs)

    patcher.remove_wrappers_with_key(WrappersMP.PREPARE_SAMPLING, "realcompo_gradient")
    patcher.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "realcompo_gradient", reckon)


def loss_scale(model: Any) -> float:
    """What to multiply a loss with, so that its gradient through this model is not rounded to nothing."""
    computed = model.manual_cast_dtype or model.get_dtype()
    return HALF_LOSS_SCALE if computed == torch.float16 else 1.0


@contextmanager
def differentiable(modules: Iterable[nn.Module]) -> Generator[None]:
    """Leave inference mode and make the modules usable in autograd, without a copy; undone at exit."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        uncompiled(),
        unstreamed(),
        ExitStack() as stack,
    ):
        for module in modules:
            stack.enter_context(borrowed(module))
            stack.enter_context(differentiable_attention(module))
        yield


@contextmanager
def unstreamed() -> Generator[None]:
    """Let the host cast offloaded weights into tensors of their own: newer ones have a buffer for each of their
    streams, which the next layer's weights overwrite before the backward pass comes to these."""
    host = comfy.model_management
    streams, host.NUM_STREAMS = host.NUM_STREAMS, 0
    try:
        yield
    finally:
        host.NUM_STREAMS = streams


@contextmanager
def explaining_missing_backward(model: str, way_out: str) -> Generator[None]:
    """Say in the user's words when some patch of the model has no backward."""
    try:
        yield
    except RuntimeError as error:
        if type(error) is not RuntimeError or not any(part in str(error) for part in NO_BACKWARD):
            raise
        got = f"a patch or attention backend without one ({str(error).splitlines()[0]})"
        fix = f"Remove the patch, start ComfyUI with --use-pytorch-cross-attention, or {way_out}."
        raise InputError(model, "a gradient through every patch", got, fix) from error


@contextmanager
def borrowed(module: nn.Module) -> Generator[None]:
    """Swap every weight for an alias of the same storage that autograd accepts and never trains.

    Inference tensors cannot be saved for backward; an alias can, and costs no memory. The
    originals come back whatever happens inside.
    """
    lent: list[tuple[dict, str, Tensor]] = []
    try:
        for owner in module.modules():
            for tensors in (owner._parameters, owner._buffers):
                for name, tensor in tensors.items():
                    if _needs_alias(tensor):
                        lent.append((tensors, name, tensor))
                        tensors[name] = _alias(tensor)
        yield
    finally:
        for tensors, name, tensor in lent:
            tensors[name] = tensor


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
    transformer["optimized_attention_override"] = attention_override(
        transformer.get("optimized_attention_override")
    )
    patches = transformer.setdefault("patches", {})
    # ControlNet adds its residuals in place, also to tensors that the next block has saved.
    patches["input_block_patch_after_skip"] = [
        *patches.get("input_block_patch_after_skip", []),
        _cloned,
    ]
    return options


def attention_override(existing: Callable | None) -> Callable:
    """PyTorch's SDPA instead of the host's choice, offered to an override that is already there."""
    if existing is None:
        return lambda _, *args, **kwargs: attention_pytorch(*args, **kwargs)
    return lambda _, *args, **kwargs: existing(attention_pytorch, *args, **kwargs)


@contextmanager
def recomputed(module: nn.Module, keep: Iterable[nn.Module]) -> Generator[None]:
    """Recompute the activations of all layers but ``keep`` in the backward pass instead of storing them."""
    kept = {id(layer) for layer in keep}
    kinds = (ResBlock, SpatialTransformer)
    layers = [
        layer for layer in module.modules() if isinstance(layer, kinds) and id(layer) not in kept
    ]
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


def _needs_alias(tensor: Tensor | None) -> bool:
    if tensor is None or is_traceable_wrapper_subclass(
        tensor
    ):  # such a wrapper has no storage, and is unwrapped first
        return False
    return tensor.is_inference() or tensor.requires_grad


def _alias(tensor: Tensor) -> Tensor:
    """A tensor of the same class on the same storage; subclasses, as of GGUF loaders, say what shape they stand for."""
    alias = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    alias.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
    if type(tensor) in (Tensor, nn.Parameter):
        return (
            nn.Parameter(alias, requires_grad=False) if isinstance(tensor, nn.Parameter) else alias
        )
    alias = alias.as_subclass(type(tensor))
    vars(alias).update(vars(tensor))
    return alias


def _with_override(layer: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    options = kwargs.get("transformer_options") or {}
    if "optimized_attention_override" not in options:
        kwargs = kwargs | {
            "transformer_options": options
            | {"optimized_attention_override": attention_override(None)}
        }
    return args, kwargs


def _cloned(h: Tensor, options: dict) -> Tensor:
    return h.clone()
