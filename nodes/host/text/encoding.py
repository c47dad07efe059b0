"""Prompts -> conditionings that carry options of ours."""

from __future__ import annotations

from typing import Any

import node_helpers

Conditioning = list


def encode(clip: Any, prompt: str) -> Conditioning:
    """Return the prompt's conditioning, as CLIP Text Encode makes it."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))


def with_options(conditioning: Conditioning, options: dict[str, Any]) -> Conditioning:
    """Return a conditioning that carries these options too; the given one stays as it is."""
    return node_helpers.conditioning_set_values(conditioning, options)
