"""A real ComfyUI inside this process: its node registry, its loader and its PromptExecutor."""

from __future__ import annotations

import asyncio
import importlib
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from . import comfyui
from .graph import Graph
from .random_models import MODELS, SD21, SDXL, know_small_models, write
from .server import PACK, prepare

CPU = ("--cpu",)  # ComfyUI's flags


class PromptError(Exception):
    """What ComfyUI reports to the user for a failed prompt."""


class Server:
    """What the executor needs of a server: somewhere to send its messages."""

    def __init__(self) -> None:
        self.client_id, self.last_node_id, self.last_prompt_id = "test", None, None
        self.messages: list[tuple[str, Any]] = []

    def send_sync(self, event: str, data: Any, sid: str | None = None) -> None:
        self.messages.append((event, data))


class Host:
    """Runs prompts through the real executor and hands back what nodes put out."""

    def __init__(self, base: Path, flags: Sequence[str] = CPU) -> None:
        prepare(base, PACK, MODELS)
        self.loop = boot(base, flags)
        write(MODELS, [SD21, SDXL])
        know_small_models()
        import execution

        import nodes

        self.nodes = nodes.NODE_CLASS_MAPPINGS
        self.server = Server()
        self.executor = execution.PromptExecutor(
            self.server, execution.CacheType.CLASSIC, {"lru": 0, "ram": 0.0, "ram_inactive": 0.0}
        )
        self.collected: dict[str, Any] = {}
        self.functions: dict[str, Callable] = {}
        self.nodes |= {
            "TestCollect": collector(self.collected),
            "TestApply": applier(self.functions),
        }

    def run(self, graph: Graph, **wanted: Any) -> dict[str, Any]:
        """Execute a graph and return the outputs that ``wanted`` names.

        Raises :class:`PromptError` with the message that a user would see.
        """
        prompt = dict(graph.prompt)
        for name, link in wanted.items():
            prompt[f"collect_{name}"] = {
                "class_type": "TestCollect",
                "inputs": {"value": link, "name": name},
            }
        self.collected.clear()
        self.server.messages.clear()
        import execution

        valid, error, outputs, node_errors = asyncio.run(
            execution.validate_prompt("test", prompt, None)
        )
        if not valid or node_errors:  # the host would run the outputs that are valid
            raise PromptError(f"{error} {node_errors}")
        self.executor.execute(prompt, uuid.uuid4().hex, {"client_id": "test"}, outputs)
        for event, data in self.executor.status_messages:
            if event in ("execution_error", "execution_interrupted"):
                raise PromptError(data.get("exception_message", event))
        return dict(self.collected)

    def defaults(self, name: str) -> dict[str, Any]:
        """Return what a node's required inputs are where nobody sets them, sockets left out."""
        found = {}
        for field, (kind, *options) in self.nodes[name].INPUT_TYPES()["required"].items():
            settings = options[0] if options else {}
            choices = kind if isinstance(kind, (list, tuple)) else settings.get("options", ())
            if "default" in settings:
                found[field] = settings["default"]
            elif choices:
                found[field] = choices[0]
        return found

    def close(self) -> None:
        self.loop.close()

    def forget(self) -> None:
        """Drop cached outputs, so that the next run executes every node."""
        self.executor.reset()

    def pack(self, name: str) -> ModuleType:
        """A module of the pack as ComfyUI loaded it: classes must not exist twice."""
        root = next(m for m in list(sys.modules) if m.endswith(PACK))
        return importlib.import_module(f"{root}.{name}")


def collector(collected: dict[str, Any]) -> type:
    """A node that keeps what it is given, so that tests see real values."""

    class TestCollect:
        RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "collect", "test", True

        @classmethod
        def INPUT_TYPES(cls) -> dict:
            return {"required": {"value": (AnyType("*"), {}), "name": ("STRING", {})}}

        @classmethod
        def IS_CHANGED(cls, **_: Any) -> float:
            return float("nan")  # collect also what the host has cached

        def collect(self, value: Any, name: str) -> tuple:
            collected[name] = value
            return ()

    return TestCollect


def applier(functions: dict[str, Callable]) -> type:
    """A node that applies a test's function, to stand for what other packs do to a model."""

    class TestApply:
        RETURN_TYPES, FUNCTION, CATEGORY = (AnyType("*"),), "apply", "test"

        @classmethod
        def INPUT_TYPES(cls) -> dict:
            return {"required": {"value": (AnyType("*"), {}), "function": ("STRING", {})}}

        def apply(self, value: Any, function: str) -> tuple:
            return (functions[function](value),)

    return TestApply


class AnyType(str):
    """Connects to any socket."""

    def __ne__(self, other: object) -> bool:
        return False


def boot(base: Path, flags: Sequence[str]) -> asyncio.AbstractEventLoop:
    """Import ComfyUI with the folders under ``base``, and load the pack that is linked there.

    Possible once in a process; returns the loop that the server object holds.
    """
    comfyui.put_on_path()
    argv = sys.argv
    sys.argv = ["main.py", *flags, "--base-directory", str(base), "--disable-api-nodes"]
    import comfy.options

    comfy.options.enable_args_parsing()
    # Reads sys.argv. Early, as in main.py: later imports shadow `utils`.
    import utils.extra_config  # noqa: F401

    sys.argv = argv
    import server

    import nodes

    loop = asyncio.new_event_loop()
    server.PromptServer(loop)
    loop.run_until_complete(nodes.init_extra_nodes(init_api_nodes=False))
    return loop
