"""What a capture and a gradient pass ask of a family of models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .....realcompo_core.errors import InputError
from .....realcompo_core.sampling.attention import Keys, Layers

Size = tuple[int, int]  # height and width


@dataclass(frozen=True)
class Layer:
    """One attention layer that a capture can read.

    ``factor`` is how many cells of the latent one of its cells is wide. ``module`` is where the
    capture listens; ``block`` is the part of the network around it that a backward pass may
    recompute as a whole.
    """

    key: tuple
    factor: int
    module: nn.Module
    block: nn.Module


@dataclass(frozen=True)
class TextRows:
    """A conditioning's text as the network gets it.

    ``count`` rows; the model has put the first ``added`` of them before those of the text encoder.
    """

    count: int
    added: int = 0


@dataclass(frozen=True)
class Site:
    """Where image and text are among a layer's tokens.

    ``grid`` is the image's rows and columns, ``image`` its first query; ``texts`` are the first
    keys of the text, several where a batch repeats it.
    """

    grid: Size
    image: int
    texts: tuple[int, ...]


@dataclass(frozen=True)
class Given:
    """What the model is given at once: latents [rows, C, ..., h, w], text [rows, tokens, width].

    ``uuids`` and ``sides`` are of the conditionings in it, as the host says: whose they are, and in
    which list they stand (0 is that of the positive ones).
    """

    latent: Tensor
    text: Tensor
    uuids: Sequence[Any]
    sides: Sequence[int]

    @property
    def size(self) -> Size:
        """Return the latents' height and width in cells."""
        height, width = self.latent.shape[-2:]
        return height, width


@dataclass(frozen=True)
class Seen(ABC):
    """The queries and keys of one layer, for a batch of conditionings."""

    layer: Layer
    q: Tensor
    k: Tensor

    @abstractmethod
    def of(self, rows: Sequence[int], given: Given) -> Seen:
        """Return what is seen of some rows of what the model was given.

        Raises :class:`~..unreadable.UnreadableError` where the layer's rows or tokens are other
        ones, and can't be followed.
        """

    @abstractmethod
    def maps(self, tokens: Sequence[int], text: TextRows, keys: Keys) -> Tensor:
        """Return the attention of some tokens of the text encoder's [B, T, h, w], 0..1.

        It is a share of the attention to these ``keys``.

        Raises :class:`~..unreadable.UnreadableError` for tokens that the layer does not have.
        """


def chosen_rows(t: Tensor, rows: Sequence[int]) -> Tensor:
    """Return some rows of a tensor [rows, ...], without a copy where they follow each other.

    An index would be saved for a backward pass, where a block that is recomputed must not save
    more than it does the second time.
    """
    if isinstance(rows, range):
        return t[rows.start : rows.stop]
    return torch.cat([t[row : row + 1] for row in rows])


class Reader(ABC):
    """How one family's attention is read.

    ``gradient_memory`` is how often a gradient pass of one sample holds what the host reckons for
    evaluating two. ``checkpoints`` says whether such a pass recomputes activations unasked.
    """

    gradient_memory: float
    checkpoints = False
    hears_override = True  # whether its attention gets the transformer options

    def __init__(self, network: Any) -> None:
        self.network = network

    @abstractmethod
    def layers(self) -> list[Layer]:
        """Return all layers that can be read, in execution order; none for a variant without."""

    @abstractmethod
    def chosen(self, downsample: int, layers: Layers, latent: Size) -> list[Layer]:
        """Return the layers that settings name, for a latent of this size in cells.

        Raises :class:`InputError` for a factor at which the model has no attention.
        """

    @abstractmethod
    def guiding(self, latent: Size) -> list[Layer]:
        """Return the layers by which Layout Guidance moves a latent of this size in cells."""

    @abstractmethod
    def recomputable(self, read: Sequence[Layer]) -> list[nn.Module]:
        """Return the blocks that checkpointing recomputes in a pass that reads these layers."""

    @abstractmethod
    def announcers(self) -> list[nn.Module]:
        """Return the modules after whose call the next attention is from image to text."""

    @abstractmethod
    def site(self, keys: int, text: TextRows, size: Size, options: Mapping[str, Any]) -> Site:
        """Return where image and text are in a layer with so many keys.

        ``size`` is that of the latent in cells, ``options`` are the layer's transformer options.
        """

    @abstractmethod
    def install(
        self,
        options: dict,
        layers: Sequence[Layer],
        report: Callable[[Seen], None],
        last: Callable[[], None] | None,
    ) -> None:
        """Change model options (a copy of one's own) so that these layers report what they see.

        After the last of them has reported, ``last`` is called.
        """


def check_factor(downsample: int, factors: Sequence[int]) -> None:
    """Raise :class:`InputError` unless attention has this factor; 0 stands for any."""
    if factors and (not downsample or downsample in factors):
        return
    fix = "Choose one of them, or 0 for automatic, or other layers."
    expected = f"one of these layers' factors {list(factors)}"
    raise InputError("downsample", expected, str(downsample), fix)
