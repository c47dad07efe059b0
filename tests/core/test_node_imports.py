"""Nodes import ComfyUI's public interface and ``nodes/host``; only that room knows its insides."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

NODES = Path(__file__).resolve().parents[2] / "nodes"
INSIDES = {
    *("comfy", "comfy_extras", "comfy_execution", "execution", "folder_paths"),
    *("latent_preview", "node_helpers", "nodes", "server", "app", "utils"),
}
OPEN = {"planner.py": {"comfy.model_management"}}  # what is still to be moved into the host


def imported(source: str) -> Iterator[str]:
    """Yield every module that a file imports, relative ones with their dots."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


@pytest.mark.parametrize("path", sorted(NODES.glob("*.py")), ids=lambda path: path.name)
def test_nodes_leave_the_insides_of_comfyui_to_the_host(path: Path) -> None:
    found = set(imported(path.read_text(encoding="utf-8")))
    inside = {name for name in found if name.partition(".")[0] in INSIDES}
    assert inside <= OPEN.get(path.name, set())


def test_imports_are_found_wherever_they_stand() -> None:
    source = "import a.b\nfrom .c import d\ndef e():\n    from ..f import g"
    assert list(imported(source)) == ["a.b", ".c", "..f"]
