"""The editor's pure modules by Node's own test runner, and that both languages read the same
layouts.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from realcompo_core.drawing.render import PALETTE
from realcompo_core.errors import InputError
from realcompo_core.layout.text import parse_objects

HERE = Path(__file__).parent
WEB = HERE.parents[1] / "nodes" / "web"
CASES = json.loads((HERE / "layouts.json").read_text(encoding="utf-8"))


def node() -> str:
    """Node.js: the machine's, or the one that ``make check`` installs where there is none."""
    found = shutil.which("node")
    if found is None:
        pytest.fail("The editor's tests need Node.js 18 or newer: run them by `make check`.")
    return found


def run_node(*arguments: str | Path) -> str:
    done = subprocess.run(
        [node(), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.fail(done.stdout + done.stderr, pytrace=False)
    return done.stdout


def evaluated(module: str, expression: str) -> str:
    """What an expression of an editor's module is, as Node.js prints it."""
    address = (WEB / module).as_uri()
    return run_node("--eval", f"import('{address}').then((module) => console.log({expression}))")


@pytest.mark.parametrize("path", sorted(HERE.glob("*.test.mjs")), ids=lambda path: path.name)
def test_modules(path: Path) -> None:
    report = run_node("--test", "--test-reporter=tap", path)
    assert "\n# pass 0\n" not in report and "\n# skipped 0\n" in report


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"][:60])
def test_the_node_reads_what_the_editor_reads(case: dict) -> None:
    if case["objects"] is None:
        with pytest.raises(InputError):
            parse_objects(case["text"])
        return
    read = [
        (e.phrase, [e.box.x0, e.box.y0, e.box.x1, e.box.y1], e.tokens)
        for e in parse_objects(case["text"])
    ]
    tokens = [tuple(item["tokens"]) if "tokens" in item else None for item in case["objects"]]
    assert read == [
        (item["phrase"], item["box"], t) for item, t in zip(case["objects"], tokens, strict=True)
    ]


def test_the_node_reads_what_the_editor_writes() -> None:
    objects = [
        {"phrase": p, "box": [0, 1 / 3, 0.5, 1]}
        for p in ("a cat", '"', "\\", "a\u2028b", "{a|b}", "\U0001f408")
    ]
    written = evaluated("text.js", f"module.serialise({json.dumps(objects)})")
    assert [placed.phrase for placed in parse_objects(written)] == [
        item["phrase"] for item in objects
    ]


def test_the_editor_has_the_previews_colours() -> None:
    expected = ["#" + "".join(f"{round(255 * part):02x}" for part in ink) for ink in PALETTE]
    for ours, theirs in zip(
        json.loads(evaluated("view.js", "JSON.stringify(module.PALETTE)")), expected, strict=True
    ):
        difference = [abs(int(ours[i : i + 2], 16) - int(theirs[i : i + 2], 16)) for i in (1, 3, 5)]
        assert max(difference) <= 1  # 0.5 is rounded either way
