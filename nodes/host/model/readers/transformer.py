"""Transformers: attention is read where the network calls it, by hooks on its modules.

A hook notes which layer is about to attend; the host's ``optimized_attention_override`` then sees
the queries and keys as they are attended, after norms and rope. So nothing depends on block numbers
in the options, which older hosts leave out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor, nn

from .....realcompo_core.errors import InputError
from .....realcompo_core.sampling.attention import Keys, Layers, joint_probabilities
from ..attention_calls import MASKS, OVERRIDE, replaced_attention
from ..unreadable import UnreadableError
from .placing import SECOND_QUARTER, THIRDS, Share
from .reader import (
    Given,
    Layer,
    Reader,
    Seen,
    Site,
    Size,
    TextRows,
    check_factor,
    chosen_rows,
)

KEY = "realcompo_reader"
POST_INPUT = "post_input"  # patches of a network's first tokens; USO adds some before the text's


@dataclass(frozen=True)
class Spans:
    """Where among a layer's tokens the image begins, and where the conditioning's rows do."""

    image: int
    text: int


class Transformer(Reader):
    """Reads a network whose tokens are patches of the latent, all of one size.

    A family says where its layers are, and where image and text lie among their tokens.
    """

    # Other families have what benchmarks.transformers counts at true size, and a tenth more for
    # what kernels need for themselves. This is a guess, for those that were not counted.
    gradient_memory = 2.5
    checkpoints = True
    placing: Share = SECOND_QUARTER

    def layers(self) -> list[Layer]:
        """Return the layers between image and text, in execution order."""
        factor = self.patch()
        return [
            Layer((name, number), factor, module, block)
            for name, number, module, block in self.attention()
        ]

    def attention(self) -> Iterator[tuple[str, int, nn.Module, nn.Module]]:
        """Yield each layer's name and number, the module that attends, and the block around it.

        The module's first attention is the one between image and text.
        """
        raise NotImplementedError

    def patch(self) -> int:
        """Return how many cells of the latent a token is wide."""
        size = self.network.patch_size
        return size if isinstance(size, int) else size[-1]

    def grid(self, size: Size) -> Size:
        """Return the rows and columns of tokens that a latent of this size in cells has."""
        height, width = (math.ceil(cells / self.patch()) for cells in size)
        return height, width

    def spans(self, keys: int, image: int, text: TextRows) -> Spans:
        """Return where image and text begin among so many keys, ``image`` of them the latent's."""
        raise NotImplementedError

    def announcers(self) -> list[nn.Module]:
        """Return the modules that attend."""
        return [layer.module for layer in self.layers()]

    def site(self, keys: int, text: TextRows, size: Size, options: Mapping[str, Any]) -> Site:
        """Return where all tokens of the latent and the text's rows are."""
        rows, columns = self.grid(size)
        spans = self.spans(keys, rows * columns, text)
        return Site((rows, columns), spans.image, (spans.text,))

    def usual(self) -> list[Layer]:
        """Return the layers that place objects best, as far as is known."""
        return self.placing.of(self.layers())

    def chosen(self, downsample: int, layers: Layers, latent: Size) -> list[Layer]:
        """Return a third of the layers, or by default the :meth:`usual` ones.

        All of them for the factor that they have. Raises :class:`InputError` for another factor.
        """
        check_factor(downsample, [self.patch()])
        if layers in THIRDS:
            return THIRDS[layers].of(self.layers())
        return self.layers() if downsample else self.usual()

    def guiding(self, latent: Size) -> list[Layer]:
        """Return the :meth:`usual` layers."""
        return self.usual()

    def blocks(self) -> list[nn.Module]:
        """Return all blocks of the network, in execution order."""
        return [layer.block for layer in self.layers()]

    def recomputable(self, read: Sequence[Layer]) -> list[nn.Module]:
        """Return all blocks before the last one that is read: there the graph ends.

        The maps of those before are made of queries and keys that a graph keeps.
        """
        last = read[-1].block
        return list(takewhile(lambda block: block is not last, self.blocks()))

    def install(
        self,
        options: dict,
        layers: Sequence[Layer],
        report: Callable[[Seen], None],
        last: Callable[[], None] | None,
    ) -> None:
        """Listen to these layers' modules while the model runs."""
        listener = _Listener(self, layers, report, last)
        transformer = options.setdefault("transformer_options", {})
        if self.hears_override:
            transformer[OVERRIDE] = listener.override(transformer.get(OVERRIDE))
        patches = transformer.get("patches", {})
        if POST_INPUT in patches:
            counted = listener.counting(patches[POST_INPUT])
            transformer["patches"] = patches | {POST_INPUT: counted}
        add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, listener.around, options, True)


