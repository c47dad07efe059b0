"""Endless training batches: pictures as latents, captions as tokens, and where each word's object is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random

import torch
from comfy.sd1_clip import SD1Tokenizer
from torch import Generator, Tensor

from ..toy.captions import Caption, Word, caption, vocabulary
from ..toy.networks import TEXT_LENGTH
from ..toy.paint import paint
from ..toy.picture import ToyScene, random_scene

START, END = 49406, 49407
THINGS, CELLS = 4, 16
DROPOUT, UNKNOWN, OPENED = (
    0.1,
    0.06,
    0.4,
)  # shares of captions left out, of plain words and of openings unknown
FILLERS = 5


@dataclass
class Batch:
    """Latents [B, 16, 16, 16], token ids [B, T], and each token's region [B, T, 16, 16] (0 for words of no object)."""

    scenes: list[ToyScene]
    captions: list[Caption]
    latents: Tensor
    tokens: Tensor
    regions: Tensor

    def to(self, device: torch.device) -> Batch:
        moved = (tensor.to(device) for tensor in (self.latents, self.tokens, self.regions))
        return Batch(self.scenes, self.captions, *moved)


class Words:
    """Caption words -> CLIP token ids."""

    def __init__(self) -> None:
        tokenizer = SD1Tokenizer()
        self.ids = {word: self._one(tokenizer, word) for word in vocabulary()}

    @staticmethod
    def _one(tokenizer: SD1Tokenizer, word: str) -> int:
        ids = [pair[0] for pair in tokenizer.tokenize_with_weights(word)["l"][0]]
        if ids[2] != END:
            raise ValueError(f"{word!r} is more than one token")
        return ids[1]

    def encode(self, texts: list[str]) -> Tensor:
        ids = [START, *(self.ids.get(text, 0) for text in texts)]
        return torch.tensor(ids + [END] * (TEXT_LENGTH - len(ids)))

    @property
    def table(self) -> Tensor:
        """The tokens that have a row of their own; row 0 is for all others."""
        return torch.tensor([-1, START, END, *sorted(set(self.ids.values()))], dtype=torch.int32)


def boxes_of(scene: ToyScene) -> Tensor:
    """Objects' boxes as masks [4, 16, 16] of how much of a cell they cover."""
    edges = torch.arange(CELLS + 1) / CELLS
    out = torch.zeros(THINGS, CELLS, CELLS)
    for index, thing in enumerate(scene.things):
        left, top, right, bottom = thing.box
        across, down = (
            (edges[1:].clamp_max(high) - edges[:-1].clamp_min(low)).clamp_min(0) * CELLS
            for low, high in ((left, right), (top, bottom))
        )
        out[index] = down[:, None] * across[None, :]
    return out


def batches(
    words: Words, encode: Callable[[Tensor], Tensor], look: str, seed: int, start: int, size: int
) -> Iterator[Batch]:
    """Endless batches; number n is the same in every run with one seed."""
    for number in count(start):
        random = Random(f"{seed}-{number}")
        scenes = [random_scene(random) for _ in range(size)]
        captions = [caption(random, scene) for scene in scenes]
        pictures = paint(scenes, look, Generator().manual_seed(random.getrandbits(40)))
        tokens, regions = zip(
            *(_words(words, random, *pair) for pair in zip(captions, scenes, strict=True)),
            strict=True,
        )
        yield Batch(
            scenes, captions, encode(pictures * 2 - 1), torch.stack(tokens), torch.stack(regions)
        )


def _words(words: Words, random: Random, text: Caption, scene: ToyScene) -> tuple[Tensor, Tensor]:
    regions = torch.zeros(TEXT_LENGTH, CELLS, CELLS)
    if random.random() < DROPOUT:
        return words.encode([]), regions
    boxes, spoken = boxes_of(scene), _with_unknown(random, text.words)
    for position, word in enumerate(spoken, 1):
        if word.things:
            regions[position] = boxes[list(word.things)].amax(0)
    return words.encode([word.text for word in spoken]), regions


def _with_unknown(random: Random, words: Sequence[Word]) -> list[Word]:
    """The words with some that the world doesn't know before and among them, as in sentences of any form."""
    opening = [Word("?")] * (random.randint(1, FILLERS) if random.random() < OPENED else 0)
    return opening + [
        word if word.things or random.random() > UNKNOWN else Word("?") for word in words
    ]
