"""Sampling through the real executor: the limits are stock, bit for bit."""

from __future__ import annotations

import pytest
import torch
from comfy_host import Host
from scenes import Scene


def equal(out: dict, one: str, other: str) -> bool:
    return torch.equal(out[one]["samples"], out[other]["samples"])


def sampler_names() -> list[str]:
    """All of the host's samplers, read from its source so that they can name tests before it boots."""
    import os
    import re
    from pathlib import Path

    source = (Path(os.environ["COMFYUI_PATH"]) / "comfy" / "samplers.py").read_text()
    names = re.search(r"KSAMPLER_NAMES = \[(.*?)\]", source, re.DOTALL)[1]
    return [*re.findall(r'"(\w+)"', names), "ddim", "uni_pc", "uni_pc_bh2"]


@pytest.mark.parametrize("name", sampler_names())
def test_one_sided_weights_are_the_stock_sampler(host: Host, name: str) -> None:
    scene = Scene(width=64, height=64)
    sampling = {"sampler_name": name, "steps": 3}
    out = host.run(
        scene,
        stock_text=scene.stock(**sampling)[0],
        stock_spatial=scene.stock(scene.spatial, **sampling)[0],
        text_weight_1=scene.realcompo({"mode": "fixed", "text_weight": 1.0}, **sampling)[0],
        text_weight_0=scene.realcompo({"mode": "fixed", "text_weight": 0.0}, **sampling)[0],
        text_only=scene.realcompo({"mode": "text only"}, **sampling)[0],
        spatial_only=scene.realcompo({"mode": "spatial only"}, **sampling)[0],
    )
    assert not equal(out, "stock_text", "stock_spatial")
    assert equal(out, "stock_text", "text_only") and equal(out, "stock_text", "text_weight_1")
    assert equal(out, "stock_spatial", "spatial_only") and equal(out, "stock_spatial", "text_weight_0")
