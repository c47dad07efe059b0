"""What is written about nodes and settings, made from their schemas and fields: ``make docs``.

Three kinds of text are made: ComfyUI's English texts, the tables of help pages (between markers)
and ``docs/settings.md``. ``python -m testkit.docs`` writes them, with ComfyUI at COMFYUI_PATH.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from realcompo_core.sampling.fields import Setting, settings_of
from realcompo_core.sampling.latent_guidance import GuidanceSettings
from realcompo_core.sampling.regional_attention import RegionalSettings
from realcompo_core.sampling.sepen_guidance import SeparationSettings
from realcompo_core.sampling.settings import (
    LOOK,
    LOOK_OR_PLACEMENT,
    PLACEMENT,
    BalancerSettings,
)
from realcompo_core.training.finetuning import FinetuningSettings

from .host import PACK
from .quiet_host import quiet_host
from .server import ROOT

LOCALE = ROOT / "locales" / "en" / "nodeDefs.json"
PAGES = ROOT / "nodes" / "web" / "docs"
SETTINGS = ROOT / "docs" / "settings.md"
FEW = 6  # a longer list of choices is not spelled out
FILE = ".safetensors"  # nor is one of files: each machine has its own
BEGIN, END = "<!-- {}: written by `make docs` -->", "<!-- end -->"

BALANCER = {"look_or_placement": LOOK_OR_PLACEMENT, **settings_of(BalancerSettings)}
# The settings that a node's widgets are made from, by its id.
WIDGETS: dict[str, Mapping[str, Setting]] = {
    "RealCompoBalancer": BALANCER,
    "RealCompoBalancerSettings": BALANCER,
    "RealCompoAttentionCapture": BALANCER,
    "RealCompoLayoutGuidance": settings_of(GuidanceSettings),
    "RealCompoRegionalAttention": settings_of(RegionalSettings),
    "SepEnGuidance": settings_of(SeparationSettings),
    "SepEnTrain": settings_of(FinetuningSettings),
}
HEAD = """# Settings

What each setting does, with its range and its default. `make docs` writes this page from the
settings' own fields in `realcompo_core`: change the words there.
"""
ENDS = """## What look_or_placement moves

The slider moves these settings of the balancer together, in equal steps. A setting that RealCompo
Balancer Settings (advanced) puts beyond an end stays where it is.
"""
CHAPTERS = {
    "RealCompoBalancer": "Most images need only these. RealCompo Balancer Settings (advanced) "
    "holds the rest.",
    "RealCompoBalancerSettings": "Connect its output to `settings` of RealCompo Balancer. A logit "
    "is a scale for shares: 0 is half and half, 1 is 73%, 2 is 88%, 4 is 98%.",
    "RealCompoLayoutGuidance": "",
    "RealCompoRegionalAttention": "",
    "SepEnGuidance": "",
    "SepEnTrain": "The defaults are the paper's for one prompt.",
}

Schemas = Mapping[str, Any]


def schemas_of(nodes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of each node that ComfyUI took from this pack, by id."""
    found = {}
    for key, node in nodes.items():
        if getattr(node, "RELATIVE_PYTHON_MODULE", "").endswith(f".{PACK}"):
            found[key] = node.define_schema()
    return found


def written(schemas: Schemas) -> dict[Path, str]:
    """Return every file that is made, by its path, as it should be."""
    files = {LOCALE: locale(schemas), SETTINGS: settings_page(schemas)}
    for key, schema in schemas.items():
        path = PAGES / f"{key}.md"
        files[path] = help_page(path.read_text(encoding="utf-8"), key, schema)
    return files


def locale(schemas: Schemas) -> str:
    """Return the English texts of all nodes, in ComfyUI's translation format."""
    texts = {key: node_texts(schema) for key, schema in schemas.items()}
    return json.dumps(texts, indent=2, ensure_ascii=False) + "\n"


def node_texts(schema: Any) -> dict[str, Any]:
    """Return a node's texts; keys of the format have no dots."""
    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": {socket.id.replace(".", "_"): label(socket) for socket in schema.inputs},
        "outputs": {str(index): label(socket) for index, socket in enumerate(schema.outputs)},
    }


