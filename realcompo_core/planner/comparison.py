"""What a language model's layout lacks, by the counts that the rules read out of the prompt."""

from __future__ import annotations

from ..errors import InputError
from ..layout.model import Layout
from ..words.plain_text import letters, plain
from ..words.tokenized import locate
from .rules import plan


def lacking(layout: Layout, prompt: str) -> list[str]:
    """Return what a layout has too few of: "a tabby cat", "two corgis (1 of 2)".

    [] where the rules find no plan.

    Objects are compared by the characters of the prompt that their phrases stand for.
    """
    text = plain(prompt)
    try:
        wanted = plan(prompt)
        wanted_at = locate(wanted, text, letters)
        found_at = locate(layout, text, letters)
    except InputError:
        return []
    counts = {}
    for placed, at in zip(wanted.objects, wanted_at, strict=True):
        phrase, count = counts.get(at, (placed.phrase, 0))
        counts[at] = phrase, count + 1
    short = []
    for at, (phrase, count) in counts.items():
        found = sum(1 for other in found_at if set(at) & set(other))
        if found < count:
            short.append(f"{phrase} ({found} of {count})" if count > 1 else phrase)
    return short
