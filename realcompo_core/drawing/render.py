"""Layouts, maps and curves as images: float tensors [height, width, 3], values 0..1, on the CPU.

Text is drawn by an injected :data:`Caption`, since fonts belong to the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layout.model import Box, Layout
from ..sampling.trace import Reading, Step, Trace
from .labels import Rect, place

Caption = Callable[[str, int], Tensor]
"""Text and a width in pixels -> an image of that width, light text on the sheet's background."""

BACKGROUND, INK, GRID = (0.11, 0.11, 0.13), (0.92, 0.92, 0.92), (0.25, 0.25, 0.28)
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


def colour(values: Tensor, stops: Sequence[tuple[float, float, float]]) -> Tensor:
    """Values [H, W] in 0..1 -> [H, W, 3], linear between equally spaced colours."""
    table = torch.tensor(stops)
    position = values.float().nan_to_num().clamp(0, 1) * (len(stops) - 1)
    low = position.floor().long().clamp(max=len(stops) - 2)
    return torch.lerp(table[low], table[low + 1], (position - low)[..., None])


def enlarge(values: Tensor, height: int, width: int, mode: str = "nearest") -> Tensor:
    """A map [h, w] at a size in pixels."""
    smooth = {} if mode == "nearest" else {"align_corners": False}
    return F.interpolate(values[None, None].float(), (height, width), mode=mode, **smooth)[0, 0]


def outline(region: Tensor, height: int, width: int, thickness: int = 1) -> Tensor:
    """The border of a region [h, w] (0..1) as a mask [height, width] of booleans."""
    inside = (
        enlarge(region, height, width, "bilinear" if min(region.shape) > 1 else "nearest") >= 0.5
    )
    inside = inside if inside.any() else enlarge(region, height, width) > 0
    outside = F.pad((~inside).float()[None, None], [thickness] * 4, value=1.0)
    return inside & (F.max_pool2d(outside, 2 * thickness + 1, 1)[0, 0] > 0)


def paint(
    image: Tensor, mask: Tensor, ink: tuple[float, float, float], opacity: float = 1.0
) -> Tensor:
    """The image [H, W, 3] with a colour where the mask [H, W] is set."""
    alpha = mask.float()[..., None] * opacity
    return image * (1 - alpha) + torch.tensor(ink) * alpha


def stack(rows: Sequence[Tensor], gap: int = 4) -> Tensor:
    """Images one below the other, padded to the widest."""
    width = max(row.shape[1] for row in rows)
    return torch.cat([_padded(row, row.shape[0] + gap, width) for row in rows])


def beside(images: Sequence[Tensor], gap: int = 4) -> Tensor:
    """Images side by side, padded to the highest."""
    height = max(image.shape[0] for image in images)
    return torch.cat([_padded(image, height, image.shape[1] + gap) for image in images], dim=1)


