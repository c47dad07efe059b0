"""Coloured segmentation maps -> regions: each colour of a table is an object or several."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError, within
from .ade20k import COLOURS, Colour, names_of
from .regions import Region, check_count, extent, left_to_right

SHOWN = 12  # colours that an error lists
NOTHING = -1  # the class of a pixel that is in no colour of the table


@dataclass(frozen=True)
class Segmenter:
    """How a map becomes regions.

    ``tolerance`` is the largest difference of a channel, 0..255, at which a pixel still counts as
    a colour of the table; the nearest colour takes it. ``separate`` makes each connected area its
    own region, and ``minimum_area`` (share of the picture) drops smaller ones.
    """

    tolerance: int = 8
    separate: bool = False
    minimum_area: float = 0.001

    def regions(self, image: Tensor, table: Sequence[tuple[Colour, str]]) -> list[Region]:
        """Regions with phrase and mask, in the table's order, those of one colour from left to right.

        ``image`` is [H, W, 3], values 0..1. Raises :class:`InputError`, with the colours that are
        in the image, where one of the table is not.
        """
        pixels = (image[..., :3].detach().float().cpu().clamp(0, 1) * 255).round().int()
        classes = nearest(pixels, [colour for colour, _ in table], self.tolerance)
        areas = components(classes) if self.separate else classes
        members = [
            self._members(areas[classes == index], classes.numel()) for index in range(len(table))
        ]
        for (colour, phrase), labels in zip(table, members, strict=True):
            if not labels:
                raise self._missing(colour, phrase, pixels)
        check_count("minimum area", sum(map(len, members)))
        pairs = zip(table, members, strict=True)
        return [
            region for (_, phrase), labels in pairs for region in _regions(areas, labels, phrase)
        ]

    def _members(self, areas: Tensor, pixels: int) -> list[int]:
        """The labels of a colour's areas that are large enough."""
        labels, sizes = areas.unique(return_counts=True)
        return labels[sizes >= max(self.minimum_area * pixels, 1)].tolist()

    def _missing(self, colour: Colour, phrase: str, pixels: Tensor) -> InputError:
        got = ", ".join(
            f"{shown(c)} {share:.1%}" for c, share in colours_of(pixels, self.tolerance)
        )
        fix = "Take a colour from the list, raise the tolerance, or lower the minimum area."
        return InputError(f"colour of {phrase!r}", f"{shown(colour)} in the image", got, fix)


def parse_table(text: str) -> list[tuple[Colour, str]]:
    """Colours and phrases from lines ``colour = phrase``.

    A colour is ``#rrggbb``, ``red, green, blue`` (0..255) or the name of an ADE20K class. Raises
    :class:`InputError` for anything else, for a colour given twice, and for an empty table.
    """
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    table: dict[Colour, str] = {}
    for number, line in lines:
        with within(f"line {number}"):
            colour, phrase = _row(line)
            if colour in table:
                fix = "Give each colour one phrase (road and skyscraper share a colour)."
                raise InputError("colour", "a new colour", f"{shown(colour)} again", fix)
            table[colour] = phrase
    if not table:
        raise InputError("colours", "lines `colour = phrase`", "none", "Example: tree = an old oak")
    return list(table.items())


def parse_colour(text: str) -> Colour:
    """A colour from ``#rrggbb``, ``red, green, blue`` or an ADE20K class name; raises :class:`InputError`."""
    name = text.strip().lower()
    if name in COLOURS:
        return COLOURS[name]
    digits = name.removeprefix("#")
    if len(digits) == 6 and set(digits) <= set("0123456789abcdef"):
        return _colour([int(digits[i : i + 2], 16) for i in (0, 2, 4)])
    parts = name.strip("()[]").replace(",", " ").split()
    if len(parts) == 3 and all(
        part.isascii() and part.isdigit() and int(part[:4]) < 256 for part in parts
    ):
        return _colour([int(part) for part in parts])
    close = difflib.get_close_matches(name, COLOURS, 3)
    fix = (
        f"Did you mean {', '.join(close)}?"
        if close
        else "Copy the colour from the image as #rrggbb."
    )
    raise InputError(
        "colour", "#rrggbb, red green blue or an ADE20K class", repr(text.strip()[:40]), fix
    )


