"""Every node explains itself.

Its tooltips, its help page and its English texts say what its schema says.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from testkit.docs import schemas_of, written
from testkit.host import PACK, Host
from testkit.server import ROOT
from testkit.workflow import widget_names

Schemas = dict[str, Any]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
SECTIONS = ["Wiring", "Inputs", "Outputs", "Tips", "Common errors"]


@pytest.fixture
def schemas(host: Host) -> Schemas:
    """The schema of every node that ComfyUI took from this pack, by id."""
    ours = schemas_of(host.nodes)
    assert ours
    return ours


@pytest.fixture
def pages(host: Host) -> dict[str, str]:
    """The help pages where ComfyUI serves them, by node id."""
    import nodes

    folder = Path(nodes.EXTENSION_WEB_DIRS[PACK]) / "docs"
    return {page.stem: page.read_text(encoding="utf-8") for page in folder.glob("*.md")}


@pytest.fixture
def texts(host: Host) -> dict[str, Any]:
    """The English texts as ComfyUI sends them to its frontend, by node id."""
    from app.custom_node_manager import CustomNodeManager

    return CustomNodeManager().build_translations()["en"]["nodeDefs"]


def test_names(schemas: Schemas) -> None:
    assert [
        key for key in schemas if not re.fullmatch(r"(RealCompo|SepEn)([A-Z][A-Za-z]+)+", key)
    ] == []
    plain = r"[A-Za-z]+( [A-Za-z]+)+( \(advanced\))?"
    assert [
        key for key, schema in schemas.items() if not re.fullmatch(plain, schema.display_name or "")
    ] == []


def test_every_node_input_and_output_is_described(schemas: Schemas) -> None:
    assert [key for key, schema in schemas.items() if not schema.description] == []
    sockets = [
        (key, socket)
        for key, schema in schemas.items()
        for socket in [*schema.inputs, *schema.outputs]
    ]
    assert [f"{key}: {shown(socket)}" for key, socket in sockets if not socket.tooltip] == []


def test_every_node_has_a_help_page_and_none_is_left_over(
    schemas: Schemas, pages: dict[str, str]
) -> None:
    assert sorted(pages) == sorted(schemas)


def test_help_pages_have_the_same_sections(schemas: Schemas, pages: dict[str, str]) -> None:
    for key, schema in schemas.items():
        assert pages[key].startswith(f"# {schema.display_name}\n"), key
        assert re.findall(r"^## (.*)$", pages[key], re.MULTILINE) == SECTIONS, key


def test_help_pages_list_every_input_and_output(schemas: Schemas, pages: dict[str, str]) -> None:
    for key, schema in schemas.items():
        assert list(table(pages[key], "Inputs")) == [shown(socket) for socket in schema.inputs], key
        assert list(table(pages[key], "Outputs")) == [shown(socket) for socket in schema.outputs], (
            key
        )


def test_help_pages_tell_ranges_and_defaults(schemas: Schemas, pages: dict[str, str]) -> None:
    wrong = [
        f"{key}, {socket.id}: {fact!r} is not in {cell!r}"
        for key, schema in schemas.items()
        for socket in schema.inputs
        for cell in [table(pages[key], "Inputs")[shown(socket)]]
        for fact in facts(socket)
        if not re.search(rf"(^|\W){re.escape(fact)}($|\W(?!\d))", cell)
    ]
    assert wrong == []


def test_english_texts_are_those_of_the_schemas(schemas: Schemas, texts: dict[str, Any]) -> None:
    assert texts == {key: entry(schema) for key, schema in schemas.items()}


def test_what_is_written_from_schemas_is_not_stale(schemas: Schemas) -> None:
    files = written(schemas)
    stale = [path.name for path, text in files.items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run `make docs`"


def test_help_pages_have_room_for_what_is_written(schemas: Schemas, pages: dict[str, str]) -> None:
    for key in schemas:
        for name in ("inputs", "outputs"):
            assert pages[key].count(f"<!-- {name}: written by `make docs` -->\n") == 1, key
        assert pages[key].count("<!-- end -->") == 2, key


def test_english_texts_have_no_syntax_of_the_frontend(texts: dict[str, Any]) -> None:
    """Its translator would read these characters as a link, a plural or a placeholder."""
    assert [text for text in strings(texts) if re.search(r"[@|{}]", text)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_have_a_value_for_each_widget(host: Host, path: Path) -> None:
    """Values are stored by position: where one is missing or left over, others move."""
    for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
        if node["type"].startswith(("RealCompo", "SepEn")):
            definition = host.nodes[node["type"]].GET_NODE_INFO_V1()
            names = list(widget_names(definition))
            assert len(node.get("widgets_values") or []) == len(names), (node["type"], names)


def shown(socket: Any) -> str:
    """The name of an input or output on the node."""
    return socket.display_name or socket.id


def table(page: str, section: str) -> dict[str, str]:
    """The rows of a section's table: the rest of each row by the name in its first cell."""
    text = page.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", text, re.MULTILINE))


def facts(socket: Any) -> list[str]:
    """What a help page must tell about an input."""
    low, high, default = (getattr(socket, name, None) for name in ("min", "max", "default"))
    found = ["optional"] if socket.optional else []
    found += [f"{number(low)} to {number(high)}"] if low is not None else []
    one_line = default is not None and not getattr(socket, "multiline", False)
    return [*found, f"default {number(default)}"] if one_line else found


def number(value: Any) -> str:
    """A default or a bound in plain English."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def entry(schema: Any) -> dict[str, Any]:
    """A node's texts in ComfyUI's translation format, whose keys have no dots."""
    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": {socket.id.replace(".", "_"): label(socket) for socket in schema.inputs},
        "outputs": {str(index): label(socket) for index, socket in enumerate(schema.outputs)},
    }


def label(socket: Any) -> dict[str, str]:
    """An input's or output's texts."""
    return {"name": shown(socket), "tooltip": socket.tooltip}


def strings(value: Any) -> list[str]:
    """All texts in nested dictionaries."""
    return (
        [value]
        if isinstance(value, str)
        else [found for inner in value.values() for found in strings(inner)]
    )
