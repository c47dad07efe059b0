"""U-Nets: cross-attention, read by attn2 replace patches on chosen blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy.ldm.modules.attention import SpatialTransformer, optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, UNetModel, Upsample
from torch import Tensor, nn

from .....realcompo_core.sampling.attention import (
    Keys,
    Layers,
    joint_probabilities,
    token_probabilities,
)
from ..attention_calls import MASKS
from ..unreadable import UnreadableError
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
from .trail import Trail

TARGET_CELLS = 16 * 16  # the papers read attention at 16x16
PAPERS_FACTOR = 4  # which is latent/4 at 512 pixels
CHUNK = 77  # tokens that CLIP encodes at once
KINDS = {
    Layers.ALL: ("input", "middle", "output"),
    Layers.DOWN: ("input",),
    Layers.MIDDLE: ("middle",),
    Layers.UP: ("output",),
}
LARGE = (ResBlock, SpatialTransformer)  # what checkpointing recomputes


class UNet(Reader):
    """Reads a U-Net's cross-attention blocks.

    A layer's key is (input|middle|output, number, depth).
    """

    # SD1.5 at 512 pixels, online; more of the weights may have to wait elsewhere for it.
    gradient_memory = 7.0

    def layers(self) -> list[Layer]:
        """Return the cross-attention blocks, in execution order."""
        found, factor = [], 1
        for kind, number, layer in _layers_of(self.network):
            factor = _rescaled(factor, layer)
            found += _blocks_of(layer, kind, number, factor)
        return found

    def chosen(self, downsample: int, layers: Layers, latent: Size) -> list[Layer]:
        """Return the blocks at one downsample factor, of some layers.

        0 takes latent/4 where the model attends there, else the factor whose maps come closest to
        16x16 for this ``latent``. Raises :class:`InputError` for a factor at which the model has
        no attention.
        """
        found = [layer for layer in self.layers() if layer.key[0] in KINDS[layers]]
        factors = sorted({layer.factor for layer in found})
        check_factor(downsample, factors)
        factor = downsample or _automatic(factors, latent)
        return [layer for layer in found if layer.factor == factor]

    def guiding(self, latent: Size) -> list[Layer]:
        """Return the middle and the first of the way up, where Layout Guidance reads.

        Some models' middle has no attention.
        """
        found = self.layers()
        up = [layer for layer in found if layer.key[0] == "output"]
        first = max((layer.factor for layer in up), default=0)
        middle = [layer for layer in found if layer.key[0] == "middle"]
        return middle + [layer for layer in up if layer.factor == first]

    def recomputable(self, read: Sequence[Layer]) -> list[nn.Module]:
        """Return all large layers but those that are read: their maps are kept anyway."""
        kept = {id(layer.block) for layer in read}
        large = [module for module in self.network.modules() if isinstance(module, LARGE)]
        return [module for module in large if id(module) not in kept]

    def announcers(self) -> list[nn.Module]:
        """Return what makes keys of the text: the attention comes after it, patched or not."""
        found: list[nn.Module] = []
        for layer in self.layers():
            transformer: Any = layer.module
            found.append(transformer.transformer_blocks[layer.key[2]].attn2.to_k)
        return found

    def site(self, keys: int, text: TextRows, size: Size, options: Mapping[str, Any]) -> Site:
        """Return the layer's own grid, and the text as often as a batch repeats it."""
        height, width = options["activations_shape"][-2:]
        return Site((height, width), 0, tuple(range(0, keys - text.count + 1, text.count)) or (0,))

    def install(
        self,
        options: dict,
        layers: Sequence[Layer],
        report: Callable[[Seen], None],
        last: Callable[[], None] | None,
    ) -> None:
        """Put an :class:`AttentionPatch` on every layer, around what is there."""
        transformer = options.setdefault("transformer_options", {})
        replaced = transformer.setdefault("patches_replace", {}).setdefault("attn2", {})
        trail = Trail.laid(transformer)
        for layer in layers:
            occupant = replaced.get(layer.key, replaced.get(layer.key[:2]))
            ending = last if layer is layers[-1] else None
            see = _reporting(report, layer, trail)
            replaced[layer.key] = AttentionPatch(see, occupant, ending)


