"""Traces and their pictures: finite images in 0..1 of a sane size, whatever a run holds."""

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from realcompo_core.drawing.image import (
    BACKGROUND,
    beside,
    colour,
    outline,
    paint,
    polyline,
    stack,
)
from realcompo_core.drawing.render import attention_sheet, balance_sheet, layout_image, loss_curves
from realcompo_core.layout.model import Box, Layout, LayoutObject
from realcompo_core.sampling.settings import BalancerSettings
from realcompo_core.sampling.trace import Reading, Step, Trace
from realcompo_core.words.grounding import Objects

SIZES = [(16, 16), (9, 31), (40, 12)]


def words(text: str, width: int) -> Tensor:
    """A caption without a font: the right width, and lighter where there is text."""
    assert text and width > 0
    return torch.full((12, width, 3), 0.8)


def layout_of(objects: int) -> Layout:
    edges = [index / (objects + 1) for index in range(objects)]
    return Layout(
        tuple(
            LayoutObject(f"object {i}", Box(e, e, e + 1.9 / (objects + 1), 1))
            for i, e in enumerate(edges)
        )
    )


def reading_of(layout: Layout, height: int, width: int, seed: int) -> Reading:
    generator = torch.Generator().manual_seed(seed)
    count = len(layout.objects)
    attention = torch.rand(
        2, count, math.ceil(height / 2), math.ceil(width / 2), generator=generator
    )
    phrases = tuple(placed.phrase for placed in layout.objects)
    objects = objects_of(phrases, layout.rasterise(height, width))
    return Reading(attention, objects, torch.rand(2, count, generator=generator))


def objects_of(phrases: Sequence[str], regions: Tensor) -> Objects:
    """One object each."""
    numbers = tuple((number,) for number in range(len(phrases)))
    return Objects(tuple(phrases), numbers, tuple(regions.split(1)), numbers)


def trace_of(objects: int, steps: int, size: tuple[int, int] = (16, 16)) -> Trace:
    layout = layout_of(objects)
    trace = Trace(layout, BalancerSettings(), total_steps=steps)
    for index in range(steps):
        readings = {name: (reading_of(layout, *size, seed=index),) for name in ("text", "spatial")}
        trace.steps.append(
            Step(index, 1.0, torch.linspace(0, 1, 2 * math.prod(size)).view(2, 1, *size), readings)
        )
    return trace


def check(image: Tensor, most: int = 4000) -> None:
    assert image.dtype == torch.float32 and image.ndim == 3 and image.shape[-1] == 3
    assert image.isfinite().all() and image.min() >= 0 and image.max() <= 1
    assert 12 <= image.shape[0] <= most and 12 <= image.shape[1] <= most


# Sheets


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("objects", "steps"), [(1, 1), (1, 50), (12, 1), (12, 50)])
def test_sheets_are_images(objects: int, steps: int, size: tuple[int, int]) -> None:
    trace = trace_of(objects, steps, size)
    check(balance_sheet(trace, words, sample=1, tile=48))
    check(attention_sheet(trace, words, sample=1, tile=48))
    check(loss_curves(trace, words))


@pytest.mark.parametrize(
    "trace", [Trace(), trace_of(2, 0), Trace(steps=[Step(0, 1.0, None)], total_steps=1)]
)
def test_a_run_that_balanced_nothing_says_so(trace: Trace) -> None:
    said: list[str] = []

    def hear(text: str, width: int) -> Tensor:
        said.append(text)
        return words(text, width)

    for draw in (balance_sheet, attention_sheet, loss_curves):
        check(draw(trace, hear))
    for words_of_absence in ("No blended steps", "No attention was read", "nothing was read"):
        assert any(text.startswith(words_of_absence) for text in said)
    assert not any("-1" in text for text in said)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("broken", [1, 3])
def test_readings_that_are_not_finite_are_left_out(bad: float, broken: int) -> None:
    trace = trace_of(1, 3)
    for step in trace.steps[:broken]:
        for (reading,) in step.readings.values():
            reading.attention.fill_(bad)
            reading.losses.fill_(bad)
    for draw in (balance_sheet, attention_sheet, loss_curves):
        check(draw(trace, words))


@pytest.mark.parametrize("columns", [1, 2, 3, 9])
def test_the_attention_sheet_shows_at_most_so_many_steps(columns: int) -> None:
    said: list[str] = []

    def hear(text: str, width: int) -> Tensor:
        said.append(text)
        return words(text, width)

    check(attention_sheet(trace_of(1, 5), hear, tile=32, columns=columns))
    shown = {text.split(":")[0] for text in said if text.startswith("step ")}
    assert len(shown) == min(columns, 5)
    assert "step 0" in shown and (columns == 1 or "step 4" in shown)


