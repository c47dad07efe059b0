"""The core needs no host: torch, numpy, einops, the standard library and itself."""

import ast
import sys
from pathlib import Path

import pytest

import realcompo_core

ALLOWED = {"torch", "numpy", "einops"} | sys.stdlib_module_names
FILES = sorted(Path(realcompo_core.__file__).parent.rglob("*.py"))


def imported(source: str) -> set[str]:
    """Top-level packages that a file imports anywhere in it; relative imports are its own."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [
        node.module
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module
    ]
    return {name.split(".")[0] for name in names}


def test_imports_are_found_wherever_they_stand() -> None:
    source = "import a.b, c\nfrom d.e import f\nfrom . import g\nfrom ..h import i\ndef j():\n    import k"
    assert imported(source) == {"a", "c", "d", "k"}


def test_the_core_has_files() -> None:
    assert {"model.py", "tokens.py", "balancer.py"} <= {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_core_imports_nothing_of_a_host(path: Path) -> None:
    assert imported(path.read_text(encoding="utf-8")) <= ALLOWED


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_core_imports_nothing_by_name_at_run_time(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert "__import__" not in source and "importlib" not in imported(source)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_relative_imports_stay_inside_the_core(path: Path) -> None:
    depth = len(path.relative_to(Path(realcompo_core.__file__).parent).parts)
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    assert all(node.level <= depth for node in nodes if isinstance(node, ast.ImportFrom))
