"""Reads a picture of the toy world: which objects stand where, and on which ground.

Nothing here is learned. An object is a connected patch of one strong colour; its shape is the
outline that it covers best.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from ..toy.paint import GROUND_PAINT, HUES, SIZE, silhouettes
from ..toy.picture import COLOURS, GROUNDS, SHAPES, Thing, ToyScene

VIVID = 0.25  # the least chroma (largest less smallest of R, G, B) of an object's pixel
LEAST_PIXELS = 24
TEMPLATE = 24

Window = tuple[slice, slice]
"""Rows and columns of a part of a picture, in pixels."""


@dataclass(frozen=True)
class Found:
    """An object that was read: its kind, its box (0 to 1) and its outline's fit (IoU, 0 to 1)."""

    colour: str
    shape: str
    box: tuple[float, float, float, float]
    fit: float

    @property
    def kind(self) -> tuple[str, str]:
        """Return the colour and the shape."""
        return self.colour, self.shape

    @property
    def centre(self) -> tuple[float, float]:
        """Return x and y of the box's middle, from 0 to 1."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


@dataclass(frozen=True)
class Reading:
    """What was read in a picture."""

    things: tuple[Found, ...]
    ground: str


def small(picture: Tensor) -> Tensor:
    """Return a picture [3, H, W] of any size as [3, 64, 64]."""
    if picture.shape[-1] == SIZE:
        return picture
    return F.interpolate(picture[None], (SIZE, SIZE), mode="area")[0]


def read(picture: Tensor) -> Reading:
    """Return what a picture [3, H, W] in 0..1 shows."""
    rgb = small(picture).clamp(0, 1).numpy()
    chroma = rgb.max(0) - rgb.min(0)
    colours = _nearest_colour(rgb)
    found: list[Found] = []
    for colour in range(len(COLOURS)):
        found += _of_colour(chroma, colours == colour, colour)
    return Reading(tuple(found), _ground(rgb, chroma))


def pixels_of(picture: Tensor, colour: str) -> np.ndarray:
    """Return where a picture [3, H, W] in 0..1 is of an object's colour: [64, 64]."""
    rgb = small(picture).clamp(0, 1).numpy()
    vivid = rgb.max(0) - rgb.min(0) > VIVID
    return vivid & (_nearest_colour(rgb) == COLOURS.index(colour))


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Return intersection over union of two boxes (left, top, right, bottom)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return common / (both - common)


def hue(rgb: np.ndarray) -> np.ndarray:
    """Return the hue, 0 to 1, of colours [3, ...]."""
    high, low = rgb.max(0), rgb.min(0)
    span = np.maximum(high - low, 1e-6)
    r, g, b = rgb
    greener = np.where(high == g, 2 + (b - r) / span, 4 + (r - g) / span)
    sector = np.where(high == r, (g - b) / span, greener)
    return sector / 6 % 1


def _nearest_colour(rgb: np.ndarray) -> np.ndarray:
    names = np.array([HUES[colour] for colour in COLOURS])[:, None, None]
    away = np.abs(hue(rgb)[None] - names)
    return np.minimum(away, 1 - away).argmin(0)


def _of_colour(chroma: np.ndarray, mask: np.ndarray, colour: int) -> list[Found]:
    patches, _ = ndimage.label(mask & (chroma > VIVID))
    found = []
    for number, place in enumerate(ndimage.find_objects(patches), 1):
        patch = patches[place] == number
        if patch.sum() >= LEAST_PIXELS:
            found += _cores(np.where(patch, chroma[place], 0), place, colour)
    return found


def _cores(chroma: np.ndarray, place: Window, colour: int) -> list[Found]:
    """Return the objects in one patch: what is at least half as vivid as its most vivid part."""
    parts, _ = ndimage.label(chroma > 0.5 * np.percentile(chroma[chroma > 0], 90))
    found = []
    for number, inner in enumerate(ndimage.find_objects(parts), 1):
        patch = parts[inner] == number
        if patch.sum() >= LEAST_PIXELS:
            box = _box(place, inner)
            shape, fit = _shape(patch)
            found.append(Found(COLOURS[colour], shape, box, fit))
    return found


def _box(outer: Window, inner: Window) -> tuple[float, float, float, float]:
    top, left = outer[0].start + inner[0].start, outer[1].start + inner[1].start
    height, width = inner[0].stop - inner[0].start, inner[1].stop - inner[1].start
    return left / SIZE, top / SIZE, (left + width) / SIZE, (top + height) / SIZE


def _shape(patch: np.ndarray) -> tuple[str, float]:
    image = torch.from_numpy(patch)[None, None].float()
    resized = F.interpolate(image, (TEMPLATE, TEMPLATE), mode="area")[0]
    templates = _templates()
    common = torch.minimum(resized, templates).sum((1, 2))
    fit = common / torch.maximum(resized, templates).sum((1, 2))
    best = int(fit.argmax())
    return SHAPES[best], float(fit[best])


@cache
def _templates() -> Tensor:
    """Return every shape filling its own box: [5, 24, 24]."""
    scenes = [ToyScene((Thing("red", shape, 0.5, 0.5, 0.25),), "sand") for shape in SHAPES]
    out = []
    for mask in silhouettes(scenes)[:, 0]:
        rows, columns = (mask > 0.5).any(1).nonzero(), (mask > 0.5).any(0).nonzero()
        crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        out.append(F.interpolate(crop[None, None], (TEMPLATE, TEMPLATE), mode="area")[0, 0])
    return torch.stack(out)


def _ground(rgb: np.ndarray, chroma: np.ndarray) -> str:
    """Return the ground whose colour is nearest to the dull pixels', brightness counting less."""
    dull = rgb[:, chroma < VIVID]
    mean = dull.mean(1) if dull.shape[1] else rgb.mean((1, 2))

    def away(ground: str) -> float:
        paint = np.array(GROUND_PAINT[ground])
        tint = np.linalg.norm(mean / mean.sum() - paint / paint.sum())
        return float(tint + 0.1 * abs(mean.mean() - paint.mean()))

    return min(GROUNDS, key=away)
