"""Attention that cannot be read, told by the patches that could have changed it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from comfy.patcher_extension import WrappersMP

from ....realcompo_core.errors import InputError
from .attention_calls import OVERRIDE

EVALUATING = (WrappersMP.CALC_COND_BATCH, WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL)
OURS = __name__.split(".nodes.host.")[0]
PACKS = "custom_nodes/"  # the host names a pack's modules by their path


class UnreadableError(Exception):
    """What is seen is not what stock would give: ``expected`` and ``got``, in the user's words."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(expected, got)
        self.expected, self.got = expected, got

    def naming(self, patches: Iterable[str]) -> InputError:
        """Return the error for the user, which names the patches that this may come from."""
        named = ", ".join(patches) or "a patch that can't be named"
        fix = (
            f"It comes from {named}. Remove that from the model, or read no attention: "
            "mode fixed, without Layout Guidance and Attention Capture."
        )
        return InputError("attention", self.expected, self.got, fix)


def around(options: dict) -> list[str]:
    """Return the names of what other packs have put around a model with these options."""
    return _named(_around(options))


def inside(options: dict) -> list[str]:
    """Return the names of what other packs have put inside a model with these options."""
    return _named(_inside(options.get("transformer_options", {})))


def _around(options: dict) -> Iterator[tuple[str, Any]]:
    for name in ("model_function_wrapper", "context_handler"):
        if options.get(name) is not None:
            yield name, options[name]
    wrappers = options.get("transformer_options", {}).get("wrappers", {})
    for kind in EVALUATING:
        for functions in wrappers.get(kind, {}).values():
            for function in functions:
                yield f"{kind} wrapper", function


def _inside(transformer: dict) -> Iterator[tuple[str, Any]]:
    for name, functions in transformer.get("patches", {}).items():
        for function in functions:
            yield name, function
    for name, by_layer in transformer.get("patches_replace", {}).items():
        for function in by_layer.values():
            yield f"{name} replacement", function
    if transformer.get(OVERRIDE) is not None:
        yield OVERRIDE, transformer[OVERRIDE]


def _named(found: Iterable[tuple[str, Any]]) -> list[str]:
    """Each patch once, with the module that it is from; none of our own."""
    named = {}
    for name, patch in found:
        module = _module(patch)
        if module != OURS and not module.startswith(f"{OURS}."):
            named[f"{name} of {module.rpartition(PACKS)[2].replace('_x_', '.')}"] = None
    return list(named)


def _module(patch: Any) -> str:
    """The module that defines a function, a method, a partial or an object that is called."""
    function: Callable | Any = getattr(patch, "func", patch)
    owner = getattr(function, "__self__", None)
    if owner is not None:
        return type(owner).__module__
    return getattr(function, "__module__", None) or type(function).__module__
