"""Coloured segmentation maps -> regions: each colour of a table is an object or several."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError, brief, within
from .ade20k import COLOURS, Colour, names_of
from .regions import Region, check_count, extent, left_to_right

HEXADECIMAL = frozenset("0123456789abcdef")
SHOWN = 12  # colours that an error lists
KEPT = 4096  # of the commonest colours of an image, among which those are looked for
NOTHING = -1  # the class of a pixel that is in no colour of the table
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))  # down and right, to half of a pixel's neighbours


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
        """Return regions with phrase and mask, in the table's order, of one colour left to right.

        ``image`` is [H, W, 3], values 0..1. Raises :class:`InputError`, with the colours that are
        in the image, where one of the table is not.
        """
        pixels = (image[..., :3].detach().float().cpu().clamp(0, 1) * 255).round().int()
        classes = nearest(pixels, [colour for colour, _ in table], self.tolerance)
        areas = components(classes) if self.separate else classes
        members: list[tuple[str, list[int]]] = []
        for index, (colour, phrase) in enumerate(table):
            labels = self._large(areas[classes == index], classes.numel())
            if not labels:
                raise self._missing(colour, phrase, pixels)
            members.append((phrase, labels))
        check_count("minimum area", sum(len(labels) for _, labels in members))
        regions: list[Region] = []
        for phrase, labels in members:
            regions += _regions(areas, labels, phrase)
        return regions

    def _large(self, areas: Tensor, pixels: int) -> list[int]:
        """Return the labels of a colour's areas that are large enough."""
        labels, sizes = areas.unique(return_counts=True)
        return labels[sizes >= max(self.minimum_area * pixels, 1)].tolist()

    def _missing(self, colour: Colour, phrase: str, pixels: Tensor) -> InputError:
        found = colours_of(pixels, self.tolerance)
        got = ", ".join(f"{shown(other)} {share:.1%}" for other, share in found)
        fix = "Take a colour from the list, raise the tolerance, or lower the minimum area."
        return InputError(f"colour of {phrase!r}", f"{shown(colour)} in the image", got, fix)


def parse_table(text: str) -> list[tuple[Colour, str]]:
    """Return the colours and phrases of lines ``colour = phrase``.

    A colour is ``#rrggbb``, ``red, green, blue`` (0..255) or the name of an ADE20K class. Raises
    :class:`InputError` for anything else, for a colour given twice, and for an empty table.
    """
    table: dict[Colour, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
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
    """Return the colour that ``#rrggbb``, ``red, green, blue`` or an ADE20K class name stands for.

    Raises :class:`InputError` for anything else.
    """
    name = text.strip().lower()
    if name in COLOURS:
        return COLOURS[name]
    digits = name.removeprefix("#")
    if len(digits) == 6 and set(digits) <= HEXADECIMAL:
        return _colour(bytes.fromhex(digits))
    parts = name.strip("()[]").replace(",", " ").split()
    if len(parts) == 3 and all(map(_is_channel, parts)):
        return _colour([int(part) for part in parts])
    close = difflib.get_close_matches(name, COLOURS, 3)
    fix = "Copy the colour from the image as #rrggbb."
    if close:
        fix = f"Did you mean {', '.join(close)}?"
    expected = "#rrggbb, red green blue or an ADE20K class"
    raise InputError("colour", expected, brief(text.strip(), 40), fix)


def nearest(pixels: Tensor, colours: Sequence[Colour], tolerance: int) -> Tensor:
    """Return the index of each pixel's nearest colour within the tolerance, or :data:`NOTHING`.

    ``pixels`` [H, W, 3] are integers 0..255, the result is [H, W]; the distance is the largest
    difference of a channel.
    """
    best = torch.full(pixels.shape[:2], tolerance + 1, dtype=torch.int32)
    classes = torch.full(pixels.shape[:2], NOTHING)
    for index, colour in enumerate(colours):
        distance = (pixels - torch.tensor(colour, dtype=torch.int32)).abs().amax(dim=-1)
        closer = distance < best
        best = torch.where(closer, distance, best)
        classes = torch.where(closer, index, classes)
    return classes


def components(classes: Tensor) -> Tensor:
    """Return a label [H, W] for each pixel, equal within a connected area of equal class [H, W].

    Pixels that meet at a corner are connected. Every pixel points to a smaller one of its area
    until all point to the smallest (label propagation with pointer jumping).
    """
    height, width = classes.shape
    index = torch.arange(height * width).reshape(height, width)
    pairs = torch.cat([_neighbours(classes, index, *direction) for direction in DIRECTIONS])
    parent = index.flatten()
    while len(pairs := pairs[parent[pairs[:, 0]] != parent[pairs[:, 1]]]):
        ends = parent[pairs]
        parent = parent.scatter_reduce(0, ends.amax(dim=1), ends.amin(dim=1), "amin")
        while not torch.equal(parent, jumped := parent[parent]):
            parent = jumped
    return parent.reshape(height, width)


def colours_of(pixels: Tensor, tolerance: int) -> list[tuple[Colour, float]]:
    """Return the commonest colours of an image [H, W, 3] of integers 0..255, with their shares.

    A colour within the tolerance of a commoner one counts as that.
    """
    colours, counts = pixels.reshape(-1, 3).unique(dim=0, return_counts=True)
    order = counts.argsort(descending=True)[:KEPT]
    colours, counts = colours[order], counts[order].double() / pixels[..., 0].numel()
    found = []
    while len(colours) and len(found) < SHOWN:
        same = (colours - colours[0]).abs().amax(dim=-1) <= tolerance
        found.append((_colour(colours[0].tolist()), float(counts[same].sum())))
        colours, counts = colours[~same], counts[~same]
    return sorted(found, key=lambda pair: -pair[1])


def shown(colour: Colour) -> str:
    """Return a colour as messages show it: ``#06e6e6 (sky)``."""
    names = names_of(colour)
    return f"#{bytes(colour).hex()}" + (f" ({names})" if names else "")


def _regions(areas: Tensor, labels: Sequence[int], phrase: str) -> list[Region]:
    masks = [areas == label for label in labels]
    return left_to_right([Region(extent(mask.float()), phrase, mask) for mask in masks])


def _row(line: str) -> tuple[Colour, str]:
    colour, equals, phrase = line.partition("=")
    if not equals or not phrase.strip():
        fix = "Example: tree = an old oak"
        raise InputError("colours", "`colour = phrase`", brief(line.strip()), fix)
    return parse_colour(colour), phrase.strip()


def _colour(parts: Sequence[int]) -> Colour:
    red, green, blue = parts
    return red, green, blue


def _is_channel(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 5 and int(text) < 256


def _neighbours(classes: Tensor, index: Tensor, down: int, right: int) -> Tensor:
    """Return pairs [count, 2] of pixels of equal class, one ``down`` and ``right`` of the other."""
    height, width = classes.shape
    here = slice(0, height - down), slice(max(-right, 0), width - max(right, 0))
    there = slice(down, height), slice(max(right, 0), width + min(right, 0))
    same = (classes[here] == classes[there]) & (classes[here] != NOTHING)
    return torch.stack([index[here][same], index[there][same]], dim=1)
