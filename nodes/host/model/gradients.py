"""Backprop through models that ComfyUI loaded for inference."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import nn

from ....realcompo_core.errors import InputError
from .borrowed_weights import borrowed
from .compiling import compile_anew, uncompiled
from .readers.families import reader_of
from .repairs import cloned_norms, differentiable_attention, plain_rope, separate_controls

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
    """Return the patcher, or its plain twin where a newer host pages weights below autograd."""
    if not getattr(patcher, "is_dynamic", bool)():
        return patcher
    return compile_anew(patcher.get_non_dynamic_delegate())


def reserve_gradient_memory(patcher: ModelPatcher) -> None:
    """Let the host reckon with a gradient pass when it decides how many weights to load."""

    def reckon(
        executor: Callable, of: ModelPatcher, noise_shape: Sequence[int], *args: Any, **kwargs: Any
    ) -> Any:
        factor = reader_of(of.model).gradient_memory
        enlarged = [math.ceil(noise_shape[0] * factor), *noise_shape[1:]]
        return executor(of, enlarged, *args, **kwargs)

    patcher.remove_wrappers_with_key(WrappersMP.PREPARE_SAMPLING, "realcompo_gradient")
    patcher.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "realcompo_gradient", reckon)


def loss_scale(model: Any) -> float:
    """Return a factor on a loss, so that this model does not round its gradient to nothing."""
    computed = model.manual_cast_dtype or model.get_dtype()
    return HALF_LOSS_SCALE if computed == torch.float16 else 1.0


@contextmanager
def differentiable(modules: Iterable[nn.Module]) -> Generator[None]:
    """Leave inference mode and make the modules usable in autograd, without a copy.

    All of it is undone at exit.
    """
    with ExitStack() as stack:
        for context in (torch.inference_mode(False), torch.enable_grad(), uncompiled()):
            stack.enter_context(context)
        stack.enter_context(unstreamed())
        stack.enter_context(plain_rope())
        for module in modules:
            for repair in (borrowed, differentiable_attention, cloned_norms, separate_controls):
                stack.enter_context(repair(module))
        yield


@contextmanager
def unstreamed() -> Generator[None]:
    """Let the host cast offloaded weights into tensors of their own.

    Newer hosts have a buffer for each of their streams. The next layer's weights overwrite it
    before the backward pass comes to these.
    """
    host = comfy.model_management
    streams, host.NUM_STREAMS = host.NUM_STREAMS, 0
    try:
        yield
    finally:
        host.NUM_STREAMS = streams


@contextmanager
def explaining_missing_backward(model: str, way_out: str) -> Generator[None]:
    """Say in the user's words when some patch of the model has no backward.

    Raises :class:`InputError` in place of autograd's error.
    """
    try:
        yield
    except RuntimeError as error:
        if type(error) is not RuntimeError or not any(part in str(error) for part in NO_BACKWARD):
            raise
        got = f"a patch or attention backend without one ({str(error).splitlines()[0]})"
        fix = f"Remove the patch, start ComfyUI with --use-pytorch-cross-attention, or {way_out}."
        raise InputError(model, "a gradient through every patch", got, fix) from error