def test_objects_of_the_same_name_have_a_row_each() -> None:
    different = trace_of(2, 1)
    same = trace_of(2, 1)
    readings = {
        n: (replace(r, objects=replace(r.objects, phrases=("a cat", "a cat"))),)
        for n, (r,) in same.steps[0].readings.items()
    }
    same.steps[0] = replace(same.steps[0], readings=readings)
    assert attention_sheet(same, words).shape == attention_sheet(different, words).shape


def test_one_branch_may_be_missing_at_a_step() -> None:
    trace = trace_of(2, 3)
    del trace.steps[1].readings["text"]
    for draw in (balance_sheet, attention_sheet, loss_curves):
        check(draw(trace, words))


def test_the_steps_of_branches_stand_below_each_other() -> None:
    """The warm-up reads the spatial branch alone.

    The text branch comes first, from its own first step on.
    """
    whole, part = trace_of(1, 3), trace_of(1, 3)
    for step in part.steps[:2]:
        del step.readings["text"]
    full, image = (attention_sheet(trace, words, tile=48) for trace in (whole, part))
    assert image.shape == full.shape
    changed = (image != full).any(dim=-1)
    rows, columns = changed.any(dim=1).nonzero().flatten(), changed.any(dim=0).nonzero().flatten()
    assert rows.max() < full.shape[0] / 2 + 24 and columns.max() < 2 * (48 + 4)
    background = torch.tensor(BACKGROUND)
    assert (image[changed] == background).all()


def test_a_trace_without_a_layout_still_has_its_balance() -> None:
    trace = trace_of(1, 4)
    trace.layout = None
    check(balance_sheet(trace, words))


def test_the_balance_is_blue_for_text_and_orange_for_spatial() -> None:
    def sheet(weight: float) -> Tensor:
        step = Step(0, 1.0, torch.full((1, 1, 4, 4), weight))
        return balance_sheet(
            Trace(steps=[step], total_steps=1), lambda _, width: torch.zeros(12, width, 3)
        )

    red, _, blue = (sheet(1.0) - sheet(0.0)).mean(dim=(0, 1))
    assert red < 0 < blue


# Layouts


@pytest.mark.parametrize("shade", [0.0, 1.0])
@pytest.mark.parametrize("size", [(64, 64), (48, 160), (13, 17)])
@pytest.mark.parametrize("objects", [1, 12])
def test_a_layout_is_drawn_over_its_canvas(
    objects: int, size: tuple[int, int], shade: float
) -> None:
    canvas = torch.full((*size, 3), shade)
    image = layout_image(canvas, layout_of(objects), words)
    check(image)
    assert image.shape == canvas.shape and not torch.equal(image, canvas)
    assert canvas.eq(shade).all()


def test_a_canvas_too_small_for_words_has_none() -> None:
    layout = Layout((LayoutObject("cat", Box(0, 0, 1, 1)),))
    blank = torch.tensor(BACKGROUND).expand(9, 40, 3)
    without = layout_image(torch.zeros(8, 40, 3), layout, words)
    assert torch.equal(without, layout_image(torch.zeros(8, 40, 3), layout, lambda _, w: blank))
    assert not torch.equal(
        layout_image(torch.zeros(13, 40, 3), layout, words),
        layout_image(torch.zeros(13, 40, 3), layout, lambda _, w: blank),
    )


# Parts


def test_colours_are_linear_between_stops_and_clamped() -> None:
    values = torch.tensor([[-1.0, 0.0, 0.25, 1.0, 2.0, math.nan]])
    reds = colour(values, [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)])[0, :, 0]
    assert reds.tolist() == [0, 0, 0.5, 0, 0, 0]


def test_an_outline_is_the_border_inside_the_region() -> None:
    region = torch.zeros(8, 8)
    region[2:6, 1:7] = 1
    border = outline(region, 8, 8)
    assert int(border.sum()) == 4 * 6 - 2 * 4
    assert not border[region == 0].any()


@pytest.mark.parametrize("size", SIZES)
def test_the_thinnest_region_has_an_outline(size: tuple[int, int]) -> None:
    region = LayoutObject("pole", Box(0.5, 0.1, 0.501, 0.9)).region(*size)
    assert outline(region, 64, 64).any()


def test_paint_covers_by_its_opacity() -> None:
    image = paint(torch.zeros(1, 2, 3), torch.tensor([[True, False]]), (1, 0.5, 0), 0.5)
    assert image.tolist() == [[[0.5, 0.25, 0], [0, 0, 0]]]


