"""How the host's networks call attention, and how such a call is replaced."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from types import FunctionType
from typing import Any

OVERRIDE = "optimized_attention_override"  # in transformer options: what attends instead
MASKS = "realcompo_masks"  # there, too: what makes the masks of attention from image to text
FUNCTIONS = ("optimized_attention", "optimized_attention_masked")
DEFINITIONS = "comfy.ldm.modules.attention"
SHARED = "comfy.ldm.flux.math"  # attends for the modules of several files


@contextmanager
def replaced_attention(
    callers: Iterable[Any], replacing: Callable[[Callable], Callable]
) -> Generator[None]:
    """Replace the attention function that the source files of these objects know by its name.

    Some call it without the transformer options, where no override is heard.
    """
    names = {_source(caller) for caller in callers} | {SHARED}
    before = list(_functions(names - {DEFINITIONS}))
    try:
        for scope, name, function in before:
            setattr(scope, name, replacing(function))
        yield
    finally:
        for scope, name, function in before:
            setattr(scope, name, function)


def _source(caller: Any) -> str:
    return caller.__module__ if isinstance(caller, FunctionType) else type(caller).__module__


def _functions(scopes: Iterable[str]) -> Iterable[tuple[Any, str, Callable]]:
    for scope in filter(None, map(sys.modules.get, sorted(scopes))):
        for name in FUNCTIONS:
            if hasattr(scope, name):
                yield scope, name, getattr(scope, name)