@dataclass(frozen=True)
class JointAttention(Seen):
    """One layer's queries and keys [rows, heads, tokens, d], of a latent of ``size`` cells.

    ``mask`` is added to its logits [rows or 1, heads or 1, tokens or 1, tokens]. Patches have put
    ``added`` tokens before those of the text.
    """

    reader: Transformer
    size: Size
    mask: Tensor | None
    added: int = 0

    def maps(self, tokens: Sequence[int], text: TextRows, keys: Keys) -> Tensor:
        """Return the attention of some tokens [B, T, h, w], under a softmax over these keys."""
        rows, columns = self.reader.grid(self.size)
        image = rows * columns
        text = TextRows(text.count + self.added, text.added + self.added)
        spans = self.reader.spans(self.k.shape[2], image, text)
        self._check(spans, image, text)
        queries, k, start = slice(spans.image, spans.image + image), self.k, 0
        if keys is Keys.TEXT:  # a copy, so that the others need not be kept for it
            start = spans.text
            k = k[:, :, start : start + text.count].clone()
        mask = self._masked(queries, slice(start, start + k.shape[2]))
        chosen = [spans.text - start + text.added + token for token in tokens]
        with _kept_whole():
            found = joint_probabilities(self.q[:, :, queries], k, chosen, mask)
        return found.unflatten(-1, (rows, columns))

    def of(self, rows: Sequence[int], given: Given) -> Seen:
        """Return these rows; there must be as many as the model was given."""
        if not len(self.q) == len(self.k) == len(given.latent):
            got = f"{len(self.q)} of queries and {len(self.k)} of keys"
            raise UnreadableError(f"{len(given.latent)} rows in a layer", got)
        mask = self.mask
        if mask is not None and len(mask) > 1:
            mask = chosen_rows(mask, rows)
        q, k = chosen_rows(self.q, rows), chosen_rows(self.k, rows)
        return replace(self, q=q, k=k, mask=mask)

    def _masked(self, queries: slice, keys: slice) -> Tensor | None:
        """The mask of some of the queries and keys."""
        if self.mask is None:
            return None
        mask = self.mask[..., keys]
        return mask[:, :, queries] if mask.shape[2] > 1 else mask

    def _check(self, spans: Spans, image: int, text: TextRows) -> None:
        """A family may put its tokens in another order some day, or a patch may add some."""
        queries, keys = self.q.shape[2], self.k.shape[2]
        first = min(spans.image, spans.text)
        if first >= 0 and spans.image + image <= queries and spans.text + text.count <= keys:
            return
        expected = f"{image} tokens of the latent and {text.count} of the text"
        raise UnreadableError(expected, f"{queries} queries and {keys} keys")


