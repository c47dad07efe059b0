"""What must stay as it was: the models of a scene, and the memory that tensors hold."""

from __future__ import annotations

import gc

import torch

from .graph import Graph
from .host import Host
from .scene import CHECKPOINT, GLIGEN, PROMPT, Scene


class Held(Scene):
    """A scene on models that stay the same objects, however often the host forgets its outputs."""

    def __init__(self, host: Host) -> None:
        loading = Graph()
        model = loading.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)[0]
        gligen = loading.add("GLIGENLoader", gligen_name=GLIGEN)[0]
        self.host, self.loaded = host, host.run(loading, model=model, gligen=gligen)
        for name, value in self.loaded.items():
            host.functions[f"held {name}"] = lambda _, value=value: value
        self.build()

    def build(self) -> None:
        """The scene anew: nothing that the host has cached is used."""
        self.host.forget()
        super().__init__(width=64, height=64, gligen=False)
        self.model = self.apply(self.latent, "held model")
        gligen = self.apply(self.latent, "held gligen")
        self.spatial = self.add(
            "RealCompoLayoutConditioning",
            clip=self.clip,
            text=PROMPT,
            layout=self.layout,
            gligen=gligen,
        )[1]

    def stock_image(self) -> torch.Tensor:
        self.build()
        return self.host.run(self, latent=self.stock(self.spatial)[0])["latent"]["samples"]

    def modules(self) -> list[torch.nn.Module]:
        return [patcher.model for patcher in self.loaded.values()]

    def weights(self) -> list[tuple]:
        """For each weight which object and storage it is, and what autograd thinks of it."""
        tensors = [t for m in self.modules() for t in (*m.parameters(), *m.buffers())]
        return [(id(t), t.data_ptr(), t.is_inference(), t.requires_grad) for t in tensors]

    def hooks(self) -> list[torch.nn.Module]:
        """Modules that still carry a hook or a replaced forward."""
        layers = [layer for module in self.modules() for layer in module.modules()]
        return [
            m for m in layers if m._forward_pre_hooks or m._forward_hooks or "forward" in vars(m)
        ]


def tensor_bytes() -> int:
    alive = [o for o in gc.get_objects() if type(o) in (torch.Tensor, torch.nn.Parameter)]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in alive}
    return sum(storages.values())
