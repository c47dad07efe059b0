"""Reading attention in chosen layers of any family that has a reader.

After the last of them comes an early exit, or the end of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any
from uuid import UUID

import comfy.model_patcher
import torch
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key, get_wrappers_with_key
from torch import Tensor

from ....realcompo_core.sampling.attention import Keys, over_tokens, pool
from ....realcompo_core.words.grounding import OPTION, Objects, grounded
from .pieces import Piece, assembled, is_whole
from .readers.reader import Given, Layer, Reader, Seen, Size, TextRows
from .rows import Part, Watched, parts_of, sought_in
from .unreadable import UnreadableError, around, inside

EXIT = "realcompo_exit"
GIVEN = "realcompo_given"


def watch(conds: list[dict], latent: Size, side: int = 0) -> dict[UUID, Watched]:
    """Return what to read of the conditionings that carry a layout, by the host's ids.

    ``latent`` is its height and width in cells. ``side`` is the number of this list among those
    that the host evaluates together.
    """
    found = {}
    for cond in grounded(conds):
        encoded = cond["model_conds"]["c_crossattn"].cond
        objects, text = _objects_of(cond, latent), _text_of(cond)
        found[cond["uuid"]] = Watched(objects, text, encoded, cond[OPTION], side)
    return found


def reads_only(options: dict) -> bool:
    """Say whether these options belong to a pass that only reads attention."""
    return bool(get_wrappers_with_key(WrappersMP.APPLY_MODEL, EXIT, options, is_model_options=True))


class Capture:
    """Collects attention of the objects of some conditionings while a model runs.

    ``watched`` maps the host's id of a conditioning to what is read of it, in these ``layers`` of
    the ``reader``'s network, as a share of the attention to these ``keys``, at a ``latent``
    [B, C, ..., H, W].
    """

    def __init__(
        self,
        watched: Mapping[UUID, Watched],
        reader: Reader,
        layers: Sequence[Layer],
        latent: Tensor,
        keys: Keys = Keys.ALL,
    ) -> None:
        self.watched, self.reader, self.read, self.keys = watched, reader, layers, keys
        self.latent, self.options = latent, {}
        self.sought: set[UUID] = set()  # conditionings that the host says to have evaluated
        self.placed: set[UUID] = set()  # those whose rows were found in what was evaluated
        self.parts: list[Part] = []  # theirs in what the model evaluates now
        self.pieces: dict[UUID, dict[tuple, list[Piece]]] = {}

    def __deepcopy__(self, memo: dict) -> Capture:
        return self  # hosts deep-copy model options; the maps must still arrive here

    @property
    def idle(self) -> bool:
        """Whether there is nothing to read: no conditioning was active, or no layer was run."""
        return not self.pieces and self.sought == self.placed

    @property
    def whole(self) -> bool:
        """Whether something was read, and of each conditioning its whole area."""
        found = self.pieces and self.sought == self.placed
        return bool(found) and all(map(self._is_whole, self.pieces))

    def record(self, seen: Seen) -> None:
        """Keep the maps of every watched conditioning in this batch."""
        for part in self.parts:
            watched = self.watched[part.uuid]
            tokens = list(chain.from_iterable(watched.objects.tokens))
            with self._naming(inside):
                maps = seen.of(part.rows, part.given).maps(tokens, watched.text, self.keys)
            by_layer = self.pieces.setdefault(part.uuid, {})
            by_layer.setdefault(seen.layer.key, []).append(Piece(part, maps))

    def pooled(self) -> list[tuple[Objects, Tensor]]:
        """Return, for each conditioning that ran, its objects and their attention.

        Attention is [B, objects, h, w], the mean over layers.
        """
        found = []
        for objects, maps in self.layers():
            found.append((objects, over_tokens(pool(maps), objects.tokens)))
        return found

    def layers(self) -> list[tuple[Objects, list[Tensor]]]:
        """Return, for each conditioning that ran, its objects and a list of maps [B, T, h, w].

        One for each layer, of the T tokens of all its objects, in their order. Raises
        :class:`InputError` where only a part of its area was found in what was evaluated.
        """
        if not self.idle and not self.whole:
            with self._naming(around):
                expected = "the latent's rows and cells, each with its prompt"
                raise UnreadableError(expected, "others, of which attention can't be placed")
        found = []
        for uuid, by_layer in self.pieces.items():
            objects, size = self.watched[uuid].objects, self.watched[uuid].size
            maps = [assembled(pieces, len(self.latent), size) for pieces in by_layer.values()]
            found.append((objects, maps))
        return found

    def install(self, model_options: dict, ending: Ending | None = None) -> dict:
        """Return a copy of ``model_options`` whose chosen layers report here.

        After the last of them comes ``ending``.
        """
        self.options = model_options
        options = comfy.model_patcher.create_model_options_clone(model_options)
        kind = WrappersMP.APPLY_MODEL
        add_wrapper_with_key(kind, GIVEN, self.around, options, True)
        self.reader.install(options, self.read, self.record, ending.act if ending else None)
        if ending:
            add_wrapper_with_key(kind, ending.key, ending.wrapper, options, True)
        return options

    def around(
        self,
        executor: Callable,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: Mapping[str, Any] = {},
        **kwargs: Any,
    ) -> Tensor:
        """Note whose rows the model is given, as the last wrapper around it."""
        uuids, sides = transformer_options["uuids"], transformer_options["cond_or_uncond"]
        given = Given(x, c_crossattn, uuids, sides)
        self.parts = []
        for uuid, place in sought_in(given, self.watched).items():
            found = parts_of(given, place, self.latent, uuid, self.watched[uuid])
            self.sought.add(uuid)
            self.placed |= {part.uuid for part in found}
            self.parts += found
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)

    def _is_whole(self, uuid: UUID) -> bool:
        layers, size = self.pieces[uuid].values(), self.watched[uuid].size
        return all(is_whole(found, len(self.latent), size) for found in layers)

    @contextmanager
    def _naming(self, patches: Callable[[dict], list[str]]) -> Generator[None]:
        """Tell what can't be read by the names of the patches that it may come from."""
        try:
            yield
        except UnreadableError as error:
            raise error.naming(patches(self.options)) from error


def _objects_of(cond: dict, latent: Size) -> Objects:
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
    rows, text = cond["model_conds"]["c_crossattn"].cond.shape[1], cond.get("cross_attn")
    # Anima makes rows of its own for these ids, in their order, and pads behind.
    if text is None or "t5xxl_ids" in cond:
        return TextRows(rows)
    return TextRows(rows, rows - text.shape[1])


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
