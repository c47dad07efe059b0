"""Layouts, traces and curves as sheets: images [height, width, 3], values 0..1, on the CPU.

Text is drawn by an injected :data:`Caption`, since fonts belong to the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor

from ..layout.model import Box, Layout
from ..sampling.trace import Reading, Step, Trace
from .image import BACKGROUND, Colour, beside, colour, enlarge, outline, paint, polyline, stack
from .labels import Rect, place

Caption = Callable[[str, int], Tensor]
"""Text and a width in pixels -> an image of that width, light text on the sheet's background."""

INK, GRID = (0.92, 0.92, 0.92), (0.25, 0.25, 0.28)
LUMINANCE = (0.30, 0.59, 0.11)  # of red, green and blue
TEXT_COLOUR, SPATIAL_COLOUR = (0.25, 0.55, 0.95), (0.95, 0.55, 0.15)
PALETTE = (
    (0.90, 0.30, 0.30),
    (0.30, 0.60, 0.95),
    (0.35, 0.75, 0.40),
    (0.95, 0.75, 0.25),
    (0.70, 0.45, 0.90),
    (0.30, 0.80, 0.80),
    (0.95, 0.50, 0.75),
    (0.65, 0.60, 0.35),
    (0.95, 0.55, 0.20),
    (0.55, 0.85, 0.25),
    (0.45, 0.45, 0.75),
    (0.60, 0.35, 0.20),
)
HEAT = ((0.05, 0.03, 0.15), (0.45, 0.10, 0.45), (0.90, 0.35, 0.20), (1.00, 0.95, 0.60))
CROWDED = 8  # rows of attention that are read well one below the other
BALANCE = (SPATIAL_COLOUR, (0.93, 0.93, 0.93), TEXT_COLOUR)


