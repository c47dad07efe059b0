"""Masking the attention from image to text, in any family that has a reader."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ....realcompo_core.errors import InputError
from ....realcompo_core.sampling.regional_attention import Hearing, RegionalSettings
from .attention_calls import MASKS, OVERRIDE, replaced_attention
from .readers.reader import Reader, Site, Size, TextRows
from .readers.transformer import additive
from .recomputation import in_every_run


@dataclass(frozen=True)
class Part:
    """What is masked of one conditioning: where its words are heard.

    ``text`` is how the network gets its text; ``background`` [1, rows, width] is the text as
    encoded without objects.
    """

    hearing: Hearing
    text: TextRows
    background: Tensor | None

    def without_objects(self, encoded: Tensor, strength: float) -> Tensor:
        """Return a text [B, rows, width] whose rows of no word know less of objects.

        By how much, 0..1, ``strength`` says. A batch with a longer text repeats this one.
        """
        rows, background = self.hearing.wordless, self.background
        if background is None or background.shape[-1] != encoded.shape[-1]:
            return encoded
        found, own = encoded.clone(), background[:, rows].to(encoded)
        for start in range(0, encoded.shape[1], self.text.count):
            places = [start + self.text.added + row for row in rows]
            found[:, places] = torch.lerp(found[:, places], own, strength)
        return found


class RegionalAttention:
    """The masks of one application of a model to a batch of conditionings.

    ``parts`` are the batch's conditionings, None for one that is left alone. ``rows`` is the size
    of the batch, ``size`` that of the latent in cells.
    """

    def __init__(
        self,
        reader: Reader,
        parts: Sequence[Part | None],
        rows: int,
        size: Size,
        settings: RegionalSettings,
    ) -> None:
        self.reader, self.parts, self.settings = reader, parts, settings
        self.rows, self.size = rows, size
        self.announced = False  # whether the next attention is from image to text
        self.layer: Mapping[str, Any] = {}  # options of the layer that another pack attends for
        self.masks: dict[tuple, Tensor] = {}

    def options(self, options: dict) -> dict:
        """Return transformer options in which attention is masked, whoever computes it."""
        replaced = options.get("patches_replace", {})
        occupants = {key: self._noting(each) for key, each in replaced.get("attn2", {}).items()}
        return options | {
            OVERRIDE: self._override(options.get(OVERRIDE)),
            MASKS: self.mask,
            "patches_replace": replaced | {"attn2": occupants},
        }

    def text(self, encoded: Tensor) -> Tensor:
        """Return the batch's text [rows, text rows, width], that of each part without leaks."""
        found = []
        for part, own in zip(self.parts, encoded.chunk(len(self.parts)), strict=True):
            found.append(own if part is None else part.without_objects(own, self.settings.strength))
        return torch.cat(found)

    @contextmanager
    def acting(self, options: dict) -> Generator[None]:
        """Mask inside, and where a backward pass runs a block again that has run inside.

        ``options`` are the transformer options as they were before.
        """
        occupants = list(options.get("patches_replace", {}).get("attn2", {}).values())

        @contextmanager
        def listening(again: nn.Module | None) -> Generator[None]:
            modules = self.reader.announcers()
            deaf = [] if self.reader.hears_override else modules
            callers = [*deaf, *occupants]
            with ExitStack() as stack:
                for module in modules:
                    stack.callback(module.register_forward_pre_hook(self._announce).remove)
                if callers:
                    stack.enter_context(replaced_attention(callers, self._masking))
                self.announced = any(module is again for module in modules)
                yield

        with in_every_run(listening):
            yield

    def mask(self, q: Tensor, queries: int, keys: int, options: Mapping[str, Any]) -> Tensor:
        """Return what is added to a layer's logits [rows or 1, 1, queries, keys], in q's dtype.

        Raises :class:`InputError` where a patch has changed the batch or its tokens.
        """
        sites = [self._site(part, keys, options) for part in self.parts]
        known = (*sites, queries, keys, q.dtype)
        if known not in self.masks:
            _check(q.shape[0] == self.rows, queries, keys)
            pairs = zip(self.parts, sites, strict=True)
            made = torch.stack([self._part(part, site, queries, keys) for part, site in pairs])
            if len(made) > 1:
                made = made.repeat_interleave(self.rows // len(made), dim=0)
            self.masks[known] = made[:, None].to(q)
        return self.masks[known]

    def _site(self, part: Part | None, keys: int, options: Mapping[str, Any]) -> Site | None:
        if part is None:
            return None
        return self.reader.site(keys, part.text, self.size, options)

    def _part(self, part: Part | None, site: Site | None, queries: int, keys: int) -> Tensor:
        """One conditioning's mask [queries, keys]."""
        mask = torch.zeros(queries, keys)
        if part is None or site is None:
            return mask
        text = part.text
        image = slice(site.image, site.image + site.grid[0] * site.grid[1])
        # HiDream's words have rows behind those of the text, too.
        rows = max(text.count - text.added, 1 + max(part.hearing.tokens))
        found = part.hearing.log_mask(site.grid, rows, self.settings)
        for start in site.texts:
            columns = slice(start + text.added, start + text.added + rows)
            _check(image.stop <= queries and columns.stop <= keys, queries, keys)
            mask[image, columns] = found
        return mask

    def _announce(self, module: nn.Module, args: tuple) -> None:
        self.announced = True

    def _noting(self, occupant: Callable) -> Callable:
        """What attends in a block for another pack, which may forget the options on its way."""

        def attend(q: Tensor, k: Tensor, v: Tensor, options: dict) -> Tensor:
            self.layer = options
            return occupant(q, k, v, options)

        return attend

    def _override(self, existing: Callable | None) -> Callable:
        def attend(function: Callable, *args: Any, **kwargs: Any) -> Tensor:
            def whole(*args: Any, **kwargs: Any) -> Tensor:
                if existing is None:
                    return function(*args, **kwargs)
                return existing(function, *args, **kwargs)

            return self._masking(whole)(*args, **kwargs)

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
        options = kwargs.get("transformer_options") or self.layer
        own = self.mask(q, q.shape[tokens], k.shape[tokens], options)
        return own if mask is None else own + additive(mask, q.dtype)


def _check(fits: bool, queries: int, keys: int) -> None:
    if fits:
        return
    got = f"{queries} queries and {keys} keys that are not the latent's and the text's"
    fix = "Remove patches that change the batch or its tokens (Attention Couple), or this node."
    raise InputError("regional attention", "attention from image to text", got, fix)
