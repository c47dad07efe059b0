"""Scenes -> pictures of 64 x 64, in three looks, many at a time.

``photo`` has textured grounds, shaded objects and shadows; ``flat`` has plain colours; ``neon``
glows in the dark.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .picture import COLOURS, GROUNDS, SHAPES, Thing, ToyScene

SIZE = 64
LOOKS = ("photo", "flat", "neon")
HUES = {"red": 0.0, "yellow": 0.14, "green": 0.35, "turquoise": 0.5, "blue": 0.62, "purple": 0.8}
PAINT = torch.tensor([colorsys.hsv_to_rgb(HUES[colour], 0.9, 0.9) for colour in COLOURS])
GROUND_PAINT = {
    "grass": (0.44, 0.50, 0.37),
    "sand": (0.72, 0.67, 0.56),
    "wood": (0.54, 0.45, 0.37),
    "stone": (0.50, 0.52, 0.55),
}
GRAIN = {  # per ground: how rough the noise is, as (rows, columns, strength)
    "grass": ((32, 64, 0.07), (64, 64, 0.06), (8, 8, 0.03)),
    "sand": ((64, 64, 0.045), (6, 12, 0.035), (32, 32, 0.02)),
    "wood": ((64, 6, 0.075), (16, 3, 0.05), (64, 64, 0.02)),
    "stone": ((12, 12, 0.06), (24, 24, 0.05), (64, 64, 0.03)),
}
SOFT = 1.5 / SIZE  # how wide an edge is, for anti-aliasing


def paint(scenes: Sequence[ToyScene], look: str, generator: Generator) -> Tensor:
    """Paint pictures [B, 3, 64, 64] in 0..1, equal for equal scenes, look and generator state."""
    light = torch.rand(len(scenes), generator=generator) * 2 * torch.pi
    light = torch.stack([light.cos(), light.sin()], -1)
    picture = grounds(scenes, look, light, generator)
    for index in range(max(len(scene.things) for scene in scenes)):
        _draw(picture, scenes, index, look, light)
    if look == "photo":
        picture = picture + 0.012 * torch.randn(picture.shape, generator=generator)
    return picture.clamp(0, 1)


def silhouettes(scenes: Sequence[ToyScene]) -> Tensor:
    """Return objects' own areas as soft masks [B, K, 64, 64], 0..1.

    K is the most that a scene holds; masks are empty where one has fewer.
    """
    count = max(len(scene.things) for scene in scenes)
    out = torch.zeros(len(scenes), count, SIZE, SIZE)
    for index in range(count):
        rows, centre, radius, shape, _ = _things(scenes, index)
        distance = _distance(*_local(centre, radius), shape) * radius[:, None, None]
        out[rows, index] = _cover(distance)
    return out


def hints(scenes: Sequence[ToyScene], boxes: Sequence[bool]) -> Tensor:
    """Paint where objects go, in their colours on black [B, 3, 64, 64], 0..1.

    They are whole boxes for the scenes that ``boxes`` says, else filled outlines.
    """
    out = torch.zeros(len(scenes), 3, SIZE, SIZE)
    masks = silhouettes(scenes)
    for row, scene in enumerate(scenes):
        for index, thing in enumerate(scene.things):
            mask = _box_mask(thing) if boxes[row] else masks[row, index] > 0.5
            out[row, :, mask] = PAINT[COLOURS.index(thing.colour)][:, None]
    return out


def _box_mask(thing: Thing) -> Tensor:
    left, top, right, bottom = (edge * SIZE for edge in thing.box)
    centres = torch.arange(SIZE) + 0.5
    rows = (centres > top) & (centres < bottom)
    return rows[:, None] & ((centres > left) & (centres < right))


def grounds(scenes: Sequence[ToyScene], look: str, light: Tensor, generator: Generator) -> Tensor:
    """Paint backgrounds [B, 3, 64, 64], lit along ``light`` [B, 2]."""
    colour = torch.tensor([GROUND_PAINT[scene.ground] for scene in scenes])[:, :, None, None]
    picture = colour.expand(-1, -1, SIZE, SIZE).clone()
    if look == "flat":
        return picture
    picture += _texture(scenes, generator)
    if look == "neon":
        return (picture - 0.35) * 0.35 + torch.tensor([0.05, 0.05, 0.10])[:, None, None]
    x, y = _grid()
    slope = light[:, 0, None, None] * (x - 0.5) + light[:, 1, None, None] * (y - 0.5)
    return picture * (1 + 0.3 * slope[:, None])


def _texture(scenes: Sequence[ToyScene], generator: Generator) -> Tensor:
    texture = torch.zeros(len(scenes), 1, SIZE, SIZE)
    for ground in GROUNDS:
        rows = [index for index, scene in enumerate(scenes) if scene.ground == ground]
        for height, width, strength in GRAIN[ground] if rows else ():
            noise = torch.randn(len(rows), 1, height, width, generator=generator)
            smooth = F.interpolate(noise, (SIZE, SIZE), mode="bilinear", align_corners=False)
            texture[rows] += strength * smooth
    return texture


def _draw(
    picture: Tensor, scenes: Sequence[ToyScene], index: int, look: str, light: Tensor
) -> None:
    """Paint every scene's object number ``index`` over the pictures, in place."""
    rows, centre, radius, shape, colour = _things(scenes, index)
    if not rows:
        return
    u, v = _local(centre, radius)
    r = radius[:, None, None]
    distance = _distance(u, v, shape) * r
    lit = light[rows]
    if look == "photo":
        shadow = _distance(*_local(centre - lit * 0.035, radius), shape) * r
        picture[rows] *= 1 - 0.4 * _cover(shadow - 0.01, 4 * SOFT)[:, None]
    if look == "neon":
        picture[rows] += colour * (0.45 * torch.exp(-distance.clamp_min(0) / 0.035))[:, None]
    body = colour * _shade(u, v, distance, look, lit)[:, None]
    if look == "photo":
        body = body + 0.28 * _shine(u, v, lit)[:, None]
    cover = _cover(distance)[:, None]
    picture[rows] = picture[rows] * (1 - cover) + body * cover


