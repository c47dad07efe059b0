"""A resumable training run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn

if TYPE_CHECKING:
    from .data import Batch

SEED = 20261121
EMA = 0.998


class Optimizers:
    """Muon on every matrix (convolutions as matrices), AdamW on the rest."""

    def __init__(self, module: nn.Module, rate: float) -> None:
        self.rate = rate
        self.all = [p for p in module.parameters() if p.requires_grad]
        self.matrices = _matrices(self.all, module)
        self.views = [nn.Parameter(p.data.flatten(1)) for p in self.matrices]
        self.inner: list[torch.optim.Optimizer] = [
            torch.optim.Muon(self.views, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
        ]
        own = set(map(id, self.matrices))
        rest = [p for p in self.all if id(p) not in own]
        if rest:
            self.inner.append(torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.99), weight_decay=0.0))

    def step(self, scale: float) -> None:
        """Take a step at ``scale`` times the learning rate, and forget the gradients."""
        nn.utils.clip_grad_norm_(self.all, 1.0)
        for view, matrix in zip(self.views, self.matrices, strict=True):
            view.grad = matrix.grad.flatten(1) if matrix.grad is not None else None
        for optimizer in self.inner:
            for group in optimizer.param_groups:
                group["lr"] = self.rate * scale
            optimizer.step()
        for parameter in self.all:
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Return the optimizers' tensors, of any shapes [...], by numbers and name."""
        tensors = {}
        for i, optimizer in enumerate(self.inner):
            for j, entry in optimizer.state_dict()["state"].items():
                for key, value in entry.items():
                    tensors[f"optimizer.{i}.{j}.{key}"] = value
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over the tensors [...] of :meth:`state`."""
        for i, optimizer in enumerate(self.inner):
            state = optimizer.state_dict()
            for name, value in tensors.items():
                if name.startswith(f"optimizer.{i}."):
                    _, _, j, key = name.split(".")
                    state["state"].setdefault(int(j), {})[key] = value
            optimizer.load_state_dict(state)


def _matrices(parameters: list[nn.Parameter], module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that are matrices or convolutions, but no embeddings."""
    embeddings = [one for one in module.modules() if isinstance(one, nn.Embedding)]
    embedded = {id(p) for embedding in embeddings for p in embedding.parameters()}
    return [p for p in parameters if p.ndim > 1 and id(p) not in embedded]


class Run:
    """A resumable training run of one module, with a moving average of its weights.

    A checkpoint of a run of another length is left aside: its learning rates were others.
    """

    def __init__(self, name: str, module: nn.Module, folder: Path, steps: int, rate: float) -> None:
        self.name, self.module, self.steps = name, module, steps
        self.path = folder / f"{name}.safetensors"
        self.optimizers = Optimizers(module, rate)
        self.average = {key: value.detach().clone() for key, value in self._trained()}
        self.step, self.seconds = 0, 0.0
        self.recent: dict[str, list[float]] = {}
        if self.path.exists():
            saved = load_file(self.path)
            if int(saved["steps"]) == steps:
                self._resume(saved)

    def _trained(self) -> list[tuple[str, Tensor]]:
        return [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]

    def _resume(self, tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._trained():
                parameter.copy_(tensors[f"weight.{name}"])
                self.average[name].copy_(tensors[f"average.{name}"])
        self.optimizers.load(tensors)
        self.step, self.seconds = int(tensors["step"]), float(tensors["seconds"])

    def save(self) -> None:
        """Write a checkpoint, over the last one."""
        tensors = {f"weight.{name}": p.detach() for name, p in self._trained()}
        tensors |= {f"average.{name}": p for name, p in self.average.items()}
        tensors |= self.optimizers.state()
        numbers = {"step": self.step, "steps": self.steps, "seconds": self.seconds}
        tensors |= {name: torch.tensor(number) for name, number in numbers.items()}
        part = self.path.with_suffix(".part")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
        part.rename(self.path)

    def rate(self) -> float:
        """Return the rate's scale: warm-up, plateau, a straight line to 0 over the last 30%."""
        return min(1.0, (self.step + 1) / 100, (1 - self.step / self.steps) / 0.3)

    def note(self, **values: Tensor) -> None:
        """Remember figures [] to print."""
        for name, value in values.items():
            self.recent.setdefault(name, []).append(value.item())

    def fit(self, stream: Iterator[Batch], loss: Callable[[Batch, Generator], Tensor]) -> None:
        """Train to the last step, saving now and then; ``loss`` is [].

        Each step draws from a generator of its own.
        """
        device = next(self.module.parameters()).device
        began = time.monotonic() - self.seconds
        while self.step < self.steps:
            loss(next(stream).to(device), Generator().manual_seed(SEED + self.step)).backward()
            self.optimizers.step(self.rate())
            self.step += 1
            self._average()
            self.seconds = time.monotonic() - began
            last = self.step == self.steps
            if last or self.step % 50 == 0:
                self._report()
            if last or self.step % 200 == 0:
                self.save()

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(EMA, self.step / (self.step + 10))
        for name, parameter in self._trained():
            self.average[name].lerp_(parameter, 1 - decay)

    def _report(self) -> None:
        means = {name: sum(values) / len(values) for name, values in self.recent.items()}
        losses = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        minutes = self.seconds / 60
        left = minutes / self.step * (self.steps - self.step)
        progress = f"{self.name} {self.step}/{self.steps}"
        print(f"{progress}  {losses}  {minutes:.1f} min, {left:.1f} left", flush=True)
        self.recent.clear()
