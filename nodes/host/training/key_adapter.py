"""What finetuning trains: a difference of ``attn2.to_k`` in some blocks, beside the weights and never in them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....realcompo_core.errors import InputError
from ..model.readers.reader import Layer

FULL, UP, DOWN, ALPHA = "diff", "lora_up.weight", "lora_down.weight", "alpha"


class KeyAdapter:
    """Trainable differences in fp32, zero at first: whole ones for rank 0, else products of two thin matrices.

    ``weights`` maps stock LoRA keys, which core's loaders understand, to parameters. Make it outside of inference mode.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[Layer], rank: int, seed: int, device: torch.device
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        names = {
            id(module): name.replace("_orig_mod.", "") for name, module in model.named_modules()
        }
        self.layers = {names[id(layer)]: layer for layer in map(key_layer, layers)}
        self.active, self.weights = True, dict[str, Tensor]()
        for name, layer in self.layers.items():
            for part, start in _start(layer.weight.shape, rank, generator).items():
                self.weights[f"{name}.{part}"] = start.to(device).requires_grad_(part != ALPHA)

    @property
    def parameters(self) -> list[Tensor]:
        return [weight for weight in self.weights.values() if weight.requires_grad]

    def state(self) -> dict[str, Tensor]:
        """A copy of the weights on the CPU."""
        return {name: weight.detach().to("cpu", copy=True) for name, weight in self.weights.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over saved weights; raises :class:`InputError` if they are of other layers, ranks or sizes."""
        own, other = (
            {name: tuple(t.shape) for name, t in part.items()} for part in (self.weights, state)
        )
        if own != other:
            fix = "Choose the model, layers, downsample and rank that the file was trained with, or start anew."
            raise InputError(
                "resume", f"weights like {_sketch(own, other)}", _sketch(other, own), fix
            )
        for name, weight in self.weights.items():
            weight.copy_(state[name])

    @contextmanager
    def applied(self) -> Generator[None]:
        """Let every ``to_k`` add its difference; a backward pass must end inside, for it may recompute."""
        hooks = [
            layer.register_forward_hook(self._adding(name)) for name, layer in self.layers.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def silenced(self) -> Generator[None]:
        """Inside :meth:`applied`: let every ``to_k`` be as it was."""
        self.active = False
        try:
            yield
        finally:
            self.active = True

    def _adding(self, name: str) -> Callable:
        def add(layer: nn.Module, args: tuple[Tensor], keys: Tensor) -> Tensor:
            return keys + self._difference(name, args[0]).to(keys) if self.active else keys

        return add

    def _difference(self, name: str, context: Tensor) -> Tensor:
        context = context.to(
            torch.float32, copy=True
        )  # a graph can't hold a tensor that was made in inference mode
        if f"{name}.{FULL}" in self.weights:
            return F.linear(context, self.weights[f"{name}.{FULL}"])
        return F.linear(
            F.linear(context, self.weights[f"{name}.{DOWN}"]), self.weights[f"{name}.{UP}"]
        )


def key_layer(layer: Layer) -> nn.Module:
    """Return a layer's ``attn2.to_k``."""
    return layer.module.transformer_blocks[layer.key[2]].attn2.to_k


def _start(shape: torch.Size, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights of one layer's difference, which is zero; alpha equal to the rank makes its scale 1."""
    if not rank:
        return {FULL: torch.zeros(shape)}
    rank = min(rank, *shape)
    down = torch.randn(rank, shape[1], generator=generator) * shape[1] ** -0.5
    return {UP: torch.zeros(shape[0], rank), DOWN: down, ALPHA: torch.tensor(float(rank))}


def _sketch(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """How many tensors there are, and the first that the other side lacks."""
    missing = [
        f"{name} {list(shape)}" for name, shape in sorted(one.items()) if other.get(name) != shape
    ]
    return f"{len(one)} tensors" + (f", among them {missing[0]}" if missing else "")
