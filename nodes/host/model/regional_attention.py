"""Masking the attention from image to text, in any family that has a reader."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ....realcompo_core.errors import InputError
from ....realcompo_core.sampling.regional_attention import Hearing
from .attention_calls import MASKS, OVERRIDE, replaced_attention
from .readers.reader import Reader, Site, Size, TextRows
from .readers.transformer import additive
from .recomputation import in_every_run


class RegionalAttention:
    """The masks of one application of a model to a batch of conditionings.

    ``parts`` say of each conditioning of the batch where its words are heard and how the network
    gets its text, None for one that is left alone. ``rows`` is the size of the batch, ``size`` that
    of the latent in cells.
    """

    def __init__(
        self,
        reader: Reader,
        parts: Sequence[tuple[Hearing, TextRows] | None],
        rows: int,
        size: Size,
        strength: float,
    ) -> None:
        self.reader, self.parts, self.strength = reader, parts, strength
        self.rows, self.size = rows, size
        self.announced = False  # whether the next attention is from image to text
        self.masks: dict[tuple, Tensor] = {}

    def __deepcopy__(self, memo: dict) -> RegionalAttention:
        return self  # other packs may copy the options; announcements must still arrive here

    def options(self, options: dict) -> dict:
        """Return transformer options in which attention is masked."""
        return options | {OVERRIDE: self._override(options.get(OVERRIDE)), MASKS: self.mask}

    @contextmanager
    def acting(self) -> Generator[None]:
        """Mask inside, and where a backward pass runs a block again that has run inside."""
        with in_every_run(self._listening):
            yield

    def mask(self, q: Tensor, queries: int, keys: int, options: Mapping[str, Any]) -> Tensor:
        """Return what is added to a layer's logits [rows or 1, 1, queries, keys], in q's dtype.

        Raises :class:`InputError` where a patch has changed the batch or the tokens.
        """
        rows = q.shape[0]
        sites = [
            part and self.reader.site(keys, part[1], self.size, options) for part in self.parts
        ]
        known = (*sites, rows, queries, keys, q.dtype)
        if known not in self.masks:
            _check(rows == self.rows, queries, keys)
            pairs = zip(self.parts, sites, strict=True)
            made = [self._part(part, site, queries, keys) for part, site in pairs]
            each = rows // len(made) if len(made) > 1 else 1
            mask = torch.stack(made).repeat_interleave(each, dim=0)[:, None]
            self.masks[known] = mask.to(q)
        return self.masks[known]

    def _part(
        self, part: tuple[Hearing, TextRows] | None, site: Site | None, queries: int, keys: int
    ) -> Tensor:
        """One conditioning's mask [queries, keys]."""
        mask = torch.zeros(queries, keys)
        if part is None or site is None:
            return mask
        hearing, text = part
        height, width = site.grid
        image = slice(site.image, site.image + height * width)
        found = hearing.log_mask(height, width, self.strength)
        for start in site.texts:
            columns = [start + text.added + token for token in hearing.tokens]
            _check(image.stop <= queries and max(columns) < keys, queries, keys)
            mask[image, columns] = found
        return mask

    @contextmanager
    def _listening(self, again: nn.Module | None) -> Generator[None]:
        """Listen to the network; ``again`` is the block that is about to run a second time."""
        modules = self.reader.announcers()
        with ExitStack() as stack:
            for module in modules:
                stack.callback(module.register_forward_pre_hook(self._announce).remove)
            if not self.reader.hears_override:
                stack.enter_context(replaced_attention(modules, self._masking))
            self.announced = any(module is again for module in modules)
            yield

    def _announce(self, module: nn.Module, args: tuple) -> None:
        self.announced = True

    def _override(self, existing: Callable | None) -> Callable:
        def attend(function: Callable, *args: Any, **kwargs: Any) -> Tensor:
            if existing is None:
                return self._masking(function)(*args, **kwargs)

            def before(*args: Any, **kwargs: Any) -> Tensor:
                return existing(function, *args, **kwargs)

            return self._masking(before)(*args, **kwargs)

        return attend

    def _masking(self, function: Callable) -> Callable:
        """An attention function that masks the call that was announced."""

        def attend(
            q: Tensor,
            k: Tensor,
            v: Tensor,
            heads: int,
            mask: Tensor | None = None,
            *rest: Any,
            **kwargs: Any,
        ) -> Tensor:
            announced, self.announced = self.announced, False
            if announced:
                mask = self._added(mask, q, k, kwargs)
            return function(q, k, v, heads, mask, *rest, **kwargs)

        return attend

    def _added(self, mask: Tensor | None, q: Tensor, k: Tensor, kwargs: dict) -> Tensor:
        tokens = 2 if kwargs.get("skip_reshape") else 1
        options = kwargs.get("transformer_options") or {}
        own = self.mask(q, q.shape[tokens], k.shape[tokens], options)
        return own if mask is None else own + additive(mask, q.dtype)


def _check(fits: bool, queries: int, keys: int) -> None:
    if fits:
        return
    got = f"{queries} queries and {keys} keys that are not the latent's and the text's"
    fix = "Remove patches that change the batch or its tokens (Attention Couple), or this node."
    raise InputError("regional attention", "attention from image to text", got, fix)
