"""Torch's global random state, as each branch's own stock run would have it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

State = tuple[Tensor, ...]


def cuda_devices(device: torch.device) -> list[torch.device]:
    """Return the devices beside the CPU whose random state a model on ``device`` draws from."""
    return [device] if device.type == "cuda" else []


def state_of(device: torch.device) -> State:
    """Return the global random state of the CPU, and of a model's device."""
    others = [torch.cuda.get_rng_state(other) for other in cuda_devices(device)]
    return (torch.get_rng_state(), *others)


def restore(device: torch.device, state: State) -> None:
    """Make a state the global one again."""
    torch.set_rng_state(state[0])
    for other, found in zip(cuda_devices(device), state[1:], strict=True):
        torch.cuda.set_rng_state(found, other)


def apart(device: torch.device) -> AbstractContextManager:
    """Leave no trace in the global random state."""
    return torch.random.fork_rng(devices=cuda_devices(device))


class OwnRandomness:
    """The random state of a branch beside the one whose run it is.

    It starts where that run starts. What the sampler draws between evaluations counts for this
    branch too, as long as both branches have drawn alike.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.state = self.after = state_of(device)

    def follow(self) -> None:
        """Note what the sampler has drawn since the last evaluation."""
        if _same(self.state, self.after):
            self.state = state_of(self.device)

    def part(self) -> None:
        """Note where the run's own state stands after an evaluation."""
        self.after = state_of(self.device)

    @contextmanager
    def current(self) -> Generator[None]:
        """Draw from this branch's state, and leave the run's alone."""
        outer = state_of(self.device)
        restore(self.device, self.state)
        try:
            yield
        finally:
            self.state = state_of(self.device)
            restore(self.device, outer)


def _same(one: State, other: State) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
