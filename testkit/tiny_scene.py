"""Graphs of the real nodes on tiny transformers: two branches, of one family or of two."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import tiny_transformers as tiny
from .graph import Graph, Link, Links
from .host import Host

SAMPLING: dict[str, Any] = {
    "seed": 7,
    "steps": 3,
    "cfg": 3.0,
    "sampler_name": "euler",
    "scheduler": "simple",
    "denoise": 1.0,
}
TOKENS = ((1, 2), (4,))
ROWS = {"text": 9, "spatial": 8, "negative": 7}  # lengths differ, so the host never batches them
# A balance that stays at half and half, as mode fixed has it by default.
RESTING = {"step_scale": 0.0, "prior": 0.0, "lean": 0.0, "release": 0.0, "warmup": 0.0}


class TinyScene(Graph):
    """Models, conditionings with a layout and a latent of a text and of a spatial family, by name.

    Both families need latents of one shape. A family beside itself has other weights there.
    """

    def __init__(self, host: Host, text: str, spatial: str | None = None, batch: int = 1) -> None:
        super().__init__()
        self.host, self.family = host, text
        other = spatial or text
        self.model = self.given(f"{text} 0", partial(tiny.patcher, text, 0))
        self.spatial_model = self.given(f"{other} 1", partial(tiny.patcher, other, 1))
        self.text = self.conditioning(text, "text")
        self.spatial = self.conditioning(other, "spatial")
        self.negative = self.conditioning(text, "negative")
        self.spatial_negative = self.conditioning(other, "negative")
        self.latent = self.holding(tiny.empty_latent(text, batch))

    def given(self, name: str, make: Callable[[], Any]) -> Link:
        """A node that puts out what ``make`` returns; the host makes it once."""
        self.host.functions[f"tiny {name}"] = lambda _: make()
        return self.add("TestApply", value=0, function=f"tiny {name}")[0]

    def changed(self, value: Link, name: str, change: Callable[[Any], Any]) -> Link:
        """What ``change`` makes of a value."""
        self.host.functions[f"tiny {name}"] = change
        return self.add("TestApply", value=value, function=f"tiny {name}")[0]

    def conditioning(self, family: str, role: str) -> Link:
        """A conditioning of a family; those that are not negative have the layout."""
        return self.given(f"{family} {role}", partial(self._conditioning, family, role))

    def holding(self, samples: Tensor, **more: Any) -> Link:
        """A latent of these samples."""
        return self.given(
            f"latent {len(self.host.functions)}", lambda: {"samples": samples, **more}
        )

    def stock(self, side: str = "text", **sampling: Any) -> Links:
        """The stock KSampler on one branch."""
        return self.add("KSampler", **SAMPLING | self._branch(side) | sampling)

    def realcompo(self, settings: dict | None = None, **inputs: Any) -> Links:
        """RealCompoKSampler on both, with a balancer of these settings."""
        balancer = self.balancer(**settings or {})
        inputs = SAMPLING | {"latent_image": self.latent} | self._branches() | inputs
        return self.add("RealCompoKSampler", balancer=balancer, **inputs)

    def guided_by(self, sigmas: Tensor, guider: Links, sampler: str = "euler") -> Links:
        """SamplerCustomAdvanced at these noise levels."""
        return self.add(
            "SamplerCustomAdvanced",
            noise=self.add("RandomNoise", noise_seed=7)[0],
            guider=guider[0],
            sampler=self.add("KSamplerSelect", sampler_name=sampler)[0],
            sigmas=self.given(f"sigmas {sigmas.tolist()}", lambda: sigmas),
            latent_image=self.latent,
        )

    def guider(self, settings: dict | None = None, cfg: float = 3.0) -> Links:
        """RealCompo Guider on both branches."""
        balancer = self.balancer(**settings or {})
        return self.add("RealCompoGuider", balancer=balancer, cfg=cfg, **self._branches())

    def stock_guider(self, side: str, cfg: float = 3.0) -> Links:
        """The stock guider of one branch."""
        branch = self._branch(side)
        del branch["latent_image"]
        return self.add("CFGGuider", cfg=cfg, **branch)

    def layout_guidance(self, model: Link, **settings: Any) -> Link:
        """A model that guides itself at all its steps."""
        every = {"scale": 30.0, "threshold": 0.0, "iterations": 1, "start": 0.0, "end": 1.0}
        return self.add("RealCompoLayoutGuidance", model=model, **every | settings)[0]

    def samples(self, **wanted: Links) -> dict[str, Tensor]:
        """The latents that samplers put out."""
        out = self.host.run(self, **{name: links[0] for name, links in wanted.items()})
        return {name: latent["samples"] for name, latent in out.items()}

    def _branch(self, side: str) -> dict[str, Link]:
        spatial = side == "spatial"
        return {
            "model": self.spatial_model if spatial else self.model,
            "positive": self.spatial if spatial else self.text,
            "negative": self.spatial_negative if spatial else self.negative,
            "latent_image": self.latent,
        }

    def _branches(self) -> dict[str, Link]:
        return {
            "model": self.model,
            "positive": self.text,
            "negative": self.negative,
            "spatial_model": self.spatial_model,
            "spatial_positive": self.spatial,
            "spatial_negative": self.spatial_negative,
        }

    def _conditioning(self, family: str, role: str) -> list:
        found = tiny.conditioning(family, ROWS[role], ROWS[role])
        if role != "negative":
            found[0][1][self.host.pack("realcompo_core.words.grounding").OPTION] = self._grounding()
        return found

    def _grounding(self) -> Any:
        layout = self.host.pack("realcompo_core.layout.model")
        left, right = layout.Box(0.0, 0.2, 0.45, 0.9), layout.Box(0.5, 0.1, 1.0, 0.8)
        objects = (layout.LayoutObject("cube", left), layout.LayoutObject("ball", right))
        grounding = self.host.pack("realcompo_core.words.grounding")
        return grounding.Grounding(layout.Layout(objects), TOKENS)


def picture_of(family: str, seed: int = 3, batch: int = 1) -> Tensor:
    """A latent of a family that is not empty, [B, C, H, W] or [B, C, 1, H, W]."""
    empty = tiny.empty_latent(family, batch)
    return torch.randn(empty.shape, generator=torch.Generator().manual_seed(seed))
