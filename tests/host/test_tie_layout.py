"""RealCompo Tie Layout: a layout on conditionings that other nodes have encoded."""

from __future__ import annotations

import pytest
import torch

from testkit.graph import Link, Links
from testkit.host import Host, PromptError
from testkit.scene import GLIGEN, PROMPT, Scene

SIZES = {
    "width": 640,
    "height": 448,
    "crop_w": 8,
    "crop_h": 16,
    "target_width": 512,
    "target_height": 576,
}


def tie(scene: Scene, conditioning: Link, text: str, **inputs: object) -> Links:
    return scene.add(
        "RealCompoTieLayout",
        conditioning=conditioning,
        clip=scene.clip,
        layout=scene.layout,
        text=text,
        **inputs,
    )


def encoded(scene: Scene, text: str) -> Link:
    return scene.add("CLIPTextEncode", clip=scene.clip, text=text)[0]


def test_it_does_what_layout_conditioning_does(host: Host) -> None:
    scene = Scene()
    gligen = scene.add("GLIGENLoader", gligen_name=GLIGEN)[0]
    tied = tie(scene, encoded(scene, PROMPT), PROMPT, gligen=gligen)
    links = {"text": tied[0], "spatial": tied[1], "tokens": tied[2]}
    found = host.run(
        scene, **links, own_text=scene.text, own_spatial=scene.spatial, own_tokens=scene.tokens
    )
    assert found["tokens"] == found["own_tokens"]
    for side in ("text", "spatial"):
        ((cond, options),), ((own_cond, own),) = found[side], found[f"own_{side}"]
        assert torch.equal(cond, own_cond) and options.keys() == own.keys()
        assert options["realcompo"] == own["realcompo"]
    assert len(options["gligen"][2]) == 2


def test_phrases_may_be_in_either_of_sdxls_texts(host: Host) -> None:
    """Both texts share rows; all that the encoder has set stays as it is."""
    scene = Scene.of("sdxl")
    texts = {
        "text_g": "photo, a red cube",
        "text_l": "oil painting of a blue ball, " + "very " * 80,
    }
    big = scene.add("CLIPTextEncodeSDXL", clip=scene.clip, **SIZES, **texts)[0]
    tied = tie(scene, big, texts["text_g"], text_l=texts["text_l"])
    found = host.run(scene, big=big, text=tied[0], tokens=tied[2])
    ((cond, options),), ((given, before),) = found["text"], found["big"]
    assert cond is given and cond.shape[1] == 154
    assert {key: options[key] for key in SIZES} == SIZES == {key: before[key] for key in SIZES}
    assert options["realcompo"].tokens == ((4, 5), (5, 6)) and "realcompo" not in before
    assert found["tokens"] == "a red cube: red[4] cube[5]\na blue ball: blue[5] ball[6]"


def test_every_part_of_a_schedule_is_tied(host: Host) -> None:
    scene = Scene.of("sd1")
    early, late = (
        scene.add(
            "ConditioningSetTimestepRange",
            conditioning=encoded(scene, f"{style} {PROMPT}"),
            start=start,
            end=start + 0.5,
        )[0]
        for style, start in (("pencil", 0.0), ("ink", 0.5))
    )
    both = scene.add("ConditioningCombine", conditioning_1=early, conditioning_2=late)[0]
    parts = host.run(scene, text=tie(scene, both, f"ink {PROMPT}")[0])["text"]
    assert [options["realcompo"].tokens for _, options in parts] == [((3, 4), (7, 8))] * 2
    assert [options["start_percent"] for _, options in parts] == [0.0, 0.5]


@pytest.mark.parametrize(
    ("text", "inputs", "message"),
    [
        ("a red cube", {}, "phrase 'a blue ball': expected words of the prompt"),
        ("very " * 80 + PROMPT, {}, "conditioning: expected 154 rows, .* got 77 rows"),
        (PROMPT, {"text_l": "oil"}, "text_l: expected the CLIP of SDXL, got l. Leave"),
    ],
)
def test_what_cannot_match_is_told(host: Host, text: str, inputs: dict, message: str) -> None:
    scene = Scene.of("sd1")
    tied = tie(scene, encoded(scene, PROMPT), text, **inputs)
    with pytest.raises(PromptError, match=f"RealCompo Tie Layout, {message}"):
        host.run(scene, text=tied[0])
