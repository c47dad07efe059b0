"""One-sided runs against the stock sampler."""

from __future__ import annotations

from typing import Any

import torch

from .graph import Link
from .host import Host
from .scene import Scene


def assert_limits(host: Host, scene: Scene, settings: dict | None = None, **sampling: Any) -> None:
    """Weight 1 is the stock sampler on the text branch, weight 0 on the spatial branch.

    Both branches are evaluated all the same.
    """

    def weighing(text_weight: float) -> Link:
        fixed = {"mode": "fixed", "text_weight": text_weight}
        return scene.realcompo(fixed | (settings or {}), **sampling)[0]

    out = host.run(
        scene,
        stock_text=scene.stock(**sampling)[0],
        stock_spatial=scene.stock(scene.spatial, scene.spatial_model, **sampling)[0],
        text=weighing(1.0),
        spatial=weighing(0.0),
    )
    images = {name: latent["samples"] for name, latent in out.items()}
    assert not torch.equal(images["stock_text"], images["stock_spatial"])
    assert torch.equal(images["stock_text"], images["text"])
    assert torch.equal(images["stock_spatial"], images["spatial"])
