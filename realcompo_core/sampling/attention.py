"""Cross-attention maps: from queries and keys to the probability of chosen tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ..layout.model import resample

CHUNK = 2**24  # logits held at a time where a full map would not fit: 64 MiB in single precision


class Layers(str, Enum):
    """Which attention layers are read.

    Of a U-Net's at one downsample factor: on the way down, in the middle, on the way up. Of a
    transformer's: its early, middle and late third, or by default those known to place objects.
    """

    ALL = "all"
    DOWN = "down"
    MIDDLE = "middle"
    UP = "up"


class Keys(str, Enum):
    """What the attention of a transformer's pixel is shared out among.

    ALL are image and text, as the model computes it. TEXT is the text alone.
    """

    ALL = "all"
    TEXT = "text"


def token_probabilities(q: Tensor, k: Tensor, heads: int, tokens: Sequence[int]) -> Tensor:
    """Return the attention [B, T, pixels], 0..1, of some tokens: the mean over heads.

    ``q`` [B, pixels, heads*d] and ``k`` [B, text tokens, heads*d] are as projected; ``tokens`` are
    T positions in the text. Rows are softmaxed over all text tokens, in at least fp32.
    """
    q, k = (rearrange(t, "b n (h d) -> b h n d", h=heads) for t in (q, k))
    q, k = (t.to(torch.promote_types(t.dtype, torch.float32)) for t in (q, k))
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    normaliser = logits.logsumexp(dim=-1)
    return (logits[..., list(tokens)] - normaliser[..., None]).exp().mean(dim=1).movedim(-1, 1)


def joint_probabilities(
    q: Tensor, k: Tensor, tokens: Sequence[int], mask: Tensor | None = None
) -> Tensor:
    """Attention of some keys among all keys of a joint attention, the mean over heads.

    ``q`` [B, heads, pixels, d] and ``k`` [B, heads, keys, d] as attended, ``tokens`` T positions
    among the keys, ``mask`` an additive one that broadcasts to [B, heads, pixels, keys]. Rows are
    softmaxed over all keys, in at least fp32. Returns [B, T, pixels], values 0..1. Memory, that of
    the gradient too, grows with pixels + keys, not with their product.
    """
    found = _LogProbability.apply(q, k, torch.tensor(list(tokens), device=q.device), mask)
    return found.exp().mean(dim=1).movedim(-1, 1)


class _LogProbability(torch.autograd.Function):
    """Log of the probability of some keys [B, heads, pixels, T], in chunks of queries.

    Where p is the probability of a key and g the gradient of the log of token t's, the gradient of
    the key's logit is w = (g if the key is t) - p sum(g), summed over tokens. So dq = w k / sqrt(d)
    and dk = w q / sqrt(d). p is made anew in the backward pass, again in chunks.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        found, normalisers = [], []
        for _, logits in _chunks(q, k, mask):
            normalisers.append(logits.logsumexp(dim=-1, keepdim=True))
            found.append(logits[..., tokens] - normalisers[-1])
        ctx.save_for_backward(q, k, tokens, torch.cat(normalisers, dim=2))
        ctx.mask = mask
        return torch.cat(found, dim=2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (gradient,) = gradients
        q, k, tokens, normaliser = ctx.saved_tensors
        wide_q, wide_k = _wide(q), _wide(k)
        dq, dk = torch.empty_like(wide_q), torch.zeros_like(wide_k)
        for rows, logits in _chunks(q, k, ctx.mask):
            g = gradient[:, :, rows]
            probability = (logits - normaliser[:, :, rows]).exp_()
            weights = probability.mul_(-g.sum(dim=-1, keepdim=True))
            weights.index_add_(-1, tokens, g).mul_(q.shape[-1] ** -0.5)
            dq[:, :, rows] = weights @ wide_k
            dk += weights.transpose(-1, -2) @ wide_q[:, :, rows]
        return dq.to(q), dk.to(k), None, None


def _chunks(q: Tensor, k: Tensor, mask: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Logits [B, heads, some pixels, keys] of all queries, few enough at a time."""
    pixels, keys = q.shape[2], _wide(k).transpose(-1, -2)
    size = max(1, CHUNK // (q.shape[0] * q.shape[1] * k.shape[2]))
    for start in range(0, pixels, size):
        rows = slice(start, min(start + size, pixels))
        logits = _wide(q[:, :, rows]) @ keys * q.shape[-1] ** -0.5
        if mask is not None:
            one_row = mask.shape[-2] == 1  # for every query
            logits = logits + (mask if one_row else mask[..., rows, :]).to(logits)
        yield rows, logits


def _wide(t: Tensor) -> Tensor:
    """The tensor in at least single precision."""
    return t.to(torch.promote_types(t.dtype, torch.float32))


def pool(maps: Sequence[Tensor]) -> Tensor:
    """Return the mean [B, objects, h, w] over layers of maps [B, objects, h, w].

    Where a patch shrinks some layers, their maps are taken to the size of the finest.
    """
    height, width = max((layer.shape[-2:] for layer in maps), key=math.prod)
    sized = []
    for layer in maps:
        same = layer.shape[-2:] == (height, width)
        sized.append(layer if same else resample(layer, height, width))
    return torch.stack(sized).mean(dim=0)


def over_tokens(attention: Tensor, tokens: Sequence[Sequence[int]]) -> Tensor:
    """Return each object's mean over its tokens [B, objects, h, w].

    ``attention`` [B, T, h, w] is of all objects' ``tokens``, in their order.
    """
    parts = attention.split([len(group) for group in tokens], dim=1)
    return torch.stack([part.mean(dim=1) for part in parts], dim=1)


def share_inside(attention: Tensor, regions: Tensor) -> Tensor:
    """Return the share [B, objects], 0..1, of each object's attention that lies in its region.

    ``attention`` is [B, objects, h, w], ``regions`` [objects, H, W] of any size, values 0..1. An
    object without any attention has NaN.
    """
    regions = resample(regions.to(attention), *attention.shape[-2:])
    return (attention * regions).sum(dim=(-2, -1)) / attention.sum(dim=(-2, -1))


def settled(attention: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """Return where nothing is left to place [B, 1, H, W]: 1 outside all regions, else 0..1.

    ``attention`` is [B, objects, h, w], ``parts`` each object's regions [parts, H, W], 0..1. Inside
    a region it is how far that is settled (:func:`share_due`), where regions overlap the one that
    is farthest from it. An object without attention is not settled.
    """
    pairs = zip(attention.split(1, dim=1), parts, strict=True)
    left = [(1 - share_due(one, own))[:, :, None, None] * own.to(attention) for one, own in pairs]
    return 1 - torch.cat(left, dim=1).amax(dim=1, keepdim=True)


def share_due(attention: Tensor, parts: Tensor) -> Tensor:
    """Return how much of the attention that is due to each part of an object lies in it.

    ``attention`` is [B, 1, h, w], ``parts`` [parts, H, W], 0..1; due is a share by area of the
    attention everywhere. The result is [B, parts], 0..1: for a single part its
    :func:`share_inside`, and 0 without attention or area.
    """
    inside = share_inside(attention.expand(-1, len(parts), -1, -1), parts)
    due = parts.sum(dim=(-2, -1)) / parts.sum()
    return (inside / due.to(inside)).nan_to_num(0.0).clamp(max=1)
