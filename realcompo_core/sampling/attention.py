"""Cross-attention maps: from queries and keys to the probability of chosen tokens."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import torch
from einops import rearrange
from torch import Tensor

from ..layout.model import resample


class Layers(str, Enum):
    """Which cross-attention layers are read, of those at one downsample factor."""

    ALL = "all"
    DOWN = "down"
    MIDDLE = "middle"
    UP = "up"


def token_probabilities(q: Tensor, k: Tensor, heads: int, tokens: Sequence[int]) -> Tensor:
    """Attention of some tokens, the mean over heads.

    ``q`` [B, pixels, heads*d] and ``k`` [B, text tokens, heads*d] as projected; ``tokens`` are T positions in the
    text. Rows are softmaxed over all text tokens, in at least fp32. Returns [B, T, pixels], values 0..1.
    """
    q, k = (rearrange(t, "b n (h d) -> b h n d", h=heads) for t in (q, k))
    q, k = (t.to(torch.promote_types(t.dtype, torch.float32)) for t in (q, k))
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    normaliser = logits.logsumexp(dim=-1)
    return (logits[..., list(tokens)] - normaliser[..., None]).exp().mean(dim=1).movedim(-1, 1)


def pool(maps: Sequence[Tensor]) -> Tensor:
    """Mean over layers of equal-sized maps [B, objects, H, W]."""
    return torch.stack(list(maps)).mean(dim=0)


def over_tokens(attention: Tensor, tokens: Sequence[Sequence[int]]) -> Tensor:
    """Each object's mean over its tokens: [B, T, h, w] of all objects' tokens, in their order -> [B, objects, h, w]."""
    parts = attention.split([len(group) for group in tokens], dim=1)
    return torch.stack([part.mean(dim=1) for part in parts], dim=1)


def share_inside(attention: Tensor, regions: Tensor) -> Tensor:
    """Share of each object's attention that lies in its region.

    ``attention`` [B, objects, h, w]; ``regions`` [objects, H, W] of any size, values 0..1. Returns
    [B, objects], 0..1, NaN where an object has no attention at all.
    """
    regions = resample(regions.to(attention), *attention.shape[-2:])
    return (attention * regions).sum(dim=(-2, -1)) / attention.sum(dim=(-2, -1))


def settled(attention: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """Where nothing is left to place: 1 outside all regions, inside one how far it is settled (:func:`share_due`).

    ``attention`` [B, objects, h, w], ``parts`` each object's regions [parts, H, W], 0..1; returns [B, 1, H, W], where
    regions overlap that of the one that is farthest from settled. An object without attention is not settled.
    """
    pairs = zip(attention.split(1, dim=1), parts, strict=True)
    left = [(1 - share_due(one, own))[:, :, None, None] * own.to(attention) for one, own in pairs]
    return 1 - torch.cat(left, dim=1).amax(dim=1, keepdim=True)


def share_due(attention: Tensor, parts: Tensor) -> Tensor:
    """How much of the attention that is due to each part of one object lies in it.

    ``attention`` [B, 1, h, w], ``parts`` [parts, H, W], 0..1; due is a share by area of the attention everywhere.
    Returns [B, parts], 0..1; for a single part its :func:`share_inside`, and 0 without attention or area.
    """
    inside = share_inside(attention.expand(-1, len(parts), -1, -1), parts)
    due = parts.sum(dim=(-2, -1)) / parts.sum()
    return (inside / due.to(inside)).nan_to_num(0.0).clamp(max=1)
