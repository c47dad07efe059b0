"""A prompt file and given layouts -> the images to make.

T2I-CompBench (https://github.com/Karine-Huang/T2I-CompBench) has a text file for each category, one
prompt a line. Its evaluators read ``samples/{prompt}_{number:06d}.png``: the prompt is what stands
before the underscore, and the numbers run over the whole file, all images of the first prompt
first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realcompo_core.errors import InputError, within

# An evaluator cuts the prompt at its first underscore. Windows has names of its own taste.
UNSAFE = "/_\0" + ('<>:"\\|?*' if os.name == "nt" else "")
LONGEST_NAME = 255  # bytes, on all common file systems
SEEDS_PER_PROMPT = 1000


@dataclass(frozen=True)
class Job:
    """One image to make: its number over the whole prompt file, and what the workflow is given
    for it.
    """

    number: int
    prompt: str
    seed: int
    layout: str | None = None

    @property
    def name(self) -> str:
        """The file name that the evaluators read; characters that it can't hold become spaces."""
        safe = self.prompt.translate(dict.fromkeys(map(ord, UNSAFE), " "))
        return f"{safe}_{self.number:06d}.png"


def jobs_of(
    prompts: Sequence[str], layouts: Mapping[str, str] | None, images: int, seed: int
) -> list[Job]:
    """Every image of a run: ``images`` of each prompt, with seeds ``seed + 1000 * prompt index +
    image index``.

    ``layouts`` has one for every prompt. Raises :class:`InputError` for a prompt without one, a
    prompt that is longer than a file name, and for more images than seeds.
    """
    if not 1 <= images <= SEEDS_PER_PROMPT:
        raise InputError(
            "images", f"1 to {SEEDS_PER_PROMPT} for each prompt", str(images), "Most use 10."
        )
    jobs: list[Job] = []
    for index, prompt in enumerate(prompts):
        layout = _layout(layouts, prompt)
        first = seed + SEEDS_PER_PROMPT * index
        jobs += [Job(len(jobs) + i, prompt, first + i, layout) for i in range(images)]
    for job in jobs:
        if len(job.name.encode()) > LONGEST_NAME:
            fix = "The evaluators read the prompt from the file name: shorten it."
            raise InputError(
                "prompts", f"file names of at most {LONGEST_NAME} bytes", repr(job.name), fix
            )
    return jobs


def read_prompts(path: Path) -> list[str]:
    """One prompt a line, as it stands there.

    Empty lines and what follows a tab are left out, as the benchmark does.
    """
    lines = [line.split("\t")[0] for line in _read(path, "prompts").splitlines()]
    prompts = [line for line in lines if line.strip()]
    if not prompts:
        raise InputError(
            "prompts", "a file with one prompt a line", f"nothing in {path}", "Give another file."
        )
    return prompts


def read_layouts(path: Path) -> dict[str, str]:
    """Layouts by prompt, each as text that the node RealCompo Layout reads.

    ``.json``: ``{"a prompt": layout}``; ``.jsonl``: ``{"prompt": "a prompt", "layout": layout}`` a
    line. A layout is RealCompo's JSON or its lines as a text. Raises :class:`InputError` for what
    can't be read, or a second layout of a prompt.
    """
    layouts: dict[str, str] = {}
    for prompt, layout in _records(path):
        text = _checked(layout, prompt)
        if layouts.setdefault(prompt.strip(), text) != text:
            raise InputError(
                "layouts", "one layout for each prompt", f"two for {prompt!r}", "Delete one."
            )
    return layouts


def _layout(layouts: Mapping[str, str] | None, prompt: str) -> str | None:
    if layouts is None:
        return None
    if prompt.strip() not in layouts:
        fix = "Add it, or use a workflow with a planner and no layouts."
        raise InputError("layouts", "a layout for every prompt", f"none for {prompt!r}", fix)
    return layouts[prompt.strip()]


def _checked(layout: Any, prompt: str) -> str:
    from realcompo_core.layout.text import parse

    text = layout if isinstance(layout, str) else json.dumps(layout)
    with within(f"layouts, {prompt!r}"):
        parse(text)
    return text


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    text = _read(path, "layouts")
    if path.suffix != ".jsonl":
        whole = _json(text, str(path))
        yield from (whole.items() if isinstance(whole, dict) else [_record(whole, str(path))])
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            where = f"{path}, line {number}"
            yield _record(_json(line, where), where)


def _record(value: Any, where: str) -> tuple[str, Any]:
    if (
        not isinstance(value, dict)
        or not isinstance(value.get("prompt"), str)
        or "layout" not in value
    ):
        fix = "A .json file holds {prompt: layout}; a .jsonl file has this on every line."
        raise InputError(where, '{"prompt": "...", "layout": ...}', repr(value)[:80], fix)
    return value["prompt"], value["layout"]


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            where, "JSON", str(error), "One layout a line is a .jsonl file."
        ) from error


def _read(path: Path, field: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(field, "a UTF-8 text file", str(error), "Give another file.") from error
