"""A real ComfyUI server in a process of its own, with this pack."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from . import ROOT, comfyui
from .client import Client, Refusal, ServerError, connect, session
from .custom_nodes import STAND_INS

__all__ = ["PACK", "ROOT", "Client", "Refusal", "Server", "ServerError", "connect", "serve"]

PACK = "ComfyUI-RealCompo"  # the folder of the pack in custom_nodes
START_SECONDS = 180
# A server ends with the process that started it, killed or not. Its signal outlives exec.
DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@dataclass
class Server(Client):
    """A client of a server that was started here; ``base`` holds its folders and its log."""

    base: Path

    @property
    def log(self) -> Path:
        return self.base / "server.log"


@asynccontextmanager
async def serve(
    base: Path,
    *,
    pack_name: str = PACK,
    models: Path | None = None,
    cpu: bool = True,
    frontend: Path | None = None,
    stand_ins: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> AsyncGenerator[Server]:
    """Start a server with this pack and folders of its own under ``base``; stop it at exit.

    ``frontend`` is served in place of the one that the host has installed. ``stand_ins`` names
    files of ``testkit.custom_nodes`` to load besides. ``environment`` is added to this process's.
    """
    prepare(base, pack_name, models)
    variables = {**os.environ, **(environment or {})}
    if stand_ins:
        add_stand_ins(base, stand_ins)
        # After ComfyUI's own folder, so that its modules win.
        variables["PYTHONPATH"] = str(ROOT)
    port = _free_port()
    command = _command(base, port, cpu, frontend)
    async with session() as opened:
        server = Server(f"http://127.0.0.1:{port}", opened, base)
        with server.log.open("w") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, cwd=base, env=variables
            )
        try:
            await _until_ready(server, process)
            yield server
        finally:
            process.terminate()
            process.wait()


def prepare(base: Path, pack_name: str, models: Path | None) -> None:
    """Make a server's folders: the pack linked as a custom node, a models folder if given."""
    links = {base / "custom_nodes" / pack_name: ROOT}
    (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
    if models:
        models.mkdir(parents=True, exist_ok=True)
        links[base / "models"] = models
    for link, target in links.items():
        if not link.exists():
            link.symlink_to(target, target_is_directory=True)


def add_stand_ins(base: Path, names: Sequence[str]) -> None:
    """Copy stand-ins into a server's custom nodes."""
    for name in names:
        shutil.copy(STAND_INS / f"{name}.py", base / "custom_nodes")


def _command(base: Path, port: int, cpu: bool, frontend: Path | None) -> list[str]:
    command = [sys.executable]
    if sys.platform == "linux":
        command += ["-c", DIE_WITH_PARENT]
    command += [str(comfyui.folder() / "main.py")]
    if cpu:
        command += ["--cpu"]
    command += ["--base-directory", str(base), "--port", str(port), "--disable-api-nodes"]
    command += ["--preview-method", "latent2rgb"]
    if frontend:
        command += ["--front-end-root", str(frontend)]
    return [*command, "--database-url", "sqlite:///:memory:"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def _until_ready(server: Server, process: subprocess.Popen) -> None:
    """Ask until it answers: a port that accepts is the only sign of readiness."""
    for _ in range(START_SECONDS * 5):
        if process.poll() is not None:
            told = server.log.read_text()[-2000:]
            raise ServerError(f"ComfyUI stopped while starting:\n{told}")
        try:
            await server.get("system_stats")
            return
        except aiohttp.ClientError:
            await asyncio.sleep(0.2)
    raise ServerError(f"ComfyUI did not answer within {START_SECONDS} s; see {server.log}")
