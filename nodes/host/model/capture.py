"""Reading attention in chosen layers of any family that has a reader.

After the last of them comes an early exit, or the end of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any
from uuid import UUID

import comfy.model_patcher
import torch
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key, get_wrappers_with_key
from torch import Tensor

from ....realcompo_core.sampling.attention import over_tokens, pool
from ....realcompo_core.words.grounding import OPTION, Grounding, Objects, grounded
from .readers.reader import Layer, Reader, Seen, TextRows

EXIT = "realcompo_exit"


@dataclass(frozen=True)
class Watched:
    """What is read of one conditioning: its objects, with regions in latent cells of its area.

    ``text`` is how the network gets its text.
    """

    objects: Objects
    text: TextRows
    grounding: Grounding


def watch(conds: list[dict], latent: tuple[int, int]) -> dict[UUID, Watched]:
    """Return what to read of the conditionings that carry a layout, by the host's ids.

    ``latent`` is its height and width in cells.
    """
    found = {}
    for cond in grounded(conds):
        objects, text = _objects_of(cond, latent), _text_of(cond)
        found[cond["uuid"]] = Watched(objects, text, cond[OPTION])
    return found


def reads_only(options: dict) -> bool:
    """Say whether these options belong to a pass that only reads attention."""
    return bool(get_wrappers_with_key(WrappersMP.APPLY_MODEL, EXIT, options, is_model_options=True))


class Capture:
    """Collects attention of the objects of some conditionings while a model runs.

    ``watched`` maps the host's id of a conditioning to what is read of it, in these ``layers`` of
    the ``reader``'s network. ``maps`` fills with lists of [B, T, h, w], one per layer run, of the T
    tokens of all its objects, in their order.
    """

    def __init__(
        self, watched: Mapping[UUID, Watched], reader: Reader, layers: Sequence[Layer]
    ) -> None:
        self.watched, self.reader, self.read = watched, reader, layers
        self.maps: dict[UUID, list[Tensor]] = {}

    def __deepcopy__(self, memo: dict) -> Capture:
        return self  # hosts deep-copy model options; the maps must still arrive here

    def record(self, seen: Seen) -> None:
        """Keep the maps of every watched conditioning in this batch."""
        for uuid, side, part in seen.parts():
            # The host lends a positive with an area, id and all, to the negative: side 0 is the
            # positive.
            if side == 0 and uuid in self.watched:
                watched = self.watched[uuid]
                tokens = list(chain.from_iterable(watched.objects.tokens))
                self.maps.setdefault(uuid, []).append(part.maps(tokens, watched.text))

    def pooled(self) -> list[tuple[Objects, Tensor]]:
        """Return, for each conditioning that ran, its objects and their attention.

        Attention is [B, objects, h, w], the mean over layers.
        """
        found = []
        for objects, maps in self.layers():
            found.append((objects, over_tokens(pool(maps), objects.tokens)))
        return found

    def layers(self) -> list[tuple[Objects, list[Tensor]]]:
        """Return, for each conditioning that ran, its objects and a list of ``maps``."""
        return [(self.watched[uuid].objects, maps) for uuid, maps in self.maps.items()]

    def install(self, model_options: dict, ending: Ending | None = None) -> dict:
        """Return a copy of ``model_options`` whose chosen layers report here.

        After the last of them comes ``ending``.
        """
        options = comfy.model_patcher.create_model_options_clone(model_options)
        self.reader.install(options, self.read, self.record, ending.act if ending else None)
        if ending:
            kind = WrappersMP.APPLY_MODEL
            add_wrapper_with_key(kind, ending.key, ending.wrapper, options, True)
        return options


def _objects_of(cond: dict, latent: tuple[int, int]) -> Objects:
    """A conditioning's objects, their regions [objects, h, w] in latent cells of its area."""
    objects = cond[OPTION].objects(*latent)
    if cond.get("area") is None:
        return objects
    area = cond["area"]  # sizes, then corners, each with a time first where the latent has one
    height, width = area[: len(area) // 2][-2:]
    y, x = area[-2:]
    parts = tuple(part[:, y : y + height, x : x + width] for part in objects.parts)
    return replace(objects, parts=parts, corner=(y, x))


def _text_of(cond: dict) -> TextRows:
    rows = cond["model_conds"]["c_crossattn"].cond.shape[1]
    encoded = cond.get("cross_attn")
    # Anima makes rows of its own for these ids, in their order, and pads behind.
    if encoded is None or "t5xxl_ids" in cond:
        return TextRows(rows)
    return TextRows(rows, rows - encoded.shape[1])


@dataclass(frozen=True)
class Ending:
    """What a pass does once the last captured layer has reported.

    ``act`` happens there, ``wrapper`` is around the model; ``key`` is the wrapper's name.
    """

    key: str
    act: Callable[[], None]
    wrapper: Callable


class _Exit(Exception):
    """The last captured layer is done."""


def _exit() -> None:
    raise _Exit


def _until_exit(executor: Callable, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    try:
        return executor(x, *args, **kwargs)
    except _Exit:
        return torch.zeros_like(x)


def _end_graph() -> None:
    torch.set_grad_enabled(False)


def _with_graph(executor: Callable, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    with torch.enable_grad():
        return executor(x, *args, **kwargs)


EARLY_EXIT = Ending(EXIT, _exit, _until_exit)  # the model stops and predicts zeros
# The model goes on and keeps no more for a backward pass.
GRAPH_END = Ending("realcompo_graph", _end_graph, _with_graph)