def label(socket: Any) -> dict[str, str]:
    """Return an input's or an output's texts."""
    return {"name": shown(socket), "tooltip": socket.tooltip}


def shown(socket: Any) -> str:
    """Return the name of an input or output as the node shows it."""
    return socket.display_name or socket.id


def help_page(page: str, key: str, schema: Any) -> str:
    """Return a help page with its tables of inputs and outputs as the schema says."""
    tables = {
        "inputs": input_table(schema.inputs, WIDGETS.get(key, {})),
        "outputs": output_table(schema.outputs),
    }
    for name, table in tables.items():
        begin = BEGIN.format(name)
        between = re.compile(f"{re.escape(begin)}.*?{re.escape(END)}", re.DOTALL)
        text = f"{begin}\n{table}\n{END}"
        page = between.sub(lambda _, text=text: text, page)
    return page


def input_table(sockets: list[Any], settings: Mapping[str, Setting]) -> str:
    """Return the table of a node's inputs."""
    rows = ["| Input | What it does | Range and default |", "|---|---|---|"]
    for socket in sockets:
        facts = ["optional", *ranges(socket)] if socket.optional else list(ranges(socket))
        rows.append(f"| `{shown(socket)}` | {words(socket, settings)} | {'; '.join(facts)} |")
    return "\n".join(rows)


def settings_table(sockets: list[Any], settings: Mapping[str, Setting]) -> str:
    """Return the table of settings."""
    rows = ["| Setting | What it does | Range and default |", "|---|---|---|"]
    for socket in sockets:
        facts = "; ".join(ranges(socket))
        rows.append(f"| `{shown(socket)}` | {words(socket, settings)} | {facts} |")
    return "\n".join(rows)


def words(socket: Any, settings: Mapping[str, Setting]) -> str:
    """Return an input's tooltip, and what more there is to say where it is a setting."""
    more = settings[socket.id].more if socket.id in settings else ""
    return f"{socket.tooltip} {more}".strip()


def output_table(sockets: list[Any]) -> str:
    """Return the table of a node's outputs."""
    rows = ["| Output | What it is |", "|---|---|"]
    rows += [f"| `{shown(socket)}` | {socket.tooltip} |" for socket in sockets]
    return "\n".join(rows)


def ranges(socket: Any) -> Iterator[str]:
    """Yield an input's choices, range and default, where it has some."""
    low, high, default = (getattr(socket, name, None) for name in ("min", "max", "default"))
    options = getattr(socket, "options", None) or []
    listed = 1 < len(options) <= FEW and not any(FILE in option for option in options)
    if listed:
        yield ", ".join(options)
    if low is not None:
        yield f"{number(low)} to {number(high)}"
    if default not in (None, "") and not getattr(socket, "multiline", False):
        yield f"default {number(default)}"


def number(value: Any) -> str:
    """Return a default or a bound in plain English."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def settings_page(schemas: Schemas) -> str:
    """Return the page of all settings."""
    parts = [HEAD]
    for key, introduction in CHAPTERS.items():
        parts.append(chapter(schemas[key], WIDGETS[key], introduction))
    return "\n".join([*parts, ENDS, ends_table(), ""])


def chapter(schema: Any, settings: Mapping[str, Setting], introduction: str) -> str:
    """Return what the page says about one node's settings."""
    sockets = [socket for socket in schema.inputs if socket.id in settings]
    parts = [f"## {schema.display_name}", introduction, settings_table(sockets, settings)]
    return "\n\n".join(part for part in parts if part) + "\n"


def ends_table() -> str:
    """Return the table of what `look_or_placement` moves, and how far."""
    rows = ["| Setting | Placement, -1 | The default, 0 | Look, 1 |", "|---|---|---|---|"]
    for name, high in LOOK.items():
        values = (PLACEMENT[name], BALANCER[name].default, high)
        rows.append(f"| `{name}` | {' | '.join(number(value) for value in values)} |")
    return "\n".join(rows)


def main() -> None:
    """Write every file that is stale, and name it."""
    with quiet_host() as host:
        for path, text in written(schemas_of(host.nodes)).items():
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
                print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
