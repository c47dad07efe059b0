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
    """Return the attention [B, T, pixels], 0..1, of some tokens: the mean over heads.

    ``q`` [B, pixels, heads*d] and ``k`` [B, text tokens, heads*d] are as projected; ``tokens`` are
    T positions in the text. Rows are softmaxed over all text tokens, in at least fp32.
    """
    q, k = (rearrange(t, "b n (h d) -> b h n d", h=heads) for t in (q, k))
    q, k = (t.to(torch.promote_types(t.dtype, torch.float32)) for t in (q, k))
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    normaliser = logits.logsumexp(dim=-1)
    return (logits[..., list(tokens)] - normaliser[..., None]).exp().mean(dim=1).movedim(-1, 1)


def pool(maps: Sequence[Tensor]) -> Tensor:
    """Return the mean [B, objects, h, w] over layers of maps of one size [B, objects, h, w]."""
    return torch.stack(list(maps)).mean(dim=0)


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