class _Listener:
    """Hears the attention of some layers of one network, while the host applies the model."""

    def __init__(
        self,
        reader: Transformer,
        layers: Sequence[Layer],
        report: Callable[[Seen], None],
        last: Callable[[], None] | None,
    ) -> None:
        self.reader, self.layers, self.report, self.last = reader, layers, report, last
        self.next: Layer | None = None  # whose attention comes next
        self.options: Mapping[str, Any] = {}
        self.size: Size = (0, 0)
        self.added = 0

    def __deepcopy__(self, memo: dict) -> _Listener:
        return self  # hosts deep-copy model options; it listens to the same modules

    def around(
        self,
        executor: Callable,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: Mapping[str, Any] = {},
        **kwargs: Any,
    ) -> Tensor:
        """Apply the model to a latent [B, C, H, W] or [B, C, 1, H, W], as a wrapper of the host."""
        check_frames(x)
        self.options, self.size = transformer_options, (x.shape[-2], x.shape[-1])
        with self._listening():
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)

    def override(self, existing: Callable | None) -> Callable:
        """Return an attention override that listens, then does what was there."""

        def attend(function: Callable, *args: Any, **kwargs: Any) -> Tensor:
            self.hear(*args, **kwargs)
            if existing is None:
                return function(*args, **kwargs)
            return existing(function, *args, **kwargs)

        return attend

    def hear(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        heads: int,
        mask: Tensor | None = None,
        *rest: Any,
        skip_reshape: bool = False,
        **kwargs: Any,
    ) -> None:
        """Report an attention call, if it is the one that a layer has announced."""
        layer, self.next = self.next, None
        if layer is None:
            return
        q, k = (_heads_first(t, heads, skip_reshape) for t in (q, k))
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1) if k.shape[1] < q.shape[1] else k
        mask = self._mask(q, k) if mask is None else additive(mask, q.dtype)
        self.report(JointAttention(layer, q, k, self.reader, self.size, mask, self.added))
        if self.last and layer is self.layers[-1]:
            self.last()

    def counting(self, patches: Sequence[Callable]) -> list[Callable]:
        """Return patches of the network's first tokens, and between them counts of the text's."""

        def before(args: dict) -> dict:
            self.added = -_text_tokens(args)
            return args

        def after(args: dict) -> dict:
            self.added += _text_tokens(args)
            return args

        return [before, *patches, after]

    def _mask(self, q: Tensor, k: Tensor) -> Tensor | None:
        """What masks the call after this one has heard it: no override does so before."""
        masks = None if self.reader.hears_override else self.options.get(MASKS)
        return masks and masks(q, q.shape[2], k.shape[2], self.options)

    @contextmanager
    def _listening(self) -> Generator[None]:
        with ExitStack() as stack:
            for layer in self.layers:
                hook = layer.module.register_forward_pre_hook(self._announcing(layer))
                stack.callback(hook.remove)
            if not self.reader.hears_override:
                modules = (layer.module for layer in self.layers)
                stack.enter_context(replaced_attention(modules, self._hearing))
            try:
                yield
            finally:
                self.next, self.options, self.added = None, {}, 0

    def _announcing(self, layer: Layer) -> Callable:
        def announce(module: nn.Module, args: tuple) -> None:
            self.next = layer

        return announce

    def _hearing(self, function: Callable) -> Callable:
        def attend(*args: Any, **kwargs: Any) -> Tensor:
            self.hear(*args, **kwargs)
            return function(*args, **kwargs)

        return attend


def _kept_whole() -> Any:
    """Save tensors for a backward pass as they are, also inside a block that is recomputed.

    Its second run doesn't listen, and so must not have to save what the first one saved here.
    """
    return torch.autograd.graph.saved_tensors_hooks(Tensor.detach, lambda kept: kept)


def _text_tokens(args: dict) -> int:
    return args["txt"].shape[1] if "txt" in args else 0


def _heads_first(t: Tensor, heads: int, already: bool) -> Tensor:
    return t if already else t.unflatten(-1, (heads, -1)).transpose(1, 2)


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask as the host reads it, added to logits [rows, heads, queries, keys].

    Each of these but the last may be 1.
    """
    if mask.ndim == 2:
        mask = mask[None]
    if mask.ndim == 3:
        mask = mask[:, None]
    if mask.dtype is torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(
            ~mask, -torch.inf
        )
    return mask


def check_frames(x: Tensor) -> None:
    """Raise :class:`InputError` for a latent [B, C, T, H, W] of several frames."""
    if x.ndim == 5 and x.shape[2] > 1:
        fix = "Use a latent of length 1, or the mode fixed."
        raise InputError("attention", "a latent of one frame", f"{x.shape[2]} frames", fix)
