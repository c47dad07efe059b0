"""What goes wrong in the middle of a run: patches of other packs, and ways to break down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def patched_attn2(patch: Callable) -> Callable:
    """Return a function that gives a model an attn2 patch, as another pack's node would."""

    def apply(model: Any) -> Any:
        clone = model.clone()
        clone.set_model_attn2_patch(patch)
        return clone

    return apply


def interrupt() -> None:
    import comfy.model_management

    comfy.model_management.interrupt_current_processing()
    comfy.model_management.throw_exception_if_processing_interrupted()


def break_down() -> None:
    raise RuntimeError("a patch broke")


def run_out_of_memory() -> None:
    import comfy.model_management

    raise comfy.model_management.OOM_EXCEPTION("simulated: out of memory")
