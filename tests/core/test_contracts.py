"""Who may import what: the rooms of the core, the nodes and their host, the demo and the tests."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Each room of the core may import those before it, and itself. Those on one line know nothing of
# each other.
CORE_ROOMS = (
    {"errors"},
    {"layout"},
    {"words"},
    {"planner", "sampling"},
    {"training"},
    {"drawing"},
)
CORE_NEEDS = {"torch", "numpy", "einops"} | sys.stdlib_module_names
# ComfyUI's insides, by their first word.
COMFYUI = {
    "app",
    "comfy",
    "comfy_api",
    "comfy_execution",
    "comfy_extras",
    "execution",
    "folder_paths",
    "latent_preview",
    "node_helpers",
    "nodes",
    "server",
}
NODES_NEED = {"comfy_api", "torch", "numpy", "PIL"} | sys.stdlib_module_names
# What a node file may import of this pack, by the module's beginning.
NODES_USE = ("realcompo_core.", "nodes.", "demo.toy.")
PRODUCT = ("realcompo_core", "nodes", "demo/toy")


@dataclass(frozen=True)
class Import:
    """An import statement's module, from the checkout's root where it is the pack's own."""

    module: str
    own: bool  # of this pack

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]


def module_of(path: Path) -> str:
    """The dotted name of a file, from the checkout's root."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def resolved(node: ast.ImportFrom, path: Path) -> str:
    """The module that a relative import means. Raises ValueError where it leaves the checkout."""
    package = list(path.relative_to(ROOT).parent.parts)
    if node.level - 1 > len(package):
        raise ValueError(f"{path}:{node.lineno} imports from outside the checkout")
    above = package[: len(package) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def imports_of(node: ast.AST, path: Path) -> Iterator[Import]:
    """What one statement imports; ``from . import a`` imports the module ``a``."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, own=is_own(alias.name))
    if isinstance(node, ast.ImportFrom) and node.level:
        module = resolved(node, path)
        for alias in node.names:
            yield Import(f"{module}.{alias.name}", own=True)
    if isinstance(node, ast.ImportFrom) and not node.level:
        for alias in node.names:
            yield Import(f"{node.module}.{alias.name}", own=is_own(f"{node.module}"))


def is_own(module: str) -> bool:
    """Whether an absolute import means this pack; ``nodes`` is then ComfyUI's."""
    owned = {"realcompo_core", "demo", "benchmarks", "testkit", "tests"}
    return module.partition(".")[0] in owned


@cache
def imported(path: Path) -> tuple[Import, ...]:
    """All that a file imports, wherever it does."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return tuple(found for node in ast.walk(tree) for found in imports_of(node, path))


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def foreign(path: Path) -> set[str]:
    """The packages that a file imports, less the pack itself."""
    return {found.package for found in imported(path) if not found.own}


CORE = files("realcompo_core")
NODES = sorted((ROOT / "nodes").glob("*.py"))


def test_imports_are_found_wherever_they_stand(tmp_path: Path) -> None:
    source = (
        "import a.b, c\nfrom d.e import f\nfrom . import g\nfrom ..h import i\n"
        "def j():\n    import nodes\n    from realcompo_core.errors import InputError\n"
    )
    place = ROOT / "nodes" / "host" / "invented.py"
    found = {i for node in ast.walk(ast.parse(source)) for i in imports_of(node, place)}
    assert {i.module for i in found if not i.own} == {"a.b", "c", "d.e.f", "nodes"}
    own = {"nodes.host.g", "nodes.h.i", "realcompo_core.errors.InputError"}
    assert {i.module for i in found if i.own} == own


def test_the_files_are_found() -> None:
    assert {"model.py", "tokens.py", "balancer.py"} <= {path.name for path in CORE}
    assert {"samplers.py", "layout.py"} <= {path.name for path in NODES}


# The core


@pytest.mark.parametrize("path", CORE, ids=named)
def test_the_core_needs_no_host(path: Path) -> None:
    assert foreign(path) <= CORE_NEEDS


@pytest.mark.parametrize("path", CORE, ids=named)
def test_the_core_imports_nothing_by_name_at_run_time(path: Path) -> None:
    assert "__import__" not in path.read_text(encoding="utf-8")
    assert "importlib" not in foreign(path)


@pytest.mark.parametrize("path", CORE, ids=named)
def test_the_rooms_of_the_core_import_in_one_direction(path: Path) -> None:
    room = module_of(path).removeprefix("realcompo_core").strip(".").split(".")[0]
    if not room:
        assert not imported(path)  # the package itself
        return
    level = next(place for place, rooms in enumerate(CORE_ROOMS) if room in rooms)
    allowed = {room}.union(*CORE_ROOMS[:level])
    own = [found.module for found in imported(path) if found.own]
    assert all(module.startswith("realcompo_core.") for module in own)
    assert {module.split(".")[1] for module in own} <= allowed


def test_every_room_of_the_core_has_its_place() -> None:
    folders = {path.name for path in (ROOT / "realcompo_core").iterdir() if path.is_dir()}
    rooms = set().union(*CORE_ROOMS)
    assert folders - {"__pycache__"} <= rooms


# Nodes, the host and the demo

TOY_NETWORKS = ROOT / "demo" / "toy" / "networks.py"


@pytest.mark.parametrize("path", NODES, ids=named)
def test_nodes_import_the_api_and_the_host_only(path: Path) -> None:
    assert foreign(path) <= NODES_NEED
    own = {found.module for found in imported(path) if found.own}
    assert {module for module in own if not module.startswith(NODES_USE)} == set()


@pytest.mark.parametrize("path", files(*PRODUCT), ids=named)
def test_only_the_host_knows_comfyuis_insides(path: Path) -> None:
    """The toy networks are ComfyUI's own classes in a small size: they know no more of it."""
    if path.is_relative_to(ROOT / "nodes" / "host") or path == TOY_NETWORKS:
        return
    allowed = {"comfy_api"} if path.is_relative_to(ROOT / "nodes") else set()
    assert foreign(path) & COMFYUI <= allowed


@pytest.mark.parametrize("path", files(*PRODUCT), ids=named)
def test_the_product_imports_nothing_that_is_not_shipped(path: Path) -> None:
    """And its own by relative imports: the folder that it is installed in has any name."""
    modules = {found.module for found in imported(path) if found.own}
    assert all(f"{module}.".startswith((*NODES_USE, "nodes.host.")) for module in modules)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    absolute = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Import)]
    for node in absolute:
        if isinstance(node, ast.Import) or not node.level:
            assert not any(found.own for found in imports_of(node, path))


# Tests, benchmarks and the path


@pytest.mark.parametrize("path", files("tests", "benchmarks", "testkit", "demo"), ids=named)
def test_nothing_imports_a_test_module(path: Path) -> None:
    for found in imported(path):
        words = found.module.split(".")
        assert words[0] not in {"tests", "conftest"}
        assert not words[0].startswith("test_")


def edits_the_path(path: Path) -> bool:
    """Whether a file changes ``sys.path``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return "sys.path" in names


def test_one_file_puts_comfyui_on_the_path_and_no_other_edits_it() -> None:
    every = files("realcompo_core", "nodes", "demo", "benchmarks", "testkit", "tests")
    edited = [named(path) for path in every if edits_the_path(path)]
    assert edited == ["testkit/comfyui.py"]
