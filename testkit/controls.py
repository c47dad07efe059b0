"""ControlNets and their like, applied to a scene by the host's own nodes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from .host import Host
from .random_models import UNET, random_weights, shapes_of, unet_weights
from .scene import CONTROLNET, Scene

Control = Callable[[Host, Scene], None]
WIDTH = UNET["model_channels"]
# T2I-Adapters count two residual blocks at each size; the other small models have one.
ADAPTED_UNET = UNET | {
    "num_res_blocks": [2, 2],
    "channel_mult": (1, 1),
    "transformer_depth": [1] * 4,
    "transformer_depth_output": [1] * 6,
}


def add_controlnet(
    scene: Scene, name: str = CONTROLNET, branch: str = "spatial", **settings: float
) -> None:
    """A ControlNet file on a branch's conditioning."""
    apply(scene, scene.add("ControlNetLoader", control_net_name=name)[0], branch, **settings)


def apply(scene: Scene, net: list, branch: str = "spatial", **settings: float) -> None:
    image = scene.add("EmptyImage", width=64, height=64, batch_size=1, color=0x808080)[0]
    whole = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    applied = scene.add(
        "ControlNetApplyAdvanced",
        positive=getattr(scene, branch),
        negative=scene.negative,
        control_net=net,
        image=image,
        **whole | settings,
    )
    setattr(scene, branch, applied[0])


def one(host: Host, scene: Scene) -> None:
    add_controlnet(scene)


def chained(host: Host, scene: Scene) -> None:
    """Two, each for a part of the steps."""
    add_controlnet(scene, end_percent=0.6)
    add_controlnet(scene, strength=0.5, start_percent=0.2)


def on_both(host: Host, scene: Scene) -> None:
    add_controlnet(scene)
    add_controlnet(scene, branch="text", strength=0.4)


def adapter(host: Host, scene: Scene) -> None:
    """A T2I-Adapter, on a model that has the blocks for it."""
    host.functions |= {"adapted": lambda _: _adapted_model(), "adapter": lambda _: _adapter()}
    scene.model = scene.apply(scene.model, "adapted")
    apply(scene, scene.apply(scene.model, "adapter"))


def two_adapters(host: Host, scene: Scene) -> None:
    """The adapter comes in late: its first evaluation may be a gradient pass."""
    adapter(host, scene)
    net = scene.apply(scene.model, "adapter")
    apply(scene, net, strength=0.5, start_percent=0.1)


CONTROLS: dict[str, Control] = {
    "one": one,
    "chained": chained,
    "both branches": on_both,
    "adapter": adapter,
    "two adapters": two_adapters,
}


@cache
def _adapted_model() -> Any:
    import comfy.sd

    return comfy.sd.load_diffusion_model_state_dict(unet_weights(5, ADAPTED_UNET))


@cache
def _adapter() -> Any:
    from comfy.controlnet import T2IAdapter
    from comfy.t2i_adapter.adapter import Adapter

    network = Adapter(
        cin=3 * 64, channels=[WIDTH] * 4, nums_rb=1, ksize=1, sk=True, use_conv=False, xl=False
    )
    network.load_state_dict(random_weights(shapes_of(network), 6))
    return T2IAdapter(network, 3, 8, "nearest-exact")
