"""Poses of every kind of node: the box of each person's joints."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realcompo_core.errors import InputError
from realcompo_core.layout.boxes import Unit
from realcompo_core.layout.model import Box
from realcompo_core.layout.pose import PoseReader
from realcompo_core.layout.regions import Region

BARE = PoseReader(padding=0)
NONE = [0.0, 0.0, 0.0]


def flat(*joints: list[float]) -> list[float]:
    return [number for joint in joints for number in joint]


def frame(*people: dict, **changes: Any) -> dict:
    return {"people": list(people), "canvas_width": 200, "canvas_height": 100} | changes


def person(*joints: list[float], **parts: Any) -> dict:
    empty = {
        "face_keypoints_2d": None,
        "hand_left_keypoints_2d": None,
        "hand_right_keypoints_2d": None,
    }
    return {"pose_keypoints_2d": flat(*joints)} | empty | parts


STANDING = person([50, 20, 1.0], NONE, [100, 80, 1.0], [70, 40, 1.0])


def boxes(regions: list[Region]) -> list[Box]:
    return [region.box for region in regions]


def test_the_box_is_the_extent_of_the_joints() -> None:
    (box,) = boxes(PoseReader(padding=0.1).read([frame(STANDING)]))
    assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx(
        (44 / 200, 14 / 100, 106 / 200, 86 / 100)
    )


def test_coordinates_from_0_to_1_give_the_same() -> None:
    shares = person([0.25, 0.2, 1.0], NONE, [0.5, 0.8, 1.0], [0.35, 0.4, 1.0])
    expected = PoseReader().read([frame(STANDING)])[0].box
    got = PoseReader(Unit.SHARES).read([frame(shares)])[0].box
    assert vars(got) == pytest.approx(vars(expected))


@pytest.mark.parametrize(
    "missing",
    [
        [0, 0, 0],
        [0, 0, 1.0],
        [-1.0, -1.0, 0.0],
        [-1.0, 30, 1.0],
        [5, 5, 0.0],
        [5, 5, -1.0],
        [5, 5, 0.29],
        [250, 5, 1],
        [None, None, None],
        [None, 5, 1.0],
        [float("nan"), 5, 1.0],
    ],
)
def test_joints_that_were_not_found_do_not_count(missing: list) -> None:
    whole = person([50, 20, 1.0], [100, 80, 0.9])
    with_missing = person([50, 20, 1.0], missing, [100, 80, 0.9])
    assert BARE.read([frame(with_missing)]) == BARE.read([frame(whole)])


def test_triples_may_be_nested() -> None:
    nested = {"pose_keypoints_2d": [[50, 20, 1.0], [100, 80, 1.0]]}
    assert BARE.read([frame(nested)]) == BARE.read([frame(STANDING)])


def test_hands_face_and_feet_widen_the_box_where_they_count() -> None:
    whole = STANDING | {
        "face_keypoints_2d": flat([60, 10, 1.0]),
        "hand_left_keypoints_2d": flat([120, 50, 1.0]),
        "hand_right_keypoints_2d": flat([30, 50, 1.0]),
        "foot_keypoints_2d": flat([60, 95, 1.0]),
    }

    def extent(**settings: Any) -> tuple[int, ...]:
        (box,) = boxes(PoseReader(padding=0, **settings).read([frame(whole)]))
        return tuple(
            round(v)
            for v in (
                box.x0 * 200 + 0.5,
                box.y0 * 100 + 0.5,
                box.x1 * 200 - 0.5,
                box.y1 * 100 - 0.5,
            )
        )

    assert extent() == (30, 10, 120, 95)
    assert extent(hands=False) == (50, 10, 100, 95)
    assert extent(hands=False, face=False) == (50, 20, 100, 95)


def test_everyone_with_two_joints_is_a_region_in_order() -> None:
    other = person([150, 10, 1.0], [190, 90, 1.0])
    lone = person([20, 20, 1.0], NONE)
    found = boxes(BARE.read([frame(other, person(NONE), lone, STANDING)]))
    assert [round(box.x0 * 200) for box in found] == [150, 50]


def test_animals_are_people_too() -> None:
    animals = {
        "version": "ap10k",
        "animals": [[[50, 20, 0.9], [100, 80, 0.8]]],
        "canvas_width": 200,
    }
    assert BARE.read([animals | {"canvas_height": 100}]) == BARE.read([frame(STANDING)])


def test_joints_in_a_line_have_an_area() -> None:
    (box,) = boxes(BARE.read([frame(person([50, 20, 1.0], [50, 80, 1.0]))]))
    assert box.x1 > box.x0


def test_the_box_ends_at_the_edge() -> None:
    (box,) = boxes(PoseReader(padding=1).read([frame(STANDING)]))
    assert box == Box(0, 0, 0.8, 1)


def test_a_frame_is_chosen() -> None:
    frames = [frame(person(NONE)), frame(STANDING)]
    assert BARE.read(frames, 1) == BARE.read(frames[1])
    with pytest.raises(InputError, match="less than the number of frames 2, got 2"):
        BARE.read(frames, 2)


@pytest.mark.parametrize(
    ("reader", "pose", "message"),
    [
        (
            PoseReader(),
            [frame(person([0.2, 0.2, 1.0], [0.5, 0.9, 1.0]))],
            "unit: .*within one pixel.*'0 to 1'",
        ),
        (PoseReader(Unit.SHARES), [frame(STANDING)], "unit: .*far outside.*'pixels'"),
        (
            PoseReader(),
            [frame(person([900, 900, 1.0], [950, 990, 1.0]))],
            "200 x 100 pixels, got joints far outside",
        ),
        (PoseReader(), [frame()], "a person with two joints"),
        (PoseReader(), [frame(person(NONE, NONE))], "got 1 without"),
        (
            PoseReader(confidence=1.0),
            [frame(person([50, 20, 0.9], [60, 20, 0.9]))],
            "lower the confidence",
        ),
        (PoseReader(), [], "less than the number of frames 0"),
        (PoseReader(), "a pose", "a list of frames, got str"),
        (PoseReader(), ["a pose"], "a list of frames"),
        (PoseReader(), [frame(STANDING, canvas_width=None)], "canvas_width"),
        (PoseReader(), [frame(STANDING, canvas_height=0)], "canvas_height"),
        (PoseReader(), [frame({"pose_keypoints_2d": [1, 2, 3, 4]})], "got 4 numbers"),
        (PoseReader(), [frame({"pose_keypoints_2d": 5})], "a list of joints, got int"),
        (PoseReader(), [frame(people=3)], "a list of people, got int"),
    ],
)
def test_bad_poses_are_told(reader: PoseReader, pose: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        reader.read(pose)


GARBAGE = st.recursive(
    st.none() | st.integers() | st.integers(10**20, 10**400) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(
            st.sampled_from(
                ["people", "animals", "canvas_width", "canvas_height", "pose_keypoints_2d"]
            ),
            inner,
        )
    ),
    max_leaves=15,
)


@given(GARBAGE, st.sampled_from(Unit))
def test_garbage_is_a_pose_or_an_input_error(value: Any, unit: Unit) -> None:
    for pose in (value, [value], [frame(value)], [frame({"pose_keypoints_2d": value})]):
        try:
            regions = PoseReader(unit).read(pose)
        except InputError:
            continue
        assert regions
