"""SepEn Guidance and SepEn Conditioning through the real host."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from realcompo_core.sampling.losses import enhance_loss, separate_loss
from testkit.host import Host, PromptError
from testkit.scene import PROMPT, Scene

GUIDANCE = {
    "separate": 1.0,
    "enhance": 0.5,
    "scale": 20.0,
    "iterations": 1,
    "start": 0.0,
    "end": 1.0,
    "downsample": 0,
    "layers": "all",
}


class Separated(Scene):
    """A small scene whose prompt names its objects and no places."""

    def __init__(self, **scene: Any) -> None:
        super().__init__(**{"width": 64, "height": 64, "gligen": False} | scene)
        tied = self.add(
            "SepEnConditioning", clip=self.clip, text=PROMPT, objects="a red cube\na blue ball"
        )
        self.objects, self.tokens = tied[0], tied[1]

    def guided(self, **settings: Any) -> list:
        return self.add("SepEnGuidance", model=self.model, **GUIDANCE | settings)[0]

    def drawn(self, model: list, positive: list | None = None) -> list:
        return self.stock(positive or self.objects, model=model, steps=2)[0]


def test_objects_are_known_by_their_words_and_the_prompt_stays_as_it_is(host: Host) -> None:
    scene = Separated()
    plain = scene.add("CLIPTextEncode", clip=scene.clip, text=PROMPT)[0]
    out = host.run(
        scene, tokens=scene.tokens, ours=scene.stock(scene.objects)[0], theirs=scene.stock(plain)[0]
    )
    assert out["tokens"] == "a red cube: red[2] cube[3]\na blue ball: blue[6] ball[7]"
    assert torch.equal(out["ours"]["samples"], out["theirs"]["samples"])


def test_scale_0_is_the_stock_sampler_and_more_is_not(host: Host) -> None:
    scene = Separated()
    models = {"stock": scene.model, "still": scene.guided(scale=0.0), "moved": scene.guided()}
    out = host.run(scene, **{name: scene.drawn(model) for name, model in models.items()})
    stock, still, moved = (out[name]["samples"] for name in models)
    assert torch.equal(stock, still) and not torch.equal(stock, moved) and moved.isfinite().all()


def test_moving_the_latent_lowers_what_it_is_moved_by(host: Host) -> None:
    """Attention read at a run's first step, after many moves and after none."""
    scene = Separated()
    losses = {}
    for name, scale in (("still", 0.0), ("moved", 20.0)):
        watched = scene.add(
            "RealCompoAttentionCapture",
            model=scene.guided(scale=scale, iterations=5),
            conditioning=scene.objects,
            downsample=0,
            layers="all",
        )
        out = host.run(scene, latent=scene.drawn(watched[0]), maps=watched[1])
        maps = out["maps"].steps[0].readings["model"][0].attention
        losses[name] = float(separate_loss(maps) + 0.5 * enhance_loss(maps))
    assert losses["moved"] < losses["still"]


def test_a_layout_names_objects_too(host: Host) -> None:
    scene = Separated()
    out = host.run(
        scene, ours=scene.drawn(scene.guided(), scene.text), theirs=scene.drawn(scene.guided())
    )
    assert torch.equal(out["ours"]["samples"], out["theirs"]["samples"])


@pytest.mark.parametrize(
    ("scene", "settings", "positive", "part"),
    [
        (
            {"layout": "a red cube: 0 0 1 1"},
            {},
            "text",
            "SepEn Guidance, positive: expected two objects or more, got 1",
        ),
        (
            {},
            {},
            "negative",
            "SepEn Guidance, guided positive: expected a conditioning with a layout",
        ),
        (
            {},
            {"downsample": 3},
            "objects",
            "SepEn Guidance, guided model, downsample: expected one of",
        ),
        (
            {},
            {"separate": 0.0, "enhance": 0.0},
            "objects",
            "SepEn Guidance, separate: expected a separate or",
        ),
    ],
)
def test_bad_input(host: Host, scene: dict, settings: dict, positive: str, part: str) -> None:
    graph = Separated(**scene)
    with pytest.raises(PromptError) as caught:
        host.run(graph, latent=graph.drawn(graph.guided(**settings), getattr(graph, positive)))
    assert str(caught.value).startswith(part)


@pytest.mark.parametrize(
    ("objects", "part"), [("a red cube", "two objects or more"), ("a cat\na dog", "'a cat'")]
)
def test_bad_objects(host: Host, objects: str, part: str) -> None:
    scene = Separated()
    tied = scene.add("SepEnConditioning", clip=scene.clip, text=PROMPT, objects=objects)
    with pytest.raises(PromptError, match=r"^SepEn Conditioning, ") as caught:
        host.run(scene, positive=tied[0])
    assert part in str(caught.value)
