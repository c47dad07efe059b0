"""What finetuning trains: differences of ``attn2.to_k``, beside the weights and never in them."""

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
    """Trainable differences in fp32, zero at first: whole, or products of two thin matrices.

    They are whole for rank 0. ``weights`` maps stock LoRA keys, which core's loaders understand, to
    parameters [keys, text width], [keys, rank] or [rank, text width]. Make it outside of inference
    mode.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[Layer], rank: int, seed: int, device: torch.device
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        modules = model.named_modules()
        names = {id(module): name.replace("_orig_mod.", "") for name, module in modules}
        self.layers = {names[id(layer)]: layer for layer in map(key_layer, layers)}
        self.active = True
        self.weights: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            for part, start in _start(layer.weight.shape, rank, generator).items():
                self.weights[f"{name}.{part}"] = start.to(device).requires_grad_(part != ALPHA)

    @property
    def parameters(self) -> list[Tensor]:
        """Return the weights that are trained."""
        return [weight for weight in self.weights.values() if weight.requires_grad]

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the weights on the CPU."""
        return {name: weight.detach().to("cpu", copy=True) for name, weight in self.weights.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over saved weights.

        Raises :class:`InputError` if they are of other layers, ranks or sizes.
        """
        own, other = _shapes(self.weights), _shapes(state)
        if own != other:
            expected, got = f"weights like {_sketch(own, other)}", _sketch(other, own)
            fix = "Choose the model, layers, downsample and rank of the file, or start anew."
            raise InputError("resume", expected, got, fix)
        for name, weight in self.weights.items():
            weight.copy_(state[name])

    @contextmanager
    def applied(self) -> Generator[None]:
        """Let every ``to_k`` add its difference inside.

        A backward pass must end inside too, for it may recompute the layers.
        """
        hooks = []
        for name, layer in self.layers.items():
            hooks.append(layer.register_forward_hook(self._adding(name)))
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
            if not self.active:
                return keys
            return keys + self._difference(name, args[0]).to(keys)

        return add

    def _difference(self, name: str, context: Tensor) -> Tensor:
        # A copy, for a graph can't hold a tensor that was made in inference mode.
        context = context.to(torch.float32, copy=True)
        if f"{name}.{FULL}" in self.weights:
            return F.linear(context, self.weights[f"{name}.{FULL}"])
        thin = F.linear(context, self.weights[f"{name}.{DOWN}"])
        return F.linear(thin, self.weights[f"{name}.{UP}"])


def key_layer(layer: Layer) -> nn.Linear:
    """Return a layer's ``attn2.to_k``."""
    module: Any = layer.module
    return module.transformer_blocks[layer.key[2]].attn2.to_k


def _start(shape: torch.Size, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Return one layer's weights, whose difference is zero; an alpha of the rank scales it by 1."""
    if not rank:
        return {FULL: torch.zeros(shape)}
    rank = min(rank, *shape)
    down = torch.randn(rank, shape[1], generator=generator) * shape[1] ** -0.5
    return {UP: torch.zeros(shape[0], rank), DOWN: down, ALPHA: torch.tensor(float(rank))}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _sketch(one: Mapping[str, tuple[int, ...]], other: Mapping[str, tuple[int, ...]]) -> str:
    """Tell how many tensors there are, and the first that the other side lacks."""
    for name, shape in sorted(one.items()):
        if other.get(name) != shape:
            return f"{len(one)} tensors, among them {name} {list(shape)}"
    return f"{len(one)} tensors"
