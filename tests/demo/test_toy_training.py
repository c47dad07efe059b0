"""Training of the toy models: stopping costs nothing, and a seed gives the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from demo.training.optimise import Run

STEPS, SAVED, STOP = 230, 200, 215  # a run saves itself after every 200 steps


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.SiLU(), nn.Linear(16, 6))


def stream(first: int, stop: int = STEPS) -> Iterator[Tensor]:
    for step in range(first, stop):
        yield torch.randn(8, 6, generator=Generator().manual_seed(step))
    raise KeyboardInterrupt


def train(module: nn.Module, folder: Path, stop: int = STEPS) -> Run:
    run = Run("toy", module, folder, STEPS, rate=1e-2)

    def loss(batch: Tensor, generator: Generator) -> Tensor:
        return (
            (module(batch + 0.1 * torch.randn(batch.shape, generator=generator)) - batch)
            .square()
            .mean()
        )

    try:
        run.fit(stream(run.step, stop), loss)
    except KeyboardInterrupt:
        assert run.step == stop < STEPS
    return run


def test_a_stopped_run_ends_as_one_that_never_stopped(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("whole", "stopped")]
    for folder in folders:
        folder.mkdir()
    whole = train(network(), folders[0])
    train(network(), folders[1], STOP)
    resumed = Run("toy", network(), folders[1], STEPS, rate=1e-2)
    assert resumed.step == SAVED
    resumed = train(network(), folders[1])
    assert resumed.step == whole.step == STEPS
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], tensor)
        assert torch.equal(resumed.average[name], whole.average[name])
        assert not torch.equal(network().state_dict()[name], tensor)


def test_a_checkpoint_of_a_run_of_another_length_is_not_resumed(tmp_path: Path) -> None:
    train(network(), tmp_path)
    assert Run("toy", network(), tmp_path, STEPS, rate=1e-2).step == STEPS
    assert Run("toy", network(), tmp_path, STEPS + 1, rate=1e-2).step == 0