def layout_image(canvas: Tensor, layout: Layout, caption: Caption) -> Tensor:
    """Return a canvas [H, W, 3] with each object's region tinted, outlined and labelled."""
    height, width = canvas.shape[:2]
    thickness = max(1, min(height, width) // 200)
    labels = []
    for index, placed in enumerate(layout.objects):
        ink = PALETTE[index % len(PALETTE)]
        region = placed.region(height, width)
        canvas = paint(canvas, region, ink, 0.25)
        canvas = paint(canvas, outline(region, height, width, thickness), ink)
        labels.append(_label(caption(placed.phrase, width), ink))
    rects = [_rect(placed.box, height, width) for placed in layout.objects]
    return _labelled(canvas, rects, labels)


def balance_sheet(trace: Trace, caption: Caption, sample: int = 0, tile: int = 128) -> Tensor:
    """Return one sample's balance at every blended step, as an image [H, W, 3].

    It is blue where the text branch leads and orange where the spatial one does.
    """
    blended = trace.blended()
    if not blended:
        return caption("No blended steps: one model did them all.", 4 * tile)
    tiles = []
    for step, weight in blended:
        tiles.append(_balance_tile(step, weight[sample, 0], trace.layout, caption, tile))
    columns = max(4, math.ceil(math.sqrt(2 * len(tiles))))
    rows = [beside(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return stack([_balance_legend(caption, tile), *rows])


def attention_sheet(
    trace: Trace, caption: Caption, sample: int = 0, tile: int = 128, columns: int = 8
) -> Tensor:
    """Return one sample's attention, a row for each branch and object, as an image [H, W, 3].

    Each tile has the object's region drawn over it, and the share of attention inside below. The
    branches of many objects stand side by side, with fewer steps of each; the text branch, which a
    warm-up leaves out, comes first all the same.
    """
    read = [step for step in trace.steps if step.readings]
    if not read:
        return caption("No attention was read: the balance did not move in this mode.", 4 * tile)
    branches = _branches(read)
    crowded = _object_count(read[-1]) > CROWDED
    if crowded:
        columns = max(1, columns // len(branches))
    steps = _spread(read, columns)
    rows = [_attention_rows(steps, name, caption, sample, tile) for name in branches]
    blocks = [stack(found) for found in rows if found]
    legend = _attention_legend(caption, tile)
    return stack([legend, beside(blocks)] if crowded else [legend, *blocks])


def _branches(steps: Sequence[Step]) -> list[str]:
    """Return the names of the branches that were read, those of later steps first."""
    return list(dict.fromkeys(name for step in reversed(steps) for name in step.readings))


def _object_count(step: Step) -> int:
    """Return how many objects all branches of a step read, together."""
    readings = chain.from_iterable(step.readings.values())
    return sum(len(reading.objects.phrases) for reading in readings)


def loss_curves(trace: Trace, caption: Caption, width: int = 640, height: int = 320) -> Tensor:
    """Return each branch's attention loss over the steps, as an image [H, W, 3].

    0 is all attention inside the regions.
    """
    last = max(trace.total_steps - 1, 0)
    return curves(trace.losses(), last, "Attention loss, sum over objects", caption, width, height)


def curves(
    rows: Sequence[Mapping[str, float]],
    last: int,
    title: str,
    caption: Caption,
    width: int = 640,
    height: int = 320,
) -> Tensor:
    """Return a line for each named value over the steps 0 to ``last``, as an image [H, W, 3].

    Rows are such as ``{"step": 3, "text": 0.5}``.
    """
    lines = _lines(rows)
    top = max((value for line in lines.values() for _, value in line), default=1.0) or 1.0
    inks = {name: _branch_ink(name, index) for index, name in enumerate(lines)}
    plot = _axes(height, width)
    for name, line in lines.items():
        points = [(step / max(last, 1), value / top) for step, value in line]
        plot = paint(plot, polyline(points, height, width), inks[name])
    head = caption(f"{title}: 0 to {top:.2f}; steps 0 to {last}", width)
    return stack([head, _legend(inks, caption), plot])


def _lines(rows: Sequence[Mapping[str, float]]) -> dict[str, list[tuple[float, float]]]:
    """Return the finite values by name, each with its step."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step" and math.isfinite(value):
                lines.setdefault(name, []).append((row["step"], value))
    return lines


def _tile_size(height: int, width: int, tile: int) -> tuple[int, int]:
    scale = tile / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _balance_tile(
    step: int, weight: Tensor, layout: Layout | None, caption: Caption, tile: int
) -> Tensor:
    size = _tile_size(*weight.shape, tile)
    image = colour(enlarge(weight, *size), BALANCE)
    for region in layout.rasterise(*size) if layout else ():
        image = paint(image, outline(region, *size), (0.1, 0.1, 0.1))
    mean = f"{float(weight.mean()):.0%} text"
    return stack([image, caption(f"step {step}: {mean}", size[1])], gap=2)


def _balance_legend(caption: Caption, tile: int) -> Tensor:
    ramp = colour(torch.linspace(0, 1, tile).expand(14, -1), BALANCE)
    return beside([caption("spatial branch", tile), ramp, caption("text branch", tile)])


def _attention_legend(caption: Caption, tile: int) -> Tensor:
    ramp = colour(torch.linspace(0, 1, tile).expand(14, -1), HEAT)
    words = caption("Attention of each object; the outline is its region.", 3 * tile)
    return stack([words, beside([caption("none", tile // 2), ramp, caption("most", tile // 2)])])


def _attention_rows(
    steps: Sequence[Step], name: str, caption: Caption, sample: int, tile: int
) -> list[Tensor]:
    """Return a row for each object of each conditioning; two objects may have the same words."""
    tiles: dict[tuple[int, int], dict[int, Tensor]] = {}
    titles: dict[tuple[int, int], str] = {}
    for column, step in enumerate(steps):
        for number, reading in enumerate(step.readings.get(name, ())):
            for index, phrase in enumerate(reading.objects.phrases):
                inside = 1 - float(reading.losses[sample, index])
                titles[number, index] = f"{name}: {phrase}, {inside:.0%} inside at the end"
                found = _attention_tile(step, reading, index, caption, sample, tile)
                tiles.setdefault((number, index), {})[column] = found
    rows = {key: beside(_spaced(row, len(steps))) for key, row in tiles.items()}
    return [stack([caption(titles[key], 3 * tile), row], gap=2) for key, row in rows.items()]


def _spaced(tiles: Mapping[int, Tensor], columns: int) -> list[Tensor]:
    """Return tiles in their columns, empty ones where a step did not read this branch."""
    empty = torch.tensor(BACKGROUND).expand_as(next(iter(tiles.values())))
    return [tiles.get(column, empty) for column in range(columns)]


def _attention_tile(
    step: Step, reading: Reading, index: int, caption: Caption, sample: int, tile: int
) -> Tensor:
    attention = reading.attention[sample, index]
    size = _tile_size(*attention.shape, tile)
    heat = colour(enlarge(attention / attention.max().clamp(min=1e-12), *size), HEAT)
    image = paint(heat, outline(reading.objects.regions[index], *size), (0.4, 1.0, 0.5))
    inside = 1 - float(reading.losses[sample, index])
    return stack([image, caption(f"step {step.index}: {inside:.0%} inside", size[1])], gap=2)


def _spread(steps: Sequence[Step], most: int) -> list[Step]:
    """Return at most ``most`` of the steps, evenly spread: the first and, beyond one, the last."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / max(most - 1, 1))] for i in range(most)]


def _axes(height: int, width: int) -> Tensor:
    plot = torch.tensor(BACKGROUND).expand(height, width, 3).clone()
    for level in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = height - 9 - round(level * (height - 17))
        plot[y, 8:-8] = torch.tensor(GRID)
    return plot


def _legend(inks: Mapping[str, Colour], caption: Caption) -> Tensor:
    if not inks:
        return caption("nothing was read", 200)
    images = []
    for name, ink in inks.items():
        images += [torch.tensor(ink).expand(14, 24, 3), caption(name, 90)]
    return beside(images)


def _branch_ink(name: str, index: int) -> Colour:
    return {"text": TEXT_COLOUR, "spatial": SPATIAL_COLOUR}.get(name, PALETTE[index % len(PALETTE)])


def _label(line: Tensor, ink: Colour) -> Tensor:
    """Return a caption cut to its text, dark or light on the object's colour, as reads better."""
    strength = (line - torch.tensor(BACKGROUND)).abs().amax(dim=-1)
    written = (strength > 0.2).any(dim=0).nonzero()
    width = min(int(written[-1]) + 4, line.shape[1]) if len(written) else line.shape[1]
    alpha = (strength[:, :width] / strength.max().clamp(min=1e-6))[..., None].expand(-1, -1, 3)
    luminance = sum(share * part for share, part in zip(LUMINANCE, ink, strict=True))
    text = torch.zeros(3) if luminance > 0.45 else torch.ones(3)
    return torch.lerp(torch.tensor(ink).expand_as(alpha), text.expand_as(alpha), alpha)


def _labelled(canvas: Tensor, regions: Sequence[Rect], labels: Sequence[Tensor]) -> Tensor:
    height, width = canvas.shape[:2]
    if any(label.shape[0] > height for label in labels):  # a canvas too small for words
        return canvas
    places = place(regions, [(label.shape[0], label.shape[1]) for label in labels], (height, width))
    canvas = canvas.clone()
    for (top, left, bottom, right), label in zip(places, labels, strict=True):
        canvas[top:bottom, left:right] = label[:, : right - left]
    return canvas


def _rect(box: Box, height: int, width: int) -> Rect:
    return (
        int(box.y0 * height),
        int(box.x0 * width),
        math.ceil(box.y1 * height),
        math.ceil(box.x1 * width),
    )
