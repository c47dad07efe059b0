"""Images as float tensors [height, width, 3], values 0..1, on the CPU: tints, outlines, lines."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Colour = tuple[float, float, float]
"""Red, green and blue, 0..1."""
BACKGROUND: Colour = (0.11, 0.11, 0.13)


def colour(values: Tensor, stops: Sequence[Colour]) -> Tensor:
    """Return values [H, W] in 0..1 as [H, W, 3], linear between equally spaced colours."""
    table = torch.tensor(stops)
    position = values.float().nan_to_num().clamp(0, 1) * (len(stops) - 1)
    low = position.floor().long().clamp(max=len(stops) - 2)
    return torch.lerp(table[low], table[low + 1], (position - low)[..., None])


def enlarge(values: Tensor, height: int, width: int, mode: str = "nearest") -> Tensor:
    """Return a map [h, w] as [height, width] pixels."""
    smooth = {} if mode == "nearest" else {"align_corners": False}
    return F.interpolate(values[None, None].float(), (height, width), mode=mode, **smooth)[0, 0]


def outline(region: Tensor, height: int, width: int, thickness: int = 1) -> Tensor:
    """Return the border of a region [h, w] (0..1) as a mask [height, width] of booleans."""
    mode = "bilinear" if min(region.shape) > 1 else "nearest"
    inside = enlarge(region, height, width, mode) >= 0.5
    if not inside.any():
        inside = enlarge(region, height, width) > 0
    outside = F.pad((~inside).float()[None, None], [thickness] * 4, value=1.0)
    return inside & (F.max_pool2d(outside, 2 * thickness + 1, 1)[0, 0] > 0)


def paint(image: Tensor, mask: Tensor, ink: Colour, opacity: float = 1.0) -> Tensor:
    """Return the image [H, W, 3] with a colour where the mask [H, W] is set."""
    alpha = mask.float()[..., None] * opacity
    return image * (1 - alpha) + torch.tensor(ink) * alpha


def stack(rows: Sequence[Tensor], gap: int = 4) -> Tensor:
    """Return images [h, w, 3] one below the other, padded to the widest, as one [H, W, 3]."""
    width = max(row.shape[1] for row in rows)
    return torch.cat([_padded(row, row.shape[0] + gap, width) for row in rows])


def beside(images: Sequence[Tensor], gap: int = 4) -> Tensor:
    """Return images [h, w, 3] side by side, padded to the highest, as one [H, W, 3]."""
    height = max(image.shape[0] for image in images)
    return torch.cat([_padded(image, height, image.shape[1] + gap) for image in images], dim=1)


def polyline(
    points: Sequence[tuple[float, float]], height: int, width: int, margin: int = 8
) -> Tensor:
    """Return a line through points (x right, y up, 0..1) as a mask [height, width]."""
    across, up = width - 1 - 2 * margin, height - 1 - 2 * margin
    pixels = [(margin + x * across, height - 1 - margin - y * up) for x, y in points]
    mask = torch.zeros(height, width, dtype=torch.bool)
    for (x0, y0), (x1, y1) in zip(pixels, pixels[1:] or pixels, strict=False):
        along = torch.linspace(0, 1, 2 * int(abs(x1 - x0) + abs(y1 - y0)) + 2)
        columns = (x0 + (x1 - x0) * along).round().long()
        rows = (y0 + (y1 - y0) * along).round().long()
        mask[rows, columns] = True
    return F.max_pool2d(mask.float()[None, None], 3, 1, 1)[0, 0] > 0


def _padded(image: Tensor, height: int, width: int) -> Tensor:
    canvas = torch.tensor(BACKGROUND).expand(height, width, 3).clone()
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas
