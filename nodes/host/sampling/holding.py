"""A stock run of the host that holds a model ready while something else happens."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class HoldingSampler:
    """A stand-in for a sampler.

    The stock run that calls it has a model ready, and holds it while ``body`` runs with the
    options that it prepared. ``result`` is what the body returned.
    """

    def __init__(self, body: Any) -> None:
        self.body = body
        self.result: Any = None

    def sample(
        self, guider: Any, sigmas: Tensor, extra_args: dict, callback: Any, noise: Tensor, *_: Any
    ) -> Tensor:
        """Run the body once, in place of a sampler's steps; returns the noise [B, C, H, W]."""
        self.result = self.body(extra_args["model_options"])
        return noise