def test_stacks_and_rows_are_padded_with_background() -> None:
    images = [torch.ones(2, 5, 3), torch.ones(3, 4, 3)]
    assert stack(images, gap=1).shape == (7, 5, 3) and beside(images, gap=1).shape == (3, 11, 3)
    torch.testing.assert_close(stack(images, gap=1)[2, 0], torch.tensor(BACKGROUND))


@pytest.mark.parametrize(
    "points", [[(0, 0), (1, 1)], [(0.5, 0.5)], [(0, 1), (0.5, 0), (1, 1)], [(0, 0.2), (0, 0.9)]]
)
def test_a_line_passes_through_its_points(points: list[tuple[float, float]]) -> None:
    mask = polyline(points, 101, 201, margin=10)
    assert all(mask[round(90 - 80 * y), round(10 + 180 * x)] for x, y in points)


def test_a_line_through_no_points_is_empty() -> None:
    assert not polyline([], 20, 20).any()


# Traces


def test_a_deep_copy_of_a_trace_is_itself() -> None:
    trace = trace_of(1, 1)
    assert copy.deepcopy({"options": [trace]})["options"][0] is trace


def test_restarting_forgets_the_run_but_not_the_layout() -> None:
    trace = trace_of(2, 3)
    trace.rows["text"] += 2
    trace.restart()
    assert trace.steps == [] and not trace.rows and len(trace.layout.objects) == 2


def test_a_loss_is_summed_over_objects_and_averaged_over_samples() -> None:
    losses = torch.tensor([[0.5, 0.25], [1.0, 0.25]])
    reading = Reading(
        torch.ones(2, 2, 4, 4), objects_of(("cat", "dog"), torch.ones(2, 4, 4)), losses
    )
    trace = Trace(
        steps=[Step(0, 2.0, None), Step(3, 1.0, None, {"text": (reading, reading), "spatial": ()})]
    )
    assert trace.losses() == [{"step": 3, "text": 2.0, "spatial": 0}]


def test_a_summary_is_plain_json() -> None:
    trace = trace_of(1, 2)
    trace.rows["text"] += 4
    summary = json.loads(json.dumps(trace.summary()))
    assert summary["settings"]["recipe"] == "balanced" and summary["settings"]["layers"] == "all"
    assert summary["rows"] == {"text": 4} and len(summary["losses"]) == 2
    assert Trace().summary()["settings"] == {}


def test_a_summary_has_no_number_that_json_has_not() -> None:
    """An object without any attention has no loss; browsers refuse a reply with NaN."""
    trace = trace_of(1, 2)
    for step in trace.steps:
        for reading in step.readings["text"]:
            reading.losses.fill_(float("nan"))
    summary = json.loads(json.dumps(trace.summary(), allow_nan=False))
    assert summary["losses"][0]["text"] is None and summary["compliance"][0]["inside"] is None


def test_compliance_is_what_was_read_last() -> None:
    trace = trace_of(2, 3)
    losses = trace.steps[-1].readings["text"][0].losses
    found = trace.compliance()
    assert [(row["branch"], row["object"]) for row in found] == [
        (name, f"object {index}") for name in ("text", "spatial") for index in range(2)
    ]
    assert found[1]["inside"] == pytest.approx(1 - float(losses[:, 1].mean()))
    assert Trace().compliance() == []


def test_many_objects_and_steps_fit_on_a_sheet() -> None:
    """Twelve objects and fifty steps.

    Every object of both branches is named, with its share at the end.
    """
    said: list[str] = []

    def hear(text: str, width: int) -> Tensor:
        said.append(text)
        return words(text, width)

    trace = trace_of(12, 50)
    for sheet in (attention_sheet(trace, hear), balance_sheet(trace, hear)):
        check(sheet, most=2100)
        assert sheet.shape[1] < 1500
    titles = [text for text in said if "at the end" in text]
    assert (
        len(titles) == 24
        and titles[0].startswith("text: object 0, ")
        and titles[-1].startswith("spatial: object 11, ")
    )


def test_a_run_is_found_by_what_it_made() -> None:
    trace = Trace()
    made = [torch.full((1, 4, 2, 2), float(seed)) for seed in range(3)]
    for number, samples in enumerate(made):
        trace.restart()
        trace.rows["text"] = number
        trace.end(samples)
    assert [trace.of(samples).rows["text"] for samples in made] == [0, 1, 2]
    assert trace.of(torch.zeros(1, 4, 8, 8)) is trace  # upscaled since
    for _ in range(10):
        trace.restart()
        trace.end(made[0])
    assert len(trace.earlier) == Trace.KEPT
    assert not any(run.earlier for run in trace.earlier)


def test_a_run_that_failed_is_not_kept() -> None:
    trace = Trace()
    trace.restart()
    trace.restart()
    assert trace.earlier == [] and trace.of(torch.zeros(1, 4, 2, 2)) is trace
