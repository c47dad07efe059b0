"""What the status says of a language model's layout.

Objects that the prompt counts and the layout lacks.
"""

from __future__ import annotations

import pytest

from realcompo_core.layout.model import Box, Layout, LayoutObject
from realcompo_core.planner.comparison import lacking

PROMPT = "two corgis to the left of a tabby cat on a bench"
CASES = {
    ("two corgis", "two corgis", "a tabby cat", "a bench"): [],
    ("corgis", "corgis", "cat", "bench"): [],
    ("two corgis", "a tabby cat", "a bench"): ["two corgis (1 of 2)"],
    ("a tabby cat",): ["two corgis (0 of 2)", "a bench"],
}


@pytest.mark.parametrize(("phrases", "expected"), CASES.items(), ids=map(" ".join, CASES))
def test_what_a_layout_lacks(phrases: tuple[str, ...], expected: list[str]) -> None:
    layout = Layout(tuple(LayoutObject(phrase, Box(0, 0, 1, 1)) for phrase in phrases))
    assert lacking(layout, PROMPT) == expected


def test_a_prompt_that_the_rules_cannot_read_lacks_nothing() -> None:
    layout = Layout((LayoutObject("Hund", Box(0, 0, 1, 1)),))
    assert lacking(layout, "Ein Hund sitzt neben einer Katze auf dem Sofa") == []
