"""The templates' thumbnails: a template's layout, and which model paints and which one places.

``python -m testkit.thumbnails [NAME ...]`` writes those of the table below into ``workflows/``.
Squares, readable where the template browser shows them at 230 pixels.
"""

from __future__ import annotations

import json
import sys

from PIL import Image, ImageDraw, ImageFont

from realcompo_core.drawing.render import PALETTE, SPATIAL_COLOUR, TEXT_COLOUR
from realcompo_core.layout.model import Box, Layout
from realcompo_core.layout.text import parse

from . import ROOT

SIDE, MARGIN, BAND = 512, 14, 76  # pixels; two bands below the layout
Ink = tuple[int, int, int]
GROUND, INK, DARK = (31, 33, 41), (240, 240, 240), (15, 15, 20)
# Which model paints, and what places, by template.
BRANCHES = {
    "realcompo_flux_control": ("Flux.1", "Flux.1 + ControlNet"),
    "realcompo_qwen_image_control": ("Qwen-Image", "Qwen-Image + ControlNet"),
    "realcompo_z_image_regions": ("Z-Image Turbo", "the same, by regions"),
    "realcompo_sd35_depth": ("SD3.5", "SD3.5 + depth"),
    "realcompo_chroma_look_flux_control": ("Chroma", "Flux.1 + ControlNet"),
    "realcompo_flow_look_sdxl_control": ("AuraFlow", "SDXL + ControlNet"),
    "realcompo_sdxl_regions": ("SDXL", "the same, by regions"),
    "realcompo_demo_transformer": ("a small transformer", "the same, by regions"),
}


def main() -> None:
    """Write the thumbnails of the templates that are named, or all."""
    for name in sys.argv[1:] or BRANCHES:
        picture = thumbnail(layout_of(name), *BRANCHES[name])
        picture.save(ROOT / "workflows" / f"{name}.jpg", quality=90)


def layout_of(name: str) -> Layout:
    """Return the layout that a template opens with."""
    path = ROOT / "workflows" / f"{name}.json"
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    [text] = [node["widgets_values"][0] for node in nodes if node["type"] == "RealCompoLayout"]
    return parse(text)


def thumbnail(layout: Layout, look: str, placing: str) -> Image.Image:
    """Draw a layout above the names of its two branches."""
    picture = Image.new("RGB", (SIDE, SIDE), GROUND)
    draw = ImageDraw.Draw(picture)
    for index, placed in enumerate(layout.objects):
        draw_object(draw, placed.box, placed.phrase, pixels(PALETTE[index % len(PALETTE)]))
    draw_band(draw, SIDE - 2 * BAND, pixels(TEXT_COLOUR), f"paints: {look}")
    draw_band(draw, SIDE - BAND, pixels(SPATIAL_COLOUR), f"places: {placing}")
    return picture


def draw_object(draw: ImageDraw.ImageDraw, box: Box, phrase: str, ink: Ink) -> None:
    """Draw an object's box with its words in it, one below the other."""
    width, height = SIDE - 2 * MARGIN, SIDE - 2 * BAND - 2 * MARGIN
    left, top = MARGIN + box.x0 * width, MARGIN + box.y0 * height
    right, bottom = MARGIN + box.x1 * width, MARGIN + box.y1 * height
    faint = Image.blend(Image.new("RGB", (1, 1), GROUND), Image.new("RGB", (1, 1), ink), 0.3)
    edges = left, top, right, bottom
    draw.rounded_rectangle(edges, 18, fill=faint.getpixel((0, 0)), outline=ink, width=6)
    words = phrase.replace(" ", "\n")
    middle = (left + right) / 2, (top + bottom) / 2
    font = ImageFont.load_default(size=40)
    draw.multiline_text(middle, words, INK, font, anchor="mm", align="center", spacing=10)


def draw_band(draw: ImageDraw.ImageDraw, top: int, ink: Ink, text: str) -> None:
    """Draw a band in a branch's colour with its name."""
    draw.rectangle((0, top, SIDE, top + BAND), fill=ink)
    size = 42
    while draw.textlength(text, ImageFont.load_default(size=size)) > SIDE - 2 * MARGIN:
        size -= 1
    middle = SIDE / 2, top + BAND / 2
    draw.text(middle, text, DARK, ImageFont.load_default(size=size), anchor="mm")


def pixels(colour: tuple[float, float, float]) -> Ink:
    """Return a colour of 0..1 in 0..255."""
    red, green, blue = (round(255 * value) for value in colour)
    return red, green, blue


if __name__ == "__main__":
    main()
