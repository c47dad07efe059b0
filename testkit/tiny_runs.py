"""Runs of tiny transformers by the pack's guider, and looks inside them."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from . import tiny_transformers as tiny
from .host import Host
from .live_run import Live

ROWS, NEGATIVE_ROWS = 9, 7  # of text: their lengths differ, so the host never batches them
TOKENS = ((1, 2), (4,))
FIXED_LATENT = 7
STEPS = 3


class Pack:
    """The pack's classes as the host has loaded them, and runs of tiny models by its guider."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.models: dict[str, Any] = {}
        self.latents: dict[tuple[str, int], Tensor] = {}

    def model(self, name: str) -> Any:
        """A family's model, built once: leave it as it was."""
        if name not in self.models:
            self.models[name] = tiny.patcher(name)
        return self.models[name]

    def __getattr__(self, name: str) -> ModuleType:
        return self.host.pack(MODULES[name])

    def settings(self, mode: str = "text only", **settings: Any) -> Any:
        kind = self.settings_module
        return kind.BalancerSettings(mode=kind.Mode(mode), **settings)

    def branch(self, name: str, model: Any, seed: int, control: Any = None) -> Any:
        layout = self.layout
        left, right = layout.Box(0.0, 0.2, 0.45, 0.9), layout.Box(0.5, 0.1, 1.0, 0.8)
        objects = (layout.LayoutObject("cube", left), layout.LayoutObject("ball", right))
        grounding = self.grounding.Grounding(layout.Layout(objects), TOKENS)
        positive = tiny.conditioning(name, seed, ROWS)
        positive[0][1][self.grounding.OPTION] = grounding
        if control is not None:
            positive[0][1]["control"] = control
        return self.guider.BranchInputs(model, positive, tiny.conditioning(name, 3, NEGATIVE_ROWS))

    def run(
        self,
        name: str,
        settings: Any,
        *,
        model: Any = None,
        control: Any = None,
        sampler: Any = None,
        noise: Tensor | None = None,
        cfg: float = 3.0,
    ) -> tuple[Tensor, Any]:
        """A run of two branches of one model: its latent and its trace."""
        model = model or self.model(name)
        branches = (self.branch(name, model, seed, control) for seed in (1, 2))
        trace = self.trace.Trace()
        guider = self.guider.RealCompoGuider(*branches, cfg, settings, trace, "test")
        return sampled(guider, name, sampler, noise), trace

    def stock(self, name: str, seed: int) -> Tensor:
        """The stock guider's latent on the conditionings of :meth:`branch`, sampled once."""
        if (name, seed) not in self.latents:
            self.latents[name, seed] = stock(name, self.model(name), seed)
        return self.latents[name, seed]

    def inside(self, name: str, look: Callable[[Live, Tensor, Tensor], Any], **kwargs: Any) -> Any:
        """What ``look(run, latent, sigma)`` returns inside a run, in place of sampling.

        The latent is [B, C, H, W], also where the host's has a time.
        """
        import comfy.samplers

        found = []

        def function(
            model: Any, noise: Tensor, sigmas: Tensor, extra_args: dict, **_: Any
        ) -> Tensor:
            guider = model.inner_model
            sigma = sigmas[1:2].expand(noise.shape[0])
            guider(noise, sigma, model_options=extra_args["model_options"], seed=0)
            found.append(look(Live(guider.run), self.folding.flat(noise), sigma))
            return noise

        settings = kwargs.pop("settings", self.settings())
        self.run(name, settings, sampler=comfy.samplers.KSAMPLER(function), **kwargs)
        return found[0]

    def every_layer(self, name: str) -> Any:
        """Settings that read all layers of a family."""
        return self.settings(downsample=self.reader(self.model(name)).patch())

    def reader(self, patcher: Any) -> Any:
        return self.families.reader_of(patcher.model)


MODULES = {
    "settings_module": "realcompo_core.sampling.settings",
    "layout": "realcompo_core.layout.model",
    "grounding": "realcompo_core.words.grounding",
    "trace": "realcompo_core.sampling.trace",
    "attention": "realcompo_core.sampling.attention",
    "guider": "nodes.host.sampling.guider",
    "checks": "nodes.host.sampling.checks",
    "folding": "nodes.host.sampling.folding",
    "capture": "nodes.host.model.capture",
    "families": "nodes.host.model.readers.families",
    "seam": "nodes.host.model.readers.reader",
    "transformer": "nodes.host.model.readers.transformer",
    "recorder": "nodes.host.sampling.recorder",
}


def noise_of(name: str, batch: int = 1) -> Tensor:
    """The noise that runs of a family start with."""
    shape = tiny.empty_latent(name, batch).shape
    return torch.randn(shape, generator=torch.Generator().manual_seed(FIXED_LATENT))


def sampled(guider: Any, name: str, sampler: Any = None, noise: Tensor | None = None) -> Tensor:
    """As the host's executor samples: in inference mode."""
    import comfy.samplers

    sampling = guider.model_patcher.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", STEPS)
    noise = noise_of(name) if noise is None else noise
    latent = torch.zeros_like(noise)
    sampler = sampler or comfy.samplers.sampler_object("euler")
    with torch.inference_mode():
        return guider.sample(noise, latent, sampler, sigmas, seed=1, disable_pbar=True)


def stock(name: str, model: Any, seed: int, positive: list | None = None) -> Tensor:
    """The stock guider, on the conditionings of :meth:`Pack.branch`."""
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    positive = positive or tiny.conditioning(name, seed, ROWS)
    guider.set_conds(positive, tiny.conditioning(name, 3, NEGATIVE_ROWS))
    guider.set_cfg(3.0)
    return sampled(guider, name)


def slopes(run: Live, latent: Tensor, sigma: Tensor) -> tuple[float, float]:
    """The loss along its gradient: by the gradient, and by finite differences."""

    def loss(at: Tensor) -> float:
        pull = run.text.pull(at, sigma, run.objective, gradient=False)
        return float(pull.losses.double().sum())

    gradient = run.text.pull(latent, sigma, run.objective, gradient=True).gradient
    direction = gradient / gradient.norm()
    step = 0.003 * latent.norm()
    ahead, behind = loss(latent + step * direction), loss(latent - step * direction)
    return float((gradient * direction).sum()), float((ahead - behind) / (2 * step))
