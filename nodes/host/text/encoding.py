"""Prompts -> conditionings that carry options of ours."""

from __future__ import annotations

from typing import Any

import node_helpers
import torch
from torch import Tensor

Conditioning = list


def encode(clip: Any, prompt: str) -> Conditioning:
    """Return the prompt's conditioning, as CLIP Text Encode makes it."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))


def encode_like(clip: Any, prompt: str, conditioning: Conditioning) -> Tensor:
    """Encode a prompt to as many rows [1, rows, width] as a conditioning has.

    Both end alike: what is behind their words stands in the same rows.
    """
    encoded, own = conditioning[0][0], encode(clip, prompt)[0][0]
    return torch.cat([encoded, own], dim=1)[:, -encoded.shape[1] :]


def with_options(conditioning: Conditioning, options: dict[str, Any]) -> Conditioning:
    """Return a conditioning that carries these options too; the given one stays as it is."""
    return node_helpers.conditioning_set_values(conditioning, options)