def _shine(u: Tensor, v: Tensor, light: Tensor) -> Tensor:
    across = (u - 0.4 * light[:, 0, None, None]) ** 2
    down = (v - 0.4 * light[:, 1, None, None]) ** 2
    return torch.exp(-(across + down) / 0.08)


def _shade(u: Tensor, v: Tensor, distance: Tensor, look: str, light: Tensor) -> Tensor:
    if look == "flat":
        return torch.ones_like(u)
    if look == "neon":
        return 0.45 + 0.75 * torch.exp(distance.clamp_max(0) / 0.03)
    return 0.82 + 0.28 * (light[:, 0, None, None] * u + light[:, 1, None, None] * v)


def _things(
    scenes: Sequence[ToyScene], index: int
) -> tuple[list[int], Tensor, Tensor, Tensor, Tensor]:
    rows = [row for row, scene in enumerate(scenes) if index < len(scene.things)]
    things = [scenes[row].things[index] for row in rows]
    centre = torch.tensor([(thing.x, thing.y) for thing in things]).reshape(-1, 2)
    radius = torch.tensor([thing.radius for thing in things])
    shape = torch.tensor([SHAPES.index(thing.shape) for thing in things], dtype=torch.long)
    colour = PAINT[[COLOURS.index(thing.colour) for thing in things]][:, :, None, None]
    return rows, centre, radius, shape, colour


def _grid() -> tuple[Tensor, Tensor]:
    axis = (torch.arange(SIZE) + 0.5) / SIZE
    return axis[None, None, :].expand(1, SIZE, SIZE), axis[None, :, None].expand(1, SIZE, SIZE)


def _local(centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Return each object's own coordinates, -1..1 over its box: two [N, 64, 64]."""
    x, y = _grid()
    r = radius[:, None, None]
    return (x - centre[:, 0, None, None]) / r, (y - centre[:, 1, None, None]) / r


def _cover(distance: Tensor, soft: float = SOFT) -> Tensor:
    return (0.5 - distance / soft).clamp(0, 1)


def _distance(u: Tensor, v: Tensor, shape: Tensor) -> Tensor:
    """Return signed distances to the outline (negative inside), in radii: [N, 64, 64]."""
    length = torch.hypot(u, v)
    out = torch.empty_like(u)
    for index, name in enumerate(SHAPES):
        chosen = shape == index
        out[chosen] = OUTLINES[name](u[chosen], v[chosen], length[chosen])
    return out


def _cross(u: Tensor, v: Tensor, _: Tensor) -> Tensor:
    upright = torch.maximum(u.abs() - 0.34, v.abs() - 1)
    lying = torch.maximum(v.abs() - 0.34, u.abs() - 1)
    return torch.minimum(upright, lying)


OUTLINES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "circle": lambda u, v, length: length - 1,
    "square": lambda u, v, _: torch.maximum(u.abs(), v.abs()) - 0.92,
    "triangle": lambda u, v, _: torch.maximum(u.abs() * 0.894 + v * -0.447 - 0.447, v - 0.92),
    "cross": _cross,
    "ring": lambda u, v, length: (length - 0.74).abs() - 0.26,
}
"""Signed distances in radii, of x, y and the distance from the centre."""