def layout_image(canvas: Tensor, layout: Layout, caption: Caption) -> Tensor:
    """Each object's region tinted and outlined over a canvas [H, W, 3], and above them all a label for each."""
    height, width = canvas.shape[:2]
    thickness = max(1, min(height, width) // 200)
    labels = []
    for index, placed in enumerate(layout.objects):
        ink, region = PALETTE[index % len(PALETTE)], placed.region(height, width)
        canvas = paint(canvas, region, ink, 0.25)
        canvas = paint(canvas, outline(region, height, width, thickness), ink)
        labels.append(_label(caption(placed.phrase, width), ink))
    return _labelled(
        canvas, [_rect(placed.box, height, width) for placed in layout.objects], labels
    )


def balance_sheet(trace: Trace, caption: Caption, sample: int = 0, tile: int = 128) -> Tensor:
    """The balance map of one sample at every blended step: blue where the text branch leads, orange the spatial."""
    blended = trace.blended()
    if not blended:
        return caption("No blended steps: one model did them all.", 4 * tile)
    tiles = [
        _balance_tile(step, weight[sample, 0], trace.layout, caption, tile)
        for step, weight in blended
    ]
    columns = max(4, math.ceil(math.sqrt(2 * len(tiles))))
    rows = [beside(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return stack([_balance_legend(caption, tile), *rows])


def attention_sheet(
    trace: Trace, caption: Caption, sample: int = 0, tile: int = 128, columns: int = 8
) -> Tensor:
    """Attention of one sample, a row per branch and object, its region drawn over it, and its share inside.

    The branches of many objects stand side by side, with fewer steps of each; the text branch, which a warm-up leaves
    out, comes first all the same.
    """
    read = [step for step in trace.steps if step.readings]
    if not read:
        return caption("No attention was read: the balance did not move in this mode.", 4 * tile)
    names = list(dict.fromkeys(name for step in reversed(read) for name in step.readings))
    objects = {
        name: sum(len(reading.objects.phrases) for reading in read[-1].readings.get(name, ()))
        for name in names
    }
    crowded = sum(objects.values()) > CROWDED
    steps = _spread(read, max(1, columns // len(names)) if crowded else columns)
    blocks = [
        stack(rows)
        for name in names
        if (rows := _attention_rows(steps, name, caption, sample, tile))
    ]
    return stack([_attention_legend(caption, tile), *([beside(blocks)] if crowded else blocks)])


def loss_curves(trace: Trace, caption: Caption, width: int = 640, height: int = 320) -> Tensor:
    """The attention loss of each branch over the steps: 0 is all attention inside the regions."""
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
    """Named values over the steps 0 to ``last``, a line for each name: rows of ``{"step": 3, "text": 0.5}``."""
    finite = [{key: value for key, value in row.items() if math.isfinite(value)} for row in rows]
    names = [name for name in dict.fromkeys(key for row in finite for key in row) if name != "step"]
    top = max((row[name] for row in finite for name in names if name in row), default=1.0) or 1.0
    plot = _axes(height, width)
    inks = {name: _branch_ink(name, index) for index, name in enumerate(names)}
    for name, ink in inks.items():
        points = [(row["step"] / max(last, 1), row[name] / top) for row in finite if name in row]
        plot = paint(plot, polyline(points, height, width), ink)
    return stack(
        [
            caption(f"{title}: 0 to {top:.2f}; steps 0 to {last}", width),
            _legend(inks, caption),
            plot,
        ]
    )


def polyline(
    points: Sequence[tuple[float, float]], height: int, width: int, margin: int = 8
) -> Tensor:
    """A line through points (x right, y up, 0..1) as a mask [height, width]."""
    mask = torch.zeros(height, width, dtype=torch.bool)
    scaled = [
        (margin + x * (width - 1 - 2 * margin), height - 1 - margin - y * (height - 1 - 2 * margin))
        for x, y in points
    ]
    for (x0, y0), (x1, y1) in zip(scaled, scaled[1:] or scaled, strict=False):
        along = torch.linspace(0, 1, 2 * int(abs(x1 - x0) + abs(y1 - y0)) + 2)
        mask[(y0 + (y1 - y0) * along).round().long(), (x0 + (x1 - x0) * along).round().long()] = (
            True
        )
    return F.max_pool2d(mask.float()[None, None], 3, 1, 1)[0, 0] > 0


def _padded(image: Tensor, height: int, width: int) -> Tensor:
    canvas = torch.tensor(BACKGROUND).expand(height, width, 3).clone()
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas


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
    """A row per object of each conditioning: objects are told apart by their place, not by their words."""
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
    """Tiles in their columns, with empty ones where a step did not read this branch."""
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
    """At most ``most`` of the steps, evenly spread, with the first and, beyond one, the last."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / max(most - 1, 1))] for i in range(most)]


def _axes(height: int, width: int) -> Tensor:
    plot = torch.tensor(BACKGROUND).expand(height, width, 3).clone()
    for level in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = height - 9 - round(level * (height - 17))
        plot[y, 8:-8] = torch.tensor(GRID)
    return plot


def _legend(inks: Mapping[str, tuple[float, float, float]], caption: Caption) -> Tensor:
    swatches = [torch.tensor(ink).expand(14, 24, 3) for ink in inks.values()]
    pairs = [
        image
        for name, swatch in zip(inks, swatches, strict=True)
        for image in (swatch, caption(name, 90))
    ]
    return beside(pairs) if pairs else caption("nothing was read", 200)


def _branch_ink(name: str, index: int) -> tuple[float, float, float]:
    return {"text": TEXT_COLOUR, "spatial": SPATIAL_COLOUR}.get(name, PALETTE[index % len(PALETTE)])


def _label(line: Tensor, ink: tuple[float, float, float]) -> Tensor:
    """A caption cut to its text, dark or light on the object's colour, whichever reads better."""
    strength = (line - torch.tensor(BACKGROUND)).abs().amax(dim=-1)
    written = (strength > 0.2).any(dim=0).nonzero()
    width = min(int(written[-1]) + 4, line.shape[1]) if len(written) else line.shape[1]
    alpha = (strength[:, :width] / strength.max().clamp(min=1e-6))[..., None]
    luminance = sum(share * part for share, part in zip((0.30, 0.59, 0.11), ink, strict=True))
    text = torch.zeros(3) if luminance > 0.45 else torch.ones(3)
    return torch.lerp(
        torch.tensor(ink).expand(*alpha.shape[:2], 3), text.expand(*alpha.shape[:2], 3), alpha
    )


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
