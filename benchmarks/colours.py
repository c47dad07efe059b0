"""Where do colours stand? What placing does on a base that can't draw shapes well yet.

``python -m benchmarks.colours [--prompts 24] [--base transformer]``, through real nodes: of the
pixels of an object's colour, the share in the boxes of that colour, on held-out prompts.
"""

from __future__ import annotations

import argparse
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

from demo.judging.detect import pixels_of
from demo.judging.prompts import Prompt, prompts
from demo.toy.paint import SIZE
from testkit.quiet_host import quiet_host

from .arms import ARMS, BASES, Arm, PromptGraph

NAMES = ("text only", "spatial only", "switch at 0.28", "dynamic balanced")


def inside(prompt: Prompt, picture: torch.Tensor) -> float:
    """Return the mean over a prompt's colours of their share in their boxes."""
    shares = []
    for colour in sorted({thing.colour for thing in prompt.scene.things}):
        pixels = pixels_of(picture, colour)
        shares.append(float((pixels & boxes(prompt, colour)).sum() / max(pixels.sum(), 1)))
    return mean(shares)


def boxes(prompt: Prompt, colour: str) -> np.ndarray:
    """Return the boxes of one colour as a mask [64, 64]."""
    mask = np.zeros((SIZE, SIZE), bool)
    for thing in prompt.scene.things:
        if thing.colour == colour:
            left, top, right, bottom = (round(edge * SIZE) for edge in thing.box)
            mask[top:bottom, left:right] = True
    return mask


def measured(host: Any, prompt: Prompt, arm: Arm, seed: int, base: str) -> float:
    """Return that share in one picture."""
    graph = PromptGraph(prompt, seed, spatial=BASES[base].spatial, base=base)
    picture = host.run(graph, picture=graph.picture(graph.sample(arm)))["picture"][0]
    return inside(prompt, picture.movedim(-1, 0))


def main() -> None:
    """Print each arm's mean and its standard error, as prompts go on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--base", choices=BASES, default="transformer")
    options = parser.parse_args()
    of = prompts("held-out", options.prompts)
    shares: dict[str, list[float]] = {name: [] for name in NAMES}
    arms = [arm for arm in ARMS if arm.name in NAMES]
    with quiet_host() as host:
        for seed, prompt in enumerate(of):
            for arm in arms:
                shares[arm.name].append(measured(host, prompt, arm, seed, options.base))
            print(f"{seed + 1} prompts", {name: said(own) for name, own in shares.items()})


def said(shares: list[float]) -> str:
    """Return a mean and its standard error as text."""
    error = stdev(shares) / len(shares) ** 0.5 if len(shares) > 1 else 0.0
    return f"{mean(shares):.2f} ± {error:.2f}"


if __name__ == "__main__":
    main()
