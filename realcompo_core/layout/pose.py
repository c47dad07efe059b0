"""Poses -> regions: a box around each person's joints.

The format is OpenPose's JSON as ComfyUI's nodes pass it on: a list of frames ``{"people":
[{"pose_keypoints_2d": [x, y, confidence, ...], ...}], "canvas_width", "canvas_height"}``.
OpenPose nodes give 0 to 1, DWPose and SDPose pixels; AnimalPose has ``"animals"`` of joints in
pixels. A joint that was not found is (0, 0, 0), negative, without confidence or null.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ..errors import InputError
from .boxes import Unit
from .regions import Canvas, Region, is_number

BODY = ("pose_keypoints_2d", "foot_keypoints_2d")
FACE = ("face_keypoints_2d",)
HANDS = ("hand_left_keypoints_2d", "hand_right_keypoints_2d")
FAR = 2.0  # pictures away: no pose has joints there
LEAST_MARGIN = 0.5  # pixels: joints in a line have an area too

Point = tuple[float, float]


@dataclass(frozen=True)
class PoseReader:
    """How joints become boxes: their unit, which of them count, and the margin around them.

    ``padding`` is added on every side, in shares of the longer side of the joints' extent.
    """

    unit: Unit = Unit.PIXELS
    confidence: float = 0.3
    padding: float = 0.1
    face: bool = True
    hands: bool = True

    def read(self, frames: Any, number: int = 0) -> list[Region]:
        """Return a region for each person of one frame with two joints or more in the picture.

        Raises :class:`InputError` where the frame is missing or malformed, where nobody is in it,
        and where its joints can't be in the given unit.
        """
        frame = _frame(frames, number)
        canvas = self._canvas(frame)
        people = [set(self._joints(person, canvas)) for person in _people(frame)]
        _check_unit(list(chain.from_iterable(people)), canvas, self.unit)
        regions = []
        for joints in people:
            inside = {joint for joint in joints if _is_inside(joint, canvas)}
            if len(inside) > 1:
                regions.append(self._region(inside, canvas))
        if not regions:
            expected, got = "a person with two joints in the picture", f"{len(people)} without"
            fix = "Check the pose, lower the confidence, or set the unit that the pose node uses."
            raise InputError("pose", expected, got, fix)
        return regions

    def _canvas(self, frame: dict) -> Canvas:
        sides: list[Any] = [frame.get("canvas_width"), frame.get("canvas_height")]
        if not all(is_number(side) and side > 0 for side in sides):
            fix = "Connect a pose node that tells the size of its picture."
            raise InputError("pose", "a canvas_width and canvas_height", str(sides), fix)
        return Canvas(*map(float, sides))

    def _joints(self, person: dict, canvas: Canvas) -> Iterator[Point]:
        """Yield the joints that were found, in pixels."""
        scale = (canvas.width, canvas.height) if self.unit is Unit.SHARES else (1.0, 1.0)
        for key in BODY + FACE * self.face + HANDS * self.hands:
            for x, y, confidence in _triples(_listed(person.get(key), "joints")):
                if confidence > 0 and confidence >= self.confidence and (x, y) != (0, 0):
                    yield x * scale[0], y * scale[1]

    def _region(self, joints: Iterable[Point], canvas: Canvas) -> Region:
        across, down = zip(*joints, strict=True)
        left, top, right, bottom = min(across), min(down), max(across), max(down)
        margin = max(self.padding * max(right - left, bottom - top), LEAST_MARGIN)
        box = canvas.box(
            max(left - margin, 0),
            max(top - margin, 0),
            min(right + margin, canvas.width),
            min(bottom + margin, canvas.height),
        )
        return Region(box)


def _frame(frames: Any, number: int) -> dict:
    frames = [frames] if isinstance(frames, dict) else frames
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        got = type(frames).__name__
        raise InputError("pose", "a list of frames", got, "Connect a POSE_KEYPOINT.")
    if not 0 <= number < len(frames):
        fix = "Choose a frame of the pose; the first is 0."
        raise InputError("frame", f"less than the number of frames {len(frames)}", str(number), fix)
    return frames[number]


def _people(frame: dict) -> list[dict]:
    people = [
        person for person in _listed(frame.get("people"), "people") if isinstance(person, dict)
    ]
    animals = [{BODY[0]: animal} for animal in _listed(frame.get("animals"), "animals")]
    return people + animals


def _triples(joints: Sequence[Any]) -> Iterator[tuple[float, float, float]]:
    """Yield x, y and confidence of each joint that is there, from a flat list or one of triples."""
    numbers: list[Any] = []
    for value in joints:
        numbers += value if isinstance(value, list | tuple) else [value]
    if len(numbers) % 3:
        expected, got = "x, y and confidence for each joint", f"{len(numbers)} numbers"
        raise InputError("pose", expected, got, "Check the pose.")
    for triple in zip(*[iter(numbers)] * 3, strict=True):
        if all(map(is_number, triple)):
            yield triple


def _listed(value: Any, what: str) -> Sequence[Any]:
    if value is not None and not isinstance(value, list | tuple):
        expected, got = f"a list of {what}", type(value).__name__
        raise InputError("pose", expected, got, "Connect a POSE_KEYPOINT.")
    return value or ()


def _check_unit(joints: Sequence[Point], canvas: Canvas, unit: Unit) -> None:
    """Raise :class:`InputError` for joints that can't be in the unit.

    Pixels taken for shares lie far outside, shares taken for pixels in the first pixel.
    """
    far = any(abs(x) > FAR * canvas.width or abs(y) > FAR * canvas.height for x, y in joints)
    near = unit is Unit.PIXELS and joints and all(max(abs(x), abs(y)) <= 1 for x, y in joints)
    if not far and not near:
        return
    size = f"{canvas.width:g} x {canvas.height:g}"
    expected = f"joints in {unit.value!r} of a picture of {size} pixels"
    got = "joints far outside" if far else "joints within one pixel"
    other = Unit.SHARES if unit is Unit.PIXELS else Unit.PIXELS
    fix = f"Set unit to {other.value!r} if that is what the pose node uses."
    raise InputError("unit", expected, got, fix)


def _is_inside(joint: Point, canvas: Canvas) -> bool:
    x, y = joint
    return 0 <= x <= canvas.width and 0 <= y <= canvas.height
