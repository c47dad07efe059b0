"""Whose rows of a batch are whose, and where in the latent they lie.

Stock evaluates each conditioning at the whole latent, or at its area, in rows that follow each
other. What other packs put around a model may evaluate tiles or windows of the latent, some rows
alone, rows twice or in another order. Such rows are found by what they hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import torch
from torch import Tensor

from ....realcompo_core.words.grounding import Grounding, Objects
from .readers.reader import Given, Size, TextRows


@dataclass(frozen=True)
class Watched:
    """What is read of one conditioning: its objects, with regions in latent cells of its area.

    ``text`` is how the network gets its text, ``encoded`` that text [1 or samples, rows, width].
    ``grounding`` ties its words to its layout. ``side`` is its list among those that the host
    evaluates together.
    """

    objects: Objects
    text: TextRows
    encoded: Tensor
    grounding: Grounding
    side: int = 0

    @property
    def size(self) -> Size:
        """Return the height and width of its area, in latent cells."""
        height, width = self.objects.parts[0].shape[-2:]
        return height, width

    def area(self, latent: Tensor) -> Tensor:
        """Return the part of a latent [..., H, W] that it is evaluated at."""
        (top, left), (height, width) = self.objects.corner, self.size
        return latent[..., top : top + height, left : left + width]


@dataclass(frozen=True)
class Part:
    """Rows of a batch that are one conditioning's, of these ``samples`` of the latent.

    ``corner`` (row, column) is where in its area their cells begin.
    """

    given: Given
    uuid: UUID
    rows: Sequence[int]
    samples: Sequence[int]
    corner: tuple[int, int]

    @property
    def size(self) -> Size:
        """Return how many cells they have: height and width."""
        return self.given.size


def sought_in(given: Given, watched: Mapping[UUID, Watched]) -> dict[UUID, int]:
    """Return which watched conditionings the host says to be in a batch, and in which place."""
    found = {}
    for place, (uuid, side) in enumerate(zip(given.uuids, given.sides, strict=True)):
        # The host lends a positive with an area, id and all, to the negative.
        if uuid in watched and watched[uuid].side == side:
            found[uuid] = place
    return found


def parts_of(given: Given, place: int, latent: Tensor, uuid: UUID, watched: Watched) -> list[Part]:
    """Return the parts of a batch that are a conditioning's, at a latent [B, C, ..., H, W].

    ``place`` is where the host says it to be. There are none where its rows are in another batch,
    or hold neither its text nor cells of its area.
    """
    count = len(latent)
    rows = range(place * count, (place + 1) * count)
    stock = Part(given, uuid, rows, range(count), (0, 0))
    fits = len(given.latent) == count * len(given.uuids) and given.size == watched.size
    if fits and _is_text(given.text[rows.start : rows.stop], watched.encoded):
        return [stock]
    found = _found(given, latent, uuid, watched)
    if found or not fits:
        return found
    return [stock]  # its text was changed on the way


def _found(given: Given, latent: Tensor, uuid: UUID, watched: Watched) -> list[Part]:
    """The parts whose rows hold this conditioning's text and cells of its area."""
    places: dict[tuple[int, int], dict[int, int]] = {}
    area = _flat(watched.area(latent))
    for row, cells in enumerate(_flat(given.latent)):
        for sample, whole in enumerate(area):
            encoded = watched.encoded[sample % len(watched.encoded)]
            corner = _corner(cells, whole) if _is_text(given.text[row], encoded) else None
            if corner is not None and sample not in places.get(corner, {}):
                places.setdefault(corner, {})[sample] = row
                break
    return [
        Part(given, uuid, list(rows.values()), list(rows), corner)
        for corner, rows in places.items()
    ]


def _corner(cells: Tensor, whole: Tensor) -> tuple[int, int] | None:
    """Where in ``whole`` [C, H, W] lie ``cells`` [C, h, w], bit for bit."""
    height, width = cells.shape[-2:]
    down, right = whole.shape[-2] - height + 1, whole.shape[-1] - width + 1
    if down < 1 or right < 1:
        return None
    begins = (whole[:, :down, :right] == cells[:, :1, :1]).all(dim=0)
    for y, x in begins.nonzero().tolist():
        if torch.equal(whole[:, y : y + height, x : x + width], cells):
            return y, x
    return None


def _flat(latent: Tensor) -> Tensor:
    """A latent with its time, if it has one, among the channels."""
    return latent.flatten(1, -3)


def _is_text(text: Tensor, encoded: Tensor) -> bool:
    """Whether rows [..., tokens, width] begin with this text; a longer one repeats it."""
    begin = text[..., : encoded.shape[-2], :]
    if begin.shape[-2:] != encoded.shape[-2:]:
        return False
    return bool((begin == _repeated(encoded, begin)).all())


def _repeated(encoded: Tensor, like: Tensor) -> Tensor:
    """The text of a batch for more samples, as the host repeats it."""
    if encoded.ndim == 2 or len(encoded) in (1, len(like)):
        return encoded
    return encoded.repeat(-(-len(like) // len(encoded)), 1, 1)[: len(like)]
