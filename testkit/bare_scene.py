"""The shared graph on tiny models of any family, without a file: a run takes a few milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from . import tiny_transformers, tiny_unets
from .graph import Graph, Link, Links
from .host import Host
from .scene import LAYOUT, Scene

TRANSFORMERS = ["sd3", "flux", "chroma", "z-image", "lumina2", "auraflow", "pixart"]
FAMILIES = [*tiny_unets.UNETS, *TRANSFORMERS]
TEXT, SPATIAL, NEGATIVE = 1, 2, 3  # seeds
TOKENS = ((1, 2), (4,))  # of a red cube and a blue ball


class BareScene(Scene):
    """A graph of two branches of one tiny model; their prompts are random text with a layout.

    ``width`` and ``height`` are in pixels; of a transformer the latent has its family's size.
    """

    def __init__(
        self, host: Host, family: str = "sd1", width: int = 64, height: int = 64, batch: int = 1
    ) -> None:
        Graph.__init__(self)
        self.host, self.family = host, family
        self.root = self.add("EmptyLatentImage", width=width, height=height, batch_size=1)[0]
        self.layout = self.add("RealCompoLayout", layout=LAYOUT)[0]
        self.spatial_model: Link | None = None
        self.model = self._made("model", lambda _: _model(family))
        self.latent = self._made(
            f"latent of {width} x {height}, {batch}",
            lambda _: {"samples": _latent(family, width, height, batch)},
        )
        self.text, self.spatial = (self._tied(seed) for seed in (TEXT, SPATIAL))
        self.negative = self._made(
            "negative", lambda _: _kit(family).conditioning(family, NEGATIVE)
        )

    def tied(self, prompt: str, gligen: Link | None = None) -> Links:
        """No prompt can be encoded here."""
        raise NotImplementedError

    def encoded(self, seed: int) -> Link:
        """Another prompt, without a layout."""
        return self._made(
            f"text {seed}", lambda _: _kit(self.family).conditioning(self.family, seed)
        )

    def _tied(self, seed: int) -> Link:
        grounding = self.host.pack("realcompo_core.words.grounding")

        def tie(layout: Any) -> list:
            ((text, options),) = _kit(self.family).conditioning(self.family, seed)
            return [[text, options | {grounding.OPTION: grounding.Grounding(layout, TOKENS)}]]

        return self._made(f"tied text {seed}", tie, self.layout)

    def _made(self, what: str, make: Callable[[Any], Any], value: Link | None = None) -> Link:
        """What a function makes, under a name that tells it apart from other families'."""
        name = f"tiny {self.family}: {what}"
        self.host.functions[name] = make
        return self.apply(value or self.root, name)


def _kit(family: str) -> Any:
    return tiny_unets if family in tiny_unets.UNETS else tiny_transformers


@cache
def _model(family: str) -> Any:
    return _kit(family).patcher(family)


def _latent(family: str, width: int, height: int, batch: int) -> Any:
    if family in tiny_unets.UNETS:
        return tiny_unets.latent(width, height, batch)
    return tiny_transformers.empty_latent(family, batch)
