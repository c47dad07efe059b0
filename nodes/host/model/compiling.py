"""Models that torch compiles.

Gradients are taken without their compiled form. A copied module gets a compiled form of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator
from contextlib import contextmanager, nullcontext

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_api.torch_helpers.torch_compile import COMPILE_KEY, TORCH_COMPILE_KWARGS


@contextmanager
def uncompiled() -> Generator[None]:
    """Run compiled modules as they were written.

    With borrowed weights, other attention, and left half-way, a pass would be compiled for itself.
    """
    eager = getattr(torch.compiler, "set_stance", nullcontext)  # since torch 2.6
    with eager("force_eager"):
        yield


def compile_anew(patcher: ModelPatcher) -> ModelPatcher:
    """Compile the copied module of a patcher, where its original was compiled.

    Neither the host's wrapper nor an object patch looks at the module that the patcher has now.
    """
    compiled = patcher.get_wrappers(WrappersMP.APPLY_MODEL, COMPILE_KEY)
    if compiled:
        modules = inspect.getclosurevars(compiled[0]).nonlocals["compiled_module_dict"]
        set_torch_compile_wrapper(
            patcher, keys=list(modules), **patcher.model_options[TORCH_COMPILE_KWARGS]
        )
    for name, module in list(patcher.object_patches.items()):
        if hasattr(module, "_orig_mod"):
            del patcher.object_patches[name]
    return patcher
