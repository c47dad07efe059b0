"""Two branches from one loaded checkpoint: when they may share its module, and a copy when they may not."""

from __future__ import annotations

import copy
import logging
from typing import Any

import comfy.model_management
from comfy.model_patcher import ModelPatcher

from .compiling import compile_anew


def may_share(one: ModelPatcher, other: ModelPatcher, hooked: bool) -> bool:
    """Whether two patchers of one module want the same weights in it.

    ``hooked``: weight hooks on the conditionings change weights while sampling, for one branch only.
    """
    same_weights = one.patches_uuid == other.patches_uuid or not (one.patches or other.patches)
    same_objects = one.object_patches == other.object_patches
    same_wrappers = one.weight_wrapper_patches == other.weight_wrapper_patches
    injected = bool(one.injections or other.injections)
    return same_weights and same_objects and same_wrappers and not injected and not hooked


def own_copy(patcher: ModelPatcher) -> ModelPatcher:
    """A clone of the patcher around its own copy of the module, in its unpatched state."""
    megabytes = patcher.model_size() / 2**20
    logging.info(
        "RealCompo: both branches use one checkpoint with different patches; copying it (%.0f MB)",
        megabytes,
    )
    if getattr(
        patcher, "is_dynamic", bool
    )():  # newer hosts keep such weights on disk: load them once more
        return compile_anew(patcher.clone(disable_dynamic=True))
    _unload(patcher)
    clone = patcher.clone()
    clone.model, clone.parent = _copied(patcher.model), None
    clone.backup, clone.object_patches_backup, clone.hook_backup = {}, {}, {}
    clone.pinned = set()
    return compile_anew(clone)


def give_own_hooks(conds: dict[str, list[dict]]) -> None:
    """Give a branch's conditionings hooks of their own: the schedule of a hook moves as its branch samples,
    and a branch that shared it would find it already moved."""
    clones: dict[int, Any] = {}
    for cond in (cond for group in conds.values() for cond in group if cond.get("hooks")):
        hooks = cond["hooks"]
        if id(hooks) not in clones:
            clones[id(hooks)] = hooks.clone()
            for hook in clones[id(hooks)].hooks:
                hook.hook_keyframe = hook.hook_keyframe.clone()
        cond["hooks"] = clones[id(hooks)]


def _copied(model: Any) -> Any:
    """A deep copy of the weights; the model's description is shared, and can't be copied on every host."""
    return copy.deepcopy(model, {id(model.model_config): model.model_config})


def _unload(patcher: ModelPatcher) -> None:
    """Put the module's original weights back, wherever a clone of the patcher had it loaded."""
    loaded = comfy.model_management.current_loaded_models
    for index in reversed(range(len(loaded))):
        if loaded[index].model is not None and patcher.is_clone(loaded[index].model):
            loaded.pop(index).model_unload()
