"""Two branches from one loaded checkpoint.

When they may share its module, and a copy of it when they may not.
"""

from __future__ import annotations

import copy
import logging
from itertools import chain
from typing import Any

import comfy.model_management
from comfy.model_patcher import ModelPatcher

from .compiling import compile_anew


def may_share(one: ModelPatcher, other: ModelPatcher, hooked: bool) -> bool:
    """Say whether two patchers of one module want the same weights in it.

    ``hooked`` says that weight hooks on the conditionings change weights while sampling, for one
    branch only.
    """
    same_weights = one.patches_uuid == other.patches_uuid or not (one.patches or other.patches)
    same_objects = one.object_patches == other.object_patches
    same_wrappers = one.weight_wrapper_patches == other.weight_wrapper_patches
    injected = bool(one.injections or other.injections)
    return same_weights and same_objects and same_wrappers and not injected and not hooked


def own_copy(patcher: ModelPatcher) -> ModelPatcher:
    """Return a clone of the patcher around its own copy of the module, unpatched."""
    megabytes = patcher.model_size() / 2**20
    logging.info(
        "RealCompo: both branches use one checkpoint with different patches; copying it (%.0f MB)",
        megabytes,
    )
    if getattr(patcher, "is_dynamic", bool)():
        # Newer hosts keep such weights on disk: load them once more.
        return compile_anew(patcher.clone(disable_dynamic=True))
    _unload(patcher)
    clone = patcher.clone()
    clone.model, clone.parent = _copied(patcher.model), None
    clone.backup, clone.object_patches_backup, clone.hook_backup = {}, {}, {}
    clone.pinned = set()
    return compile_anew(clone)


def give_own_hooks(conds: dict[str, list[dict]]) -> None:
    """Give a branch's conditionings hooks of their own.

    The schedule of a hook moves as its branch samples. A branch that shared it would find it
    already moved.
    """
    clones: dict[int, Any] = {}
    for cond in chain.from_iterable(conds.values()):
        hooks = cond.get("hooks")
        if not hooks:
            continue
        if id(hooks) not in clones:
            clones[id(hooks)] = _cloned_hooks(hooks)
        cond["hooks"] = clones[id(hooks)]


def _cloned_hooks(hooks: Any) -> Any:
    clones = hooks.clone()
    for hook in clones.hooks:
        hook.hook_keyframe = hook.hook_keyframe.clone()
    return clones


def _copied(model: Any) -> Any:
    """A deep copy of the weights. The model's description is shared: some hosts can't copy it."""
    return copy.deepcopy(model, {id(model.model_config): model.model_config})


def _unload(patcher: ModelPatcher) -> None:
    """Put the module's original weights back, wherever a clone of the patcher had it loaded."""
    loaded = comfy.model_management.current_loaded_models
    for index in reversed(range(len(loaded))):
        if loaded[index].model is not None and patcher.is_clone(loaded[index].model):
            loaded.pop(index).model_unload()
