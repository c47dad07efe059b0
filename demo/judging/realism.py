"""How much a picture's texture, light and shading are like those of true ``photo`` scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

import numpy as np
from scipy import ndimage
from scipy.linalg import sqrtm
from torch import Generator, Tensor

from ..toy.paint import paint
from ..toy.picture import GROUNDS, random_scene
from .detect import VIVID, read, small

FEATURES = (
    "fine grain",
    "middle grain",
    "coarse grain",
    "grain across",
    "grain down",
    "light across the picture",
    "shading of objects",
    "shine",
    "shadow",
)
REFERENCES = 400


def features(picture: Tensor) -> np.ndarray:
    """Return the statistics of :data:`FEATURES` of a picture [3, H, W] in 0..1.

    They are in units of brightness.
    """
    rgb = small(picture).clamp(0, 1).numpy().astype(np.float64)
    light, vivid = rgb.mean(0), rgb.max(0) - rgb.min(0) > VIVID
    away = ndimage.distance_transform_edt(~vivid) if vivid.any() else np.full(light.shape, 99.0)
    ground, near = away > 7, (away > 1.5) & (away < 5)
    inside = ndimage.distance_transform_edt(vivid) > 2
    blurred = [light, *(ndimage.gaussian_filter(light, sigma) for sigma in (1, 2, 4))]
    bands = [_spread(fine - coarse, ground) for fine, coarse in pairwise(blurred)]
    steps = [_mean(np.abs(np.diff(light, axis=axis, append=0)), ground) for axis in (1, 0)]
    slope, shading = _slope(light, ground), _shading(light, inside)
    shine = np.percentile(light[inside], 98) - np.median(light[inside]) if inside.any() else 0
    shadow = light[ground].mean() - light[near].mean() if ground.any() and near.any() else 0
    return np.array([*bands, *steps, slope, shading, shine, shadow])


class Realism:
    """Scores against true scenes.

    ``through`` is what models' pictures go through and references therefore must: the autoencoder,
    from [B, 3, 64, 64] in 0..1 to the same.
    """

    def __init__(self, through: Callable[[Tensor], Tensor]) -> None:
        photo, flat = _references("photo", through), _references("flat", through)
        self.photo = np.array([values for values, _ in photo])
        by_ground: dict[str, list[np.ndarray]] = {ground: [] for ground in GROUNDS}
        for values, ground in photo:
            by_ground[ground].append(values)
        self.by_ground = {ground: np.array(values) for ground, values in by_ground.items()}
        self.near = np.mean([self._distance(*pair) for pair in photo])
        self.far = np.mean([self._distance(*pair) for pair in flat])

    def score(self, picture: Tensor) -> float:
        """Return how near a picture [3, H, W] in 0..1 is to true photo scenes, 0..1.

        1 is as near as these are to each other, 0 as far from them as flat scenes. Near and far are
        mean deviations from photo scenes on the same ground, in standard deviations.
        """
        distance = self._distance(features(picture), read(picture).ground)
        return float(np.clip((self.far - distance) / (self.far - self.near), 0, 1))

    def frechet(self, pictures: Sequence[Tensor]) -> float:
        """Return the Frechet distance of pictures' features [3, H, W] to true photo scenes'.

        Features are in units of the photo scenes' standard deviations.
        """
        scale = self.photo.std(0)
        a, b = self.photo / scale, np.array([features(picture) for picture in pictures]) / scale
        spread_a, spread_b = np.cov(a.T), np.cov(b.T)
        cross = sqrtm(spread_a @ spread_b).real
        between_means = ((a.mean(0) - b.mean(0)) ** 2).sum()
        return float(between_means + np.trace(spread_a + spread_b - 2 * cross))

    def _distance(self, values: np.ndarray, ground: str) -> float:
        reference = self.by_ground[ground]
        return float(np.abs((values - reference.mean(0)) / reference.std(0)).mean())


def _references(look: str, through: Callable[[Tensor], Tensor]) -> list[tuple[np.ndarray, str]]:
    random = Random("references")
    scenes = [random_scene(random) for _ in range(REFERENCES)]
    pictures = through(paint(scenes, look, Generator().manual_seed(1)))
    return [(features(p), scene.ground) for p, scene in zip(pictures, scenes, strict=True)]


def _spread(values: np.ndarray, where: np.ndarray) -> float:
    return float(values[where].std()) if where.any() else 0.0


def _mean(values: np.ndarray, where: np.ndarray) -> float:
    return float(values[where].mean()) if where.any() else 0.0


def _slope(light: np.ndarray, where: np.ndarray) -> float:
    """Return how much the best plane through the brightness rises over the picture."""
    if where.sum() < 16:
        return 0.0
    rows, columns = np.nonzero(where)
    design = np.stack([rows / light.shape[0], columns / light.shape[1], np.ones(len(rows))], 1)
    plane, *_ = np.linalg.lstsq(design, light[where], rcond=None)
    return float(np.hypot(plane[0], plane[1]))


def _shading(light: np.ndarray, inside: np.ndarray) -> float:
    """Return the mean spread of brightness within objects."""
    patches, count = ndimage.label(inside)
    spreads = [light[patches == number].std() for number in range(1, count + 1)]
    return float(np.mean(spreads)) if count else 0.0