@dataclass(frozen=True)
class CrossAttention(Seen):
    """One block's queries [rows, pixels, heads*d] and keys [rows, text tokens, heads*d].

    ``trail`` follows them through patches of other packs, if there are any. Of a prompt's rows of
    text a patch keeps one in ``stride``. ``mask`` is added to the logits
    [rows or 1, 1, pixels, text tokens].
    """

    options: Mapping[str, Any]
    trail: Trail | None = None
    stride: int = 1
    mask: Tensor | None = None

    def of(self, rows: Sequence[int], given: Given) -> Seen:
        """Return these rows, also where patches have moved them or left some tokens out."""
        height, width = self.options["activations_shape"][-2:]
        stock = len(given.latent), height * width, given.text.shape[1]
        if stock != (len(self.q), self.q.shape[1], self.k.shape[1]) or len(self.k) != stock[0]:
            found = self.trail.followed(rows) if self.trail else None
            if found is None or self.q.shape[1] != stock[1]:
                raise self._unlike(stock)
            rows, stride = found
            return self._chosen(rows, stride)
        return self._chosen(rows, 1)

    def maps(self, tokens: Sequence[int], text: TextRows, keys: Keys) -> Tensor:
        """Return the attention of some tokens [B, T, h, w]; the text is all that there is.

        A batch with a longer text repeats this one, which then shares each token's probability.
        """
        count = text.count // self.stride
        if self.stride > 1 and (count % CHUNK or max(tokens) >= count):
            expected = f"text in chunks of {CHUNK} tokens"
            raise UnreadableError(expected, f"one in {self.stride} of {text.count} rows")
        found = self._probabilities(tokens)
        height, width = self.options["activations_shape"][-2:]
        repeats = self.k.shape[1] // count
        return repeats * found.unflatten(-1, (height, width))

    def _probabilities(self, tokens: Sequence[int]) -> Tensor:
        heads = self.options["n_heads"]
        if self.mask is None:
            return token_probabilities(self.q, self.k, heads, tokens)
        q, k = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (self.q, self.k))
        return joint_probabilities(q, k, tokens, self.mask)

    def _chosen(self, rows: Sequence[int], stride: int) -> Seen:
        q, k = chosen_rows(self.q, rows), chosen_rows(self.k, rows)
        mask = self.mask
        if mask is not None and len(mask) > 1:
            mask = chosen_rows(mask, rows)
        return replace(self, q=q, k=k, stride=stride, mask=mask)

    def _unlike(self, stock: tuple[int, int, int]) -> UnreadableError:
        rows, cells, tokens = stock
        expected = f"{rows} rows of {cells} cells and {tokens} text tokens in a layer"
        got = f"{len(self.q)} of {self.q.shape[1]} cells, {len(self.k)} of {self.k.shape[1]} tokens"
        return UnreadableError(expected, got)


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


def _reporting(report: Callable[[Seen], None], layer: Layer, trail: Trail | None) -> Callable:
    def see(q: Tensor, k: Tensor, options: dict) -> None:
        masks = options.get(MASKS)
        mask = masks and masks(q, q.shape[1], k.shape[1], options)
        report(CrossAttention(layer, q, k, options, trail, mask=mask))

    return see


def _automatic(factors: list[int], latent: tuple[int, int]) -> int:
    def distance(factor: int) -> float:
        cells = latent[0] * latent[1] / factor**2
        return abs(torch.tensor(cells / TARGET_CELLS).log().item())

    return PAPERS_FACTOR if PAPERS_FACTOR in factors else min(factors, key=distance)


def _layers_of(unet: UNetModel) -> Iterator[tuple[str, int, nn.Module]]:
    """Every layer in execution order, with the part of the network and its number there."""
    parts = {
        "input": unet.input_blocks,
        "middle": [unet.middle_block],
        "output": unet.output_blocks,
    }
    for kind, modules in parts.items():
        for number, layers in enumerate(modules):
            for layer in layers or ():
                yield kind, number, layer


def _rescaled(factor: int, layer: nn.Module) -> int:
    if isinstance(layer, Downsample):
        return factor * 2
    if isinstance(layer, Upsample):
        return factor // 2
    if isinstance(layer, ResBlock) and layer.updown:
        return factor * 2 if isinstance(layer.h_upd, Downsample) else factor // 2
    return factor


def _blocks_of(layer: Any, kind: str, number: int, factor: int) -> list[Layer]:
    if type(layer) is not SpatialTransformer:
        return []
    blocks = []
    for depth, inner in enumerate(layer.transformer_blocks):
        if inner.attn2 is not None:
            blocks.append(Layer((kind, number, depth), factor, layer, layer))
    return blocks
