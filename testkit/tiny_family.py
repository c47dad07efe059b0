"""What a transformer of a family is made of, here mostly a tiny one."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .comfyui import folder

WIDTH = 32  # of the text's rows
POOLED = 64


@dataclass(frozen=True)
class Family:
    """A family of models: its class among the host's configurations, and the network's settings.

    ``newer`` are those that newer hosts ask for besides. A latent has ``channels`` and is ``size``
    cells high and wide; one with ``frames`` has a time. ``extra`` are conditionings' options, of so
    many rows of text, beside the pooled output. A network of ``small`` parts has them put in place
    of those that no setting makes small.
    """

    config: str
    network: dict[str, Any]
    newer: dict[str, Any] = field(default_factory=dict)
    channels: int = 16
    size: tuple[int, int] = (8, 12)
    frames: bool = False
    extra: Any = field(default=lambda rows, generator: {})
    small: Any = field(default=lambda network: None)

    def settings(self) -> dict[str, Any]:
        """Return the network's settings on this host."""
        return self.network | self.newer if is_newer_host() else dict(self.network)


def is_newer_host() -> bool:
    """Say whether ComfyUI is newer than 0.3.75, as far as families of models go."""
    return "COMFYUI_PATH" in os.environ and (folder() / "comfy" / "ldm" / "ernie").is_dir()


def masked(rows: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Return a mask of the text that hides none of it."""
    return {"attention_mask": torch.ones(1, rows, dtype=torch.long)}


def part_masked(rows: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Return a mask of the text whose last two rows are padding."""
    return {"attention_mask": (torch.arange(rows) < rows - 2).long()[None]}
