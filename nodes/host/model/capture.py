"""Reading cross-attention, by attn2 replace patches on chosen blocks.

After the last of them comes an early exit, or the end of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any
from uuid import UUID

import comfy.model_patcher
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key, get_wrappers_with_key
from torch import Tensor

from ....realcompo_core.sampling.attention import over_tokens, pool, token_probabilities
from ....realcompo_core.words.grounding import OPTION, Objects, grounded
from .unet import Block

EXIT = "realcompo_exit"


@dataclass(frozen=True)
class Watched:
    """What is read of one conditioning: its objects, with regions in latent cells of its area.

    ``rows`` is the length of its text, which a batch with a longer text repeats.
    """

    objects: Objects
    rows: int


def watch(conds: list[dict], latent: tuple[int, int]) -> dict[UUID, Watched]:
    """Return what to read of the conditionings that carry a layout, by the host's ids.

    ``latent`` is its height and width in cells.
    """
    found = {}
    for cond in grounded(conds):
        rows = cond["model_conds"]["c_crossattn"].cond.shape[1]
        found[cond["uuid"]] = Watched(_objects_of(cond, latent), rows)
    return found


def reads_only(options: dict) -> bool:
    """Say whether these options belong to a pass that only reads attention."""
    return bool(get_wrappers_with_key(WrappersMP.APPLY_MODEL, EXIT, options, is_model_options=True))


class Capture:
    """Collects attention of the objects of some conditionings while a model runs.

    ``watched`` maps the host's id of a conditioning to what is read of it. ``maps`` fills with
    lists of [B, T, h, w], one per block run, of the T tokens of all its objects, in their order.
    """

    def __init__(self, watched: Mapping[UUID, Watched], blocks: list[Block]) -> None:
        self.watched, self.blocks = watched, blocks
        self.maps: dict[UUID, list[Tensor]] = {}

    def __deepcopy__(self, memo: dict) -> Capture:
        return self  # hosts deep-copy model options; the maps must still arrive here

    def record(self, q: Tensor, k: Tensor, options: Mapping[str, Any]) -> None:
        """Keep the maps of every watched conditioning in this batch.

        ``q`` [rows, pixels, heads*d] and ``k`` [rows, text tokens, heads*d] are as projected.
        """
        height, width = options["activations_shape"][-2:]
        uuids, sides = options["uuids"], options["cond_or_uncond"]
        rows = zip(uuids, sides, q.chunk(len(uuids)), k.chunk(len(uuids)), strict=True)
        for uuid, side, q_rows, k_rows in rows:
            # The host lends a positive with an area, id and all, to the negative: side 0 is the
            # positive.
            if side == 0 and uuid in self.watched:
                watched = self.watched[uuid]
                tokens = list(chain.from_iterable(watched.objects.tokens))
                found = token_probabilities(q_rows, k_rows, options["n_heads"], tokens)
                repeats = k.shape[1] // watched.rows
                maps = repeats * found.unflatten(-1, (height, width))
                self.maps.setdefault(uuid, []).append(maps)

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
        """Return a copy of ``model_options`` whose chosen blocks report here.

        After the last of them comes ``ending``.
        """
        options = comfy.model_patcher.create_model_options_clone(model_options)
        for block in self.blocks:
            last = ending.act if ending and block is self.blocks[-1] else None
            _wrap_attention(options, block.key, self.record, last)
        if ending:
            kind = WrappersMP.APPLY_MODEL
            add_wrapper_with_key(kind, ending.key, ending.wrapper, options, True)
        return options


def _objects_of(cond: dict, latent: tuple[int, int]) -> Objects:
    """A conditioning's objects, their regions [objects, h, w] in latent cells of its area."""
    objects = cond[OPTION].objects(*latent)
    if cond.get("area") is None:
        return objects
    height, width, y, x = cond["area"]
    parts = tuple(part[:, y : y + height, x : x + width] for part in objects.parts)
    return replace(objects, parts=parts, corner=(y, x))


class AttentionPatch:
    """An attn2 replacement that computes attention as before, and reports queries and keys.

    Whoever held the block before (IPAdapter and others) still computes it; ``add`` and ``to`` are
    the interface that such patches expect of an occupant.
    """

    def __init__(
        self, report: Callable, occupant: Any, last: Callable[[], None] | None = None
    ) -> None:
        self.report, self.occupant, self.last = report, occupant, last
        self.added: list[tuple[Callable, dict]] = []

    # A compiler would keep guards on what was reported before, and compile at every step.
    @torch.compiler.disable
    def __call__(self, q: Tensor, k: Tensor, v: Tensor, options: dict) -> Tensor:
        """Attend as before [rows, pixels, heads*d]."""
        self.report(q, k, options)
        if self.last:
            self.last()
        if self.occupant is not None:
            return self.occupant(q, k, v, options)
        out = optimized_attention(
            q,
            k,
            v,
            options["n_heads"],
            attn_precision=options["attn_precision"],
            transformer_options=options,
        )
        total = out
        for callback, kwargs in self.added:
            total = total + callback(out, q, k, v, options, **kwargs)
        return total

    def add(self, callback: Callable, **kwargs: Any) -> None:
        """Let another pack add its attention to this block's, as IPAdapter does."""
        if hasattr(self.occupant, "add"):
            self.occupant.add(callback, **kwargs)
        else:
            self.added.append((callback, kwargs))

    def to(self, target: Any) -> AttentionPatch:
        """Move what the occupant holds; this patch has no weights."""
        if hasattr(self.occupant, "to"):
            self.occupant = self.occupant.to(target)
        return self


@dataclass(frozen=True)
class Ending:
    """What a pass does once the last captured block has reported.

    ``act`` happens there, ``wrapper`` is around the model; ``key`` is the wrapper's name.
    """

    key: str
    act: Callable[[], None]
    wrapper: Callable


class _Exit(Exception):
    """The last captured block is done."""


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
GRAPH_END = Ending(
    "realcompo_graph", _end_graph, _with_graph
)  # it goes on and keeps no more for a backward pass


def _wrap_attention(
    options: dict, key: tuple[str, int, int], report: Callable, last: Callable | None
) -> None:
    replaced = (
        options.setdefault("transformer_options", {})
        .setdefault("patches_replace", {})
        .setdefault("attn2", {})
    )
    replaced[key] = AttentionPatch(report, replaced.get(key, replaced.get(key[:2])), last)
