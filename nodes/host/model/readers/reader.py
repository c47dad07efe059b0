"""What a capture and a gradient pass ask of a family of models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
class Seen(ABC):
    """The queries and keys of one layer, for a batch of conditionings.

    ``q`` and ``k`` have the rows of all of them; ``options`` are the host's transformer options,
    which say whose rows are whose.
    """

    q: Tensor
    k: Tensor
    options: Mapping[str, Any]

    def parts(self) -> Iterator[tuple[Any, int, Seen]]:
        """Yield each conditioning's id, its side (0 is the positive one) and its own rows."""
        uuids, sides = self.options["uuids"], self.options["cond_or_uncond"]
        yield from zip(uuids, sides, self._split(len(uuids)), strict=True)

    @abstractmethod
    def maps(self, tokens: Sequence[int], text: TextRows, keys: Keys) -> Tensor:
        """Return the attention of some tokens of the text encoder's [B, T, h, w], 0..1.

        It is a share of the attention to these ``keys``.
        """

    @abstractmethod
    def _split(self, parts: int) -> Iterator[Seen]: ...


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
