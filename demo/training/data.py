"""Endless training batches: pictures as latents, captions as tokens, and each word's region."""

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
DROPOUT = 0.1  # share of captions left out
UNKNOWN = 0.06  # share of plain words that the world doesn't know
OPENED = 0.4  # share of captions that begin with unknown words
FILLERS = 5  # the most of them


@dataclass
class Batch:
    """Latents [B, 16, 16, 16], token ids [B, T] and each token's region [B, T, 16, 16].

    The regions of words of no object are 0.
    """

    scenes: list[ToyScene]
    captions: list[Caption]
    latents: Tensor
    tokens: Tensor
    regions: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
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
        """Return words as token ids [T], with start, end and padding."""
        ids = [START, *(self.ids.get(text, 0) for text in texts)]
        return torch.tensor(ids + [END] * (TEXT_LENGTH - len(ids)))

    @property
    def table(self) -> Tensor:
        """Return the tokens [words] that have a row of their own; row 0 is for all others."""
        return torch.tensor([-1, START, END, *sorted(set(self.ids.values()))], dtype=torch.int32)


def boxes_of(scene: ToyScene) -> Tensor:
    """Return objects' boxes as masks [4, 16, 16] of how much of a cell they cover."""
    out = torch.zeros(THINGS, CELLS, CELLS)
    for index, thing in enumerate(scene.things):
        left, top, right, bottom = thing.box
        out[index] = _covered(top, bottom)[:, None] * _covered(left, right)[None, :]
    return out


def _covered(low: float, high: float) -> Tensor:
    """Return how much of each cell of a line lies between two places."""
    edges = torch.arange(CELLS + 1) / CELLS
    return (edges[1:].clamp_max(high) - edges[:-1].clamp_min(low)).clamp_min(0) * CELLS


def batches(
    words: Words, encode: Callable[[Tensor], Tensor], look: str, seed: int, start: int, size: int
) -> Iterator[Batch]:
    """Yield batches without end; number n is the same in every run with one seed.

    ``encode`` makes latents [B, 16, 16, 16] of pictures [B, 3, 64, 64] in -1..1.
    """
    for number in count(start):
        random = Random(f"{seed}-{number}")
        scenes = [random_scene(random) for _ in range(size)]
        captions = [caption(random, scene) for scene in scenes]
        pictures = paint(scenes, look, Generator().manual_seed(random.getrandbits(40)))
        pairs = zip(captions, scenes, strict=True)
        spoken = [_words(words, random, *pair) for pair in pairs]
        tokens = torch.stack([ids for ids, _ in spoken])
        regions = torch.stack([own for _, own in spoken])
        yield Batch(scenes, captions, encode(pictures * 2 - 1), tokens, regions)


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
    """Return the words with unknown ones before and among them, as in sentences of any form."""
    fillers = random.randint(1, FILLERS) if random.random() < OPENED else 0
    spoken = [Word("?")] * fillers
    for word in words:
        known = word.things or random.random() > UNKNOWN
        spoken.append(word if known else Word("?"))
    return spoken
