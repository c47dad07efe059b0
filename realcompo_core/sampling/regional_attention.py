"""Regional attention: the image hears the words of an object only inside the object's region."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..layout.model import resample
from ..words.grounding import Objects
from .fields import check_ranges, setting

# A logit whose probability is exactly 0. It is finite: a row without any other stays a number.
SILENCE = -1e4
HIDDEN = 0.1  # of a region; of an object with less than that in sight the region counts as it is


@dataclass(frozen=True)
class RegionalSettings:
    """Say how strictly, how long and how sharply words are kept inside regions.

    Raises :class:`InputError` for values out of range.
    """

    strength: float = setting(
        1.0,
        "How far an object's words are silenced outside its region. 1 silences them wholly, 0 "
        "changes nothing.",
        low=0,
        high=1,
        step=0.05,
    )
    end: float = setting(
        1.0,
        "Where it ends, as a share of the sampler's steps. Lower leaves the later steps, and with "
        "them details and borders, to the model.",
        low=0,
        high=1,
        step=0.05,
    )
    emphasis: float = setting(
        20.0,
        "How much louder an object's words are inside its region. 1 leaves them as loud as they "
        "are. Higher holds the object there more firmly.",
        low=1,
        high=1000,
        more="It is the factor on what each word weighs before attention is shared out.",
    )
    softness: float = setting(
        0.0,
        "How far a region's border is blurred, as a share of the picture's shorter side. 0 is a "
        "sharp border.",
        low=0,
        high=0.5,
        step=0.01,
    )

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def idle(self) -> bool:
        """Whether these settings change nothing."""
        return self.strength == 0 or self.end == 0

    def acts(self, step: int, steps: int) -> bool:
        """Whether words are silenced at this step of a run."""
        return step < round(self.end * steps)


@dataclass(frozen=True)
class Hearing:
    """Where the words of a prompt's objects are heard.

    ``shares`` [T, H, W], 0..1, are those of the T ``tokens``. ``wordless`` are rows that stand for
    no word, ``inside`` [H, W] is how much of each cell regions cover.
    """

    tokens: tuple[int, ...]
    shares: Tensor
    wordless: Sequence[int]
    inside: Tensor

    @classmethod
    def of(cls, objects: Objects, wordless: Sequence[int], blur: float) -> Hearing:
        """Return where each token of the objects is heard: in the regions of all that have it.

        ``blur`` is the standard deviation of the regions' borders, in latent cells.
        """
        owners, regions = _in_order(objects)
        seen = in_sight(blurred(regions, blur))
        heard: dict[int, Tensor] = {}
        for owner, region in zip(owners, seen, strict=True):
            for token in objects.tokens[owner]:
                heard[token] = torch.maximum(heard.get(token, region), region)
        shares = torch.stack(list(heard.values()))
        return cls(tuple(heard), shares, wordless, seen.amax(dim=0))

    def log_mask(self, size: tuple[int, int], rows: int, settings: RegionalSettings) -> Tensor:
        """Return what is added to the logits [height * width, rows] of a map of this ``size``.

        ``rows`` are the text's. What a row of an object weighs, before the softmax divides by the
        sum of all, is multiplied by 1 - strength * (1 - share), and by the emphasis where it is
        heard. Rows that stand for no word are heard outside all regions.
        """
        strength, mask = settings.strength, torch.zeros(rows, size[0] * size[1])
        shares = resample(self.shares, *size).clamp(0, 1).flatten(1)
        emphasis = strength * shares * math.log(settings.emphasis)
        mask[list(self.tokens)] = _log(1 - strength * (1 - shares)) + emphasis
        inside = resample(self.inside, *size).clamp(0, 1).flatten()
        mask[list(self.wordless)] = _log(1 - strength * inside)
        return mask.T


def _log(factor: Tensor) -> Tensor:
    return factor.log().clamp(min=SILENCE)


def in_sight(regions: Tensor) -> Tensor:
    """Return what is left of each region [objects, H, W], 0..1, by those that stand in front.

    Later ones stand in front of earlier ones. An object that would hardly be seen keeps its region.
    """
    found, free = [], torch.ones_like(regions[0])
    for region in regions.flip(0):
        seen = region * free
        found.append(region if seen.sum() < HIDDEN * region.sum() else seen)
        free = free * (1 - region)
    return torch.stack(found[::-1])


def blurred(regions: Tensor, deviation: float) -> Tensor:
    """Return regions [..., H, W] blurred by a Gaussian of this standard deviation in cells.

    At the picture's edges its weights still sum to 1.
    """
    if deviation == 0:
        return regions
    rows, columns = (_gaussian(size, deviation).to(regions) for size in regions.shape[-2:])
    return rows @ regions @ columns.T


def _gaussian(size: int, deviation: float) -> Tensor:
    """Weights [size, size] of each cell for each cell, of sum 1."""
    cells = torch.arange(size, dtype=torch.float64)
    return (-((cells[:, None] - cells) ** 2) / (2 * deviation**2)).softmax(dim=1)


def _in_order(objects: Objects) -> tuple[Sequence[int], Tensor]:
    """Each region's object, by number, and the regions [regions, H, W], in the layout's order."""
    found = []
    for owner, (members, parts) in enumerate(zip(objects.members, objects.parts, strict=True)):
        for member, part in zip(members, parts, strict=True):
            found.append((member, owner, part))
    found.sort(key=lambda each: each[0])
    return [owner for _, owner, _ in found], torch.stack([part for _, _, part in found])
