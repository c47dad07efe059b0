"""What an installed pack holds: all that it runs, and none of what only its makers need."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORKSHOP = ("tests", "benchmarks", "testkit", "demo/training", "demo/judging")
RUNS = ("nodes", "realcompo_core", "workflows", "locales", "demo/toy", "demo/weights")
MADE_HERE = ("output", "node_modules", "__pycache__")


def ignored() -> list[str]:
    """Return the files and folders (with a slash at the end) that are left out, from the root."""
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def files() -> Iterator[str]:
    """Yield every file of the project, as ``/folder/name``."""
    for folder, names, found in os.walk(ROOT):
        names[:] = [n for n in names if n not in MADE_HERE and not n.startswith(".")]
        for name in found:
            yield "/" + Path(folder, name).relative_to(ROOT).as_posix()


def shipped() -> set[str]:
    """Return the files of an installed pack."""
    left_out = ignored()
    kept = set()
    for file in files():
        inside = any(file.startswith(entry) for entry in left_out if entry.endswith("/"))
        if not inside and file not in left_out:
            kept.add(file)
    return kept


def imports(file: str) -> Iterator[tuple[int, str]]:
    """Yield the level (0: absolute) and the dotted name of every import in a file."""
    for node in ast.walk(ast.parse((ROOT / file[1:]).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.level, node.module
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, alias.name) for alias in node.names)


def test_entries_are_plain() -> None:
    """The registry reads them as git does; without patterns there is only one way to read them."""
    entries = ignored()
    assert [entry for entry in entries if entry[0] != "/" or set(entry) & set("*?[!\\")] == []
    assert entries == sorted(set(entries))


def test_nothing_of_the_workshop_is_shipped() -> None:
    found = [file for file in shipped() for folder in WORKSHOP if file.startswith(f"/{folder}/")]
    assert found == []
    assert all((ROOT / folder).is_dir() for folder in WORKSHOP)


def test_all_that_runs_is_shipped() -> None:
    everything, kept = set(files()), shipped()
    for folder in RUNS:
        own = {file for file in everything if file.startswith(f"/{folder}/")}
        assert own
        assert own <= kept
    assert {"/__init__.py", "/pyproject.toml", "/README.md", "/LICENSE", "/demo/README.md"} <= kept


def target(file: str, level: int, name: str) -> str:
    """Return where in the pack an import of a file leads; empty for what is not the pack's own."""
    if level:
        return "/".join(["", *file.split("/")[1:-level], *name.split(".")])
    first = name.partition(".")[0]
    own = first != "nodes" and (ROOT / first).is_dir()  # `nodes` is ComfyUI's own module
    return f"/{first} (absolute)" if own else ""


def test_what_is_shipped_imports_only_what_is_shipped() -> None:
    kept = shipped()
    missing = []
    for file in sorted(kept):
        found = imports(file) if file.endswith(".py") else ()
        for place in filter(None, (target(file, *each) for each in found)):
            if not kept & {f"{place}.py", f"{place}/__init__.py"}:
                missing.append(f"{file}: {place}")
    assert missing == []
