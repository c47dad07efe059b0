"""Layouts from other nodes' boxes, poses, masks and segmentation maps, and what they show, in the
real executor.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from testkit.graph import Graph, Links
from testkit.host import Host, PromptError
from testkit.scene import Scene

ONE = "a red cube: 0.25 0.5 0.75 1"
POSE = {
    "phrases": "a person",
    "unit": "pixels",
    "order": "left to right",
    "padding": 0.1,
    "confidence": 0.3,
    "hands": True,
    "face": True,
    "frame": 0,
}
SEGMENTATION = {
    "colours": "sky = the sky\n#ff0000 = a red barn",
    "tolerance": 8,
    "regions": "one per colour",
    "minimum_area": 0.001,
}


def value(host: Host, graph: Graph, key: str, given: Any) -> list:
    """A link that carries a value."""
    host.functions[key] = lambda _: given
    return graph.add("TestApply", value=0, function=key)[0]


def layout_node(
    host: Host, graph: Graph, given: Any = None, image: Any = None, **inputs: Any
) -> Links:
    sockets = {"boxes": given, "image": image}
    links = {
        key: value(host, graph, key, found) for key, found in sockets.items() if found is not None
    }
    return graph.add("RealCompoLayout", **({"layout": ""} | inputs | links))


def run(host: Host, given: Any = None, image: Any = None, **inputs: Any) -> dict[str, Any]:
    """What RealCompoLayout makes of a value on its boxes socket."""
    host.forget()
    graph = Graph()
    node = layout_node(host, graph, given, image, **inputs)
    return host.run(graph, layout=node[0], boxes=node[1], masks=node[2], preview=node[3])


def convert(host: Host, kind: str, socket: str, given: Any, **inputs: Any) -> list:
    """The objects that a converter node makes of a value."""
    host.forget()
    graph = Graph()
    node = graph.add(
        f"RealCompoLayoutFrom{kind}", **{socket: value(host, graph, socket, given)}, **inputs
    )
    return list(host.run(graph, layout=node[0])["layout"].objects)


def told(host: Host, key: str) -> list[Any]:
    """What the nodes of the last run told the browser under a key."""
    outputs = [data["output"] or {} for event, data in host.server.messages if event == "executed"]
    return [output[key] for output in outputs if key in output]


def corners(placed: Any) -> list[float]:
    return [placed.box.x0, placed.box.y0, placed.box.x1, placed.box.y1]


# Boxes


def test_the_widget_of_older_workflows_is_enough(host: Host) -> None:
    out = run(host, layout=ONE)
    assert [e.phrase for e in out["layout"].objects] == ["a red cube"]
    box = out["boxes"][0][0]
    assert {k: box[k] for k in ("x", "y", "width", "height")} == {
        "x": 128,
        "y": 256,
        "width": 256,
        "height": 256,
    }
    assert box["metadata"]["desc"] == "a red cube"
    assert out["masks"].shape == (1, 512, 512) and float(out["masks"].sum()) == 256 * 256
    assert out["preview"].shape == (1, 512, 512, 3)


def test_boxes_are_added_to_the_drawn_ones(host: Host) -> None:
    boxes = [[{"x": 0, "y": 0, "width": 64, "height": 32, "metadata": {"desc": "a blue ball"}}]]
    out = run(host, boxes, layout=ONE, width=128, height=64)
    assert [e.phrase for e in out["layout"].objects] == ["a red cube", "a blue ball"]
    assert out["masks"].shape == (2, 64, 128)
    assert out["masks"][1, :32, :64].min() == 1 and float(out["masks"][1].sum()) == 64 * 32


@pytest.mark.parametrize("output", [0, 1])
def test_what_it_puts_out_another_takes(fresh: Host, output: int) -> None:
    graph = Graph()
    first = graph.add("RealCompoLayout", layout=ONE)
    second = graph.add("RealCompoLayout", layout="a dog: 0 0 0.5 0.5", boxes=first[output])
    out = fresh.run(graph, layout=second[0])
    assert [e.phrase for e in out["layout"].objects] == ["a dog", "a red cube"]
    assert corners(out["layout"].objects[1]) == [0.25, 0.5, 0.75, 1]


def test_plain_boxes_follow_order_and_unit(host: Host) -> None:
    given = [(0.25, 0.25, 0.5, 0.75)]
    sized = run(host, given, box_order="x y width height", box_unit="0 to 1", phrases="a cat")
    assert corners(sized["layout"].objects[0]) == [0.25, 0.25, 0.75, 1]
    cornered = run(
        host, given, box_order="left top right bottom", box_unit="0 to 1", phrases="a cat"
    )
    assert corners(cornered["layout"].objects[0]) == [0.25, 0.25, 0.5, 0.75]


def test_an_image_is_the_background(host: Host) -> None:
    image = torch.ones(2, 32, 64, 3)
    out = run(host, image=image, layout="a cat: 0 0 0.5 0.5", width=64, height=64)
    assert out["preview"].shape == (1, 64, 64, 3)
    assert torch.equal(out["preview"][0, 40:, 40:], torch.ones(24, 24, 3))
    assert told(host, "background")[0][0]["type"] == "temp"


BAD_BOXES = {
    "a box outside": (
        [[{"x": 0, "y": 0, "width": 600, "height": 32, "label": "a cat"}]],
        "within 512 x 512 pixels",
    ),
    "no phrase": ([(0, 0, 64, 64)], "phrases: expected 1 line, got 0"),
    "no boxes at all": ([], "layout: expected 1 to 256 objects, got 0"),
    "no boxes of any kind": ({"bbox": 3}, "boxes, box 1, box: expected four numbers"),
}


@pytest.mark.parametrize(("given", "part"), BAD_BOXES.values(), ids=BAD_BOXES)
def test_bad_boxes_are_told(host: Host, given: Any, part: str) -> None:
    with pytest.raises(PromptError) as caught:
        run(host, given)
    error = str(caught.value)
    assert error.startswith("RealCompo Layout,") and part in error


def test_masks_that_no_memory_holds_are_refused(host: Host) -> None:
    boxes = [[{"x": 0, "y": 0, "width": 64, "height": 64, "label": "a cat"}] * 17]
    with pytest.raises(
        PromptError, match=r"RealCompo Layout, layout: expected at most \d+ pixels of masks"
    ):
        run(host, boxes, width=8192, height=8192)


# ComfyUI's own nodes, where it has them


def test_a_core_box_goes_in(fresh: Host) -> None:
    if "PrimitiveBoundingBox" not in fresh.nodes:
        pytest.skip("this ComfyUI has no box nodes yet")
    graph = Graph()
    box = graph.add("PrimitiveBoundingBox", x=128, y=0, width=256, height=512)[0]
    node = graph.add("RealCompoLayout", layout="", boxes=box, phrases="a cat")
    assert corners(fresh.run(graph, layout=node[0])["layout"].objects[0]) == [0.25, 0, 0.75, 1]


def test_boxes_go_out_to_core_nodes(fresh: Host) -> None:
    if "CropByBBoxes" not in fresh.nodes:
        pytest.skip("this ComfyUI has no box nodes yet")
    graph = Graph()
    image = torch.zeros(1, 512, 512, 3)
    image[:, 256:, 128:384] = 1
    boxes = graph.add("RealCompoLayout", layout=ONE)[1]
    crop = graph.add(
        "CropByBBoxes",
        image=value(fresh, graph, "image", image),
        bboxes=boxes,
        output_width=64,
        output_height=64,
        padding=0,
        keep_aspect="stretch",
    )
    assert fresh.run(graph, crop=crop[0])["crop"].min() > 0.99


def test_a_pose_of_core_s_own(host: Host) -> None:
    sdpose = pytest.importorskip("comfy_extras.nodes_sdpose")
    joints = torch.full((133, 2), -1.0)
    joints[:17] = torch.tensor([[100.0 + 10 * i, 40.0 + 20 * i] for i in range(17)])
    frames = sdpose._to_openpose_frames(
        [[joints.numpy()]], [[torch.full((133,), 0.9).numpy()]], 400, 400
    )
    (placed,) = convert(host, "Pose", "pose", frames, **POSE | {"padding": 0.0})
    assert corners(placed) == pytest.approx(
        [99.5 / 400, 39.5 / 400, 260.5 / 400, 360.5 / 400], abs=0.01
    )


# Poses


def people(*lefts: float, scale: float = 1.0) -> list[dict]:
    """Frames of people of 100 x 300 at these places in a picture of 512 x 512."""
    joints = [[left, 100.0, 1.0, left + 100, 400.0, 1.0] for left in lefts]
    found = [[v if i % 3 == 2 else v * scale for i, v in enumerate(flat)] for flat in joints]
    return [
        {
            "people": [{"pose_keypoints_2d": flat} for flat in found],
            "canvas_width": 512,
            "canvas_height": 512,
        }
    ]


def test_people_take_the_phrases_from_left_to_right(host: Host) -> None:
    wide = POSE | {"phrases": "a man\na woman", "padding": 0.0}
    left, right = convert(host, "Pose", "pose", people(300, 50), **wide)
    assert (left.phrase, right.phrase) == ("a man", "a woman") and left.box.x0 < right.box.x0
    first, _ = convert(host, "Pose", "pose", people(300, 50), **wide | {"order": "as given"})
    assert first.box == right.box
    shares = convert(
        host, "Pose", "pose", people(300, 50, scale=1 / 512), **wide | {"unit": "0 to 1"}
    )
    assert corners(shares[0]) == pytest.approx(corners(left))


def test_a_wrong_unit_is_told(host: Host) -> None:
    with pytest.raises(
        PromptError, match=r"RealCompo Layout From Pose, unit: .* Set unit to 'pixels'"
    ):
        convert(host, "Pose", "pose", people(50), **POSE | {"unit": "0 to 1"})


# Masks


def test_masks_stay_the_regions(host: Host) -> None:
    masks = torch.zeros(2, 64, 64)
    masks[0].triu_()
    masks[0] += torch.ones(64, 64).triu()
    masks[1, :32, 32:] = 0.5
    one, two = convert(host, "Masks", "masks", masks, phrases="a red cube\na blue ball")
    assert torch.equal(one.region(64, 64), masks[0]) and torch.equal(two.region(64, 64), masks[1])
    assert corners(two) == [0.5, 0, 1, 0.5]


def test_a_black_mask_is_told(host: Host) -> None:
    with pytest.raises(
        PromptError, match="RealCompo Layout From Masks, mask 2, mask: expected a mask with an area"
    ):
        convert(
            host,
            "Masks",
            "masks",
            torch.stack([torch.ones(8, 8), torch.zeros(8, 8)]),
            phrases="a cat",
        )


def test_masks_reach_the_sampler(fresh: Host) -> None:
    """The balancer's objects are the masks at the size of the attention maps."""
    masks = torch.zeros(2, 128, 128)
    masks[0].fill_diagonal_(1)
    masks[1, 64:, :64] = 1
    scene = Scene(width=128, height=128, gligen=False)
    link = value(fresh, scene, "masks", masks)
    layout = scene.add("RealCompoLayoutFromMasks", masks=link, phrases="a red cube\na blue ball")[0]
    conditioning = scene.add(
        "RealCompoLayoutConditioning",
        clip=scene.clip,
        layout=layout,
        text="a red cube and a blue ball",
    )
    ours = scene.realcompo(steps=2, positive=conditioning[0], spatial_positive=conditioning[1])
    out = fresh.run(scene, latent=ours[0], trace=ours[1])
    assert out["latent"]["samples"].isfinite().all()
    reading = next(
        r for step in out["trace"].steps for found in step.readings.values() for r in found
    )
    sampled = reading.objects.regions[1].float()
    rows, columns = sampled.shape
    expected = torch.zeros(rows, columns)
    expected[rows // 2 :, : columns // 2] = 1
    torch.testing.assert_close(sampled.cpu(), expected)
    assert (
        reading.objects.regions[0].diagonal().min() > 0 and reading.objects.regions[0][0, -1] == 0
    )


# Segmentation maps


def test_colours_become_objects(host: Host) -> None:
    image = torch.zeros(1, 40, 60, 3)
    image[:, :20] = torch.tensor([6, 230, 230]) / 255
    image[:, 30:, :20, 0] = image[:, 30:, 40:, 0] = 1
    sky, barn = convert(host, "Segmentation", "image", image, **SEGMENTATION)
    assert (sky.phrase, corners(sky)) == ("the sky", [0, 0, 1, 0.5])
    assert barn.phrase == "a red barn" and float(barn.region(40, 60).sum()) == 400
    apart = convert(
        host, "Segmentation", "image", image, **SEGMENTATION | {"regions": "one per connected area"}
    )
    assert [e.phrase for e in apart] == ["the sky", "a red barn", "a red barn"]
    assert apart[1].box.x1 < apart[2].box.x0


def test_a_colour_that_is_missing_is_told_with_those_that_are_there(host: Host) -> None:
    with pytest.raises(PromptError) as caught:
        convert(host, "Segmentation", "image", torch.ones(1, 8, 8, 3), **SEGMENTATION)
    error = str(caught.value)
    assert error.startswith("RealCompo Layout From Segmentation, colour of 'the sky'")
    assert "got #ffffff 100.0%" in error


# What is shown


def test_the_conditioning_alone_shows_what_matched(fresh: Host) -> None:
    scene = Scene(
        prompt="a red cube beside two blue balls",
        layout=f"{ONE}\nblue balls: 0 0 1 1\nblue balls: 0 0 1 1",
    )
    fresh.run(scene)  # no sampler, no other output
    balls = "blue balls: blue[6] balls[7] (shared)"
    text = f"a red cube: red[2] cube[3]\n{balls}\n{balls}"
    assert told(fresh, "text") == [[text]]
    assert fresh.run(scene, tokens=scene.tokens)["tokens"] == text


def test_what_matched_is_shown_again_from_the_cache(fresh: Host) -> None:
    scene = Scene()
    fresh.run(scene)
    first = told(fresh, "text")
    fresh.run(scene)
    assert told(fresh, "text") == first != []


def test_the_preview_shows_masks_and_every_label(fresh: Host) -> None:
    graph = Graph()
    masks = torch.zeros(12, 64, 64)
    for index in range(12):
        masks[
            index,
            20 * (index // 4) : 20 * (index // 4) + 16,
            16 * (index % 4) : 16 * (index % 4) + 12,
        ] = 1
    phrases = "\n".join(f"object {index}" for index in range(12))
    layout = graph.add(
        "RealCompoLayoutFromMasks", masks=value(fresh, graph, "masks", masks), phrases=phrases
    )[0]
    preview = graph.add("RealCompoLayoutPreview", layout=layout, width=512, height=512)[0]
    image = fresh.run(graph, preview=preview)["preview"][0]
    render = fresh.pack("realcompo_core.drawing.render")
    for index in range(12):
        ink = torch.tensor(render.PALETTE[index])
        assert int((image - ink).abs().amax(dim=-1).lt(0.01).sum()) > 500  # its label and outline
    assert torch.equal(image[480:], torch.full((32, 512, 3), 0.5))  # nothing where no mask is