def nearest(pixels: Tensor, colours: Sequence[Colour], tolerance: int) -> Tensor:
    """The index of each pixel's nearest colour within the tolerance, or :data:`NOTHING`.

    ``pixels`` [H, W, 3] are integers 0..255; the distance is the largest difference of a channel.
    """
    best = torch.full(pixels.shape[:2], tolerance + 1, dtype=torch.int32)
    classes = torch.full(pixels.shape[:2], NOTHING)
    for index, colour in enumerate(colours):
        distance = (pixels - torch.tensor(colour, dtype=torch.int32)).abs().amax(dim=-1)
        closer = distance < best
        best, classes = torch.where(closer, distance, best), torch.where(closer, index, classes)
    return classes


def components(classes: Tensor) -> Tensor:
    """Connected areas of equal class [H, W], corners count: a label for each pixel, equal within an area.

    Every pixel points to a smaller one of its area until all point to the smallest (label
    propagation with pointer jumping).
    """
    height, width = classes.shape
    index = torch.arange(height * width).reshape(height, width)
    pairs = torch.cat(
        [
            _neighbours(classes, index, down, right)
            for down, right in ((0, 1), (1, 0), (1, 1), (1, -1))
        ]
    )
    parent = index.flatten()
    while len(pairs := pairs[parent[pairs[:, 0]] != parent[pairs[:, 1]]]):
        ends = parent[pairs]
        parent = parent.scatter_reduce(0, ends.amax(dim=1), ends.amin(dim=1), "amin")
        while not torch.equal(parent, jumped := parent[parent]):
            parent = jumped
    return parent.reshape(height, width)


def colours_of(pixels: Tensor, tolerance: int) -> list[tuple[Colour, float]]:
    """The commonest colours of an image [H, W, 3] of integers 0..255, with their shares.

    A colour within the tolerance of a commoner one counts as that.
    """
    colours, counts = pixels.reshape(-1, 3).unique(dim=0, return_counts=True)
    order = counts.argsort(descending=True)[:4096]
    colours, counts = colours[order], counts[order].double() / pixels[..., 0].numel()
    found = []
    while len(colours) and len(found) < SHOWN:
        same = (colours - colours[0]).abs().amax(dim=-1) <= tolerance
        found.append((_colour(colours[0].tolist()), float(counts[same].sum())))
        colours, counts = colours[~same], counts[~same]
    return sorted(found, key=lambda pair: -pair[1])


def shown(colour: Colour) -> str:
    """A colour for messages: ``#06e6e6 (sky)``."""
    names = names_of(colour)
    return f"#{bytes(colour).hex()}" + (f" ({names})" if names else "")


def _regions(areas: Tensor, labels: Sequence[int], phrase: str) -> list[Region]:
    masks = [areas == label for label in labels]
    return left_to_right([Region(extent(mask.float()), phrase, mask) for mask in masks])


def _row(line: str) -> tuple[Colour, str]:
    colour, equals, phrase = line.partition("=")
    if not equals or not phrase.strip():
        raise InputError(
            "colours", "`colour = phrase`", repr(line.strip()[:80]), "Example: tree = an old oak"
        )
    return parse_colour(colour), phrase.strip()


def _colour(parts: Sequence[int]) -> Colour:
    red, green, blue = parts
    return red, green, blue


def _neighbours(classes: Tensor, index: Tensor, down: int, right: int) -> Tensor:
    """Pairs [count, 2] of pixels of equal class, one of which is ``down`` and ``right`` of the other."""
    height, width = classes.shape
    here = slice(0, height - down), slice(max(-right, 0), width - max(right, 0))
    there = slice(down, height), slice(max(right, 0), width + min(right, 0))
    same = (classes[here] == classes[there]) & (classes[here] != NOTHING)
    return torch.stack([index[here][same], index[there][same]], dim=1)
