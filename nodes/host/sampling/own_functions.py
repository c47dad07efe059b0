"""Functions that two models have in common, when each needs them for itself.

A function of another pack may keep state in the variables that it closes over. The host copies a
model's options where it clones a model, but a function stays the same object. One branch's state
would meet the other's predictions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from types import CellType, FunctionType
from typing import Any

from comfy.model_patcher import ModelPatcher

CONTAINERS = (list, set, deque)


def give_own_functions(patcher: ModelPatcher, other: ModelPatcher) -> None:
    """Give a model (a clone of one's own) copies of the functions that ``other`` carries too."""
    shared = {id(function) for function in _functions([other.model_options, other.wrappers])}
    copies = _Copies()
    for options in (patcher.model_options, patcher.wrappers):
        _replace(options, shared, copies)


def _functions(value: Any) -> Iterator[FunctionType]:
    if isinstance(value, FunctionType):
        yield value
    for part in _parts(value):
        yield from _functions(part)


def _parts(value: Any) -> list:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else []


def _replace(value: dict | list, shared: set[int], copies: _Copies) -> None:
    """Replace shared functions in nested dicts and lists, in place."""
    places = value.items() if isinstance(value, dict) else enumerate(value)
    for place, found in list(places):
        if isinstance(found, (dict, list)):
            _replace(found, shared, copies)
        elif id(found) in shared:
            value[place] = copies.of(found)


class _Copies:
    """Copies of functions, whose variables and containers are their own, and are shared as before.

    Whatever else a function holds (weights, tensors, models) is the same object.
    """

    def __init__(self) -> None:
        self.known: dict[int, Any] = {}
        self.kept: list[Any] = []  # what is known by its id must live on

    def of(self, value: Any) -> Any:
        """Return a copy of a function or a container; anything else as it is."""
        if id(value) in self.known:
            return self.known[id(value)]
        if isinstance(value, FunctionType) and value.__closure__:
            return self._function(value)
        if type(value) is dict:
            return self._dict(value)
        if type(value) in CONTAINERS:
            return self._container(value)
        return value

    def _function(self, function: FunctionType) -> FunctionType:
        cells = tuple(self._cell(cell) for cell in function.__closure__ or ())
        code, names = function.__code__, function.__globals__
        copy = FunctionType(code, names, function.__name__, function.__defaults__, cells)
        copy.__kwdefaults__, copy.__qualname__ = function.__kwdefaults__, function.__qualname__
        copy.__dict__.update(function.__dict__)
        return self._know(function, copy)

    def _cell(self, cell: CellType) -> CellType:
        if id(cell) in self.known:
            return self.known[id(cell)]
        copy = self._know(cell, CellType())
        try:
            found = cell.cell_contents
        except ValueError:  # a variable without a value yet
            return copy
        copy.cell_contents = self.of(found)
        return copy

    def _dict(self, value: dict) -> dict:
        copy = self._know(value, {})
        for key, part in value.items():
            copy[key] = self.of(part)
        return copy

    def _container(self, value: list | set | deque) -> list | set | deque:
        copy = self._know(value, value.copy())
        if isinstance(copy, set):
            return copy
        for place, part in enumerate(value):
            copy[place] = self.of(part)
        return copy

    def _know(self, original: Any, copy: Any) -> Any:
        self.known[id(original)] = copy
        self.kept.append(original)
        return copy
