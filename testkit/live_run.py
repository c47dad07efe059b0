"""Looking inside a run: a sampler that hands a test the live run at a fixed latent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .host import Host
from .scene import Scene


class Live:
    """A live run, as tests ask it: its models, its balance, and one step's parts by themselves."""

    def __init__(self, run: Any) -> None:
        self.run, self.method = run, run.method
        self.text, self.spatial = (run.models.get(side) for side in ("text", "spatial"))
        self.objective = next(iter(self.method.branches.values())).objective

    @property
    def balancer(self) -> Any:
        return self.method.balancer

    @property
    def schedule(self) -> Any:
        return self.method.schedule

    def predict(self, latent: Tensor, sigma: Tensor, *, first: bool = False) -> list[Any]:
        """Both branches' predictions at the run's first step."""
        at = self._point(latent, sigma, first)
        return [branch.predict(at) for branch in self.method.branches.values()]

    def rebalance(self, latent: Tensor, sigma: Tensor, predictions: Sequence[Any]) -> dict:
        """Look one step ahead and move the balance; return what attention asks for, by branch."""
        found = dict(zip(self.method.branches, predictions, strict=True))
        at = self._point(latent, sigma, False)
        return self.method._look_ahead(at, self.method._fork(at, found))

    def _point(self, latent: Tensor, sigma: Tensor, first: bool) -> Any:
        kind = sys.modules[type(self.method).__module__].Point
        return kind(latent, sigma, 0, first)


def inspect(
    host: Host, scene: Scene, look: Callable[[Any, Tensor, Tensor, dict], Any], **settings: Any
) -> Any:
    """Return what ``look(run, latent, sigma, options)`` returns inside a real run.

    It is called in place of the sampler's steps, after the run has predicted once at the latent:
    both branches are ready and the balance has started.
    """
    import comfy.samplers

    found = []

    def function(model: Any, noise: Tensor, sigmas: Tensor, extra_args: dict, **_: Any) -> Tensor:
        guider, options = model.inner_model, extra_args["model_options"]
        sigma = sigmas[:1].expand(noise.shape[0])
        guider(noise, sigma, model_options=options, seed=0)
        found.append(look(Live(guider.run), noise, sigma, options))
        return noise

    host.functions["probe"] = lambda _: comfy.samplers.KSAMPLER(function)
    host.forget()
    guider = scene.add(
        "RealCompoGuider",
        model=scene.model,
        positive=scene.text,
        negative=scene.negative,
        spatial_positive=scene.spatial,
        cfg=7.5,
        spatial_model=scene.spatial_model,
        balancer=scene.balancer(**settings),
    )
    sigmas = scene.add(
        "BasicScheduler", model=scene.model, scheduler="normal", steps=4, denoise=1.0
    )[0]
    noise = scene.add("RandomNoise", noise_seed=7)[0]
    done = scene.add(
        "SamplerCustomAdvanced",
        noise=noise,
        guider=guider[0],
        sampler=scene.apply(scene.latent, "probe"),
        sigmas=sigmas,
        latent_image=scene.latent,
    )
    host.run(scene, latent=done[0])
    return found[0]


def relative(one: Tensor | float, other: Tensor | float) -> float:
    """Largest difference relative to the larger magnitude."""
    one, other = torch.as_tensor(one), torch.as_tensor(other)
    magnitude = torch.maximum(one.abs().max(), other.abs().max()).clamp(min=1e-30)
    return float((one - other).abs().max() / magnitude)


def total_loss(pulls: dict) -> float:
    """The sum of all branches' losses."""
    return sum(float(r.losses.double().sum()) for pull in pulls.values() for r in pull.readings)


def pull_agrees_with_finite_difference(host: Host, scene: Scene, reach: float = 0.005) -> bool:
    """Whether the spatial branch's gradient is the slope of its loss, within 1%.

    The slope is taken over ``reach`` of the latent's norm.
    """

    def look(run: Any, latent: Tensor, sigma: Tensor, options: dict) -> tuple[float, float]:
        def loss(at: Tensor) -> float:
            pull = run.spatial.pull(at, sigma, run.objective, gradient=False)
            return total_loss({"spatial": pull})

        gradient = run.spatial.pull(latent, sigma, run.objective, gradient=True).gradient
        direction = gradient / gradient.norm()
        step = reach * latent.norm()
        rise = loss(latent + step * direction) - loss(latent - step * direction)
        return float((gradient * direction).sum()), float(rise / (2 * step))

    slope, difference = inspect(host, scene, look)
    return slope > 0 and relative(slope, difference) < 1e-2
