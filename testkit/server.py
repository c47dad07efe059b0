"""A real ComfyUI server in a process of its own, and the part of its API that the demo needs."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 180
CANCEL_SECONDS = 10
# A server ends with the process that started it, killed or not. Its signal outlives exec.
DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class ServerError(Exception):
    """The server did not start, refused a prompt or failed while running it."""


class NodeError(ServerError):
    """A node of a prompt failed; ``kind`` is the class of its error."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


class Refusal(ServerError):
    """The server does not take a prompt: the workflow doesn't fit its nodes or models."""


@dataclass
class Client:
    """Talks to a running server: ``url`` is its address, ``log`` the file that it writes to, where that is known."""

    url: str
    session: aiohttp.ClientSession
    log: Path | None = None

    async def get(self, path: str, **query: str) -> Any:
        async with self.session.get(f"{self.url}/{path}", params=query) as reply:
            return await reply.json()

    async def post(self, path: str, data: Any = None) -> Any:
        async with self.session.post(f"{self.url}/{path}", json=data) as reply:
            text = await reply.text()
            if reply.status == 400:
                raise Refusal(_reasons(text))
            if reply.status > 400:
                raise ServerError(text)
            return await reply.json() if text else None

    async def file(self, image: dict) -> bytes:
        """An image that a node saved, by its entry in the history."""
        async with self.session.get(f"{self.url}/view", params=image) as reply:
            reply.raise_for_status()
            return await reply.read()

    async def run(
        self, prompt: dict, on_event: Callable[[str, Any], Any] = lambda *_: None
    ) -> dict:
        """Queue a prompt and wait for it; returns the nodes' outputs. ``on_event`` sees every message.

        A binary message (the latent preview) is reported as the event ``preview``. When this is cancelled, so is the
        prompt.
        """
        client, prompt_id = uuid.uuid4().hex, str(uuid.uuid4())
        async with self.session.ws_connect(
            f"{self.url}/ws?clientId={client}", max_msg_size=0
        ) as messages:
            try:
                queued = await self.post(
                    "prompt", {"prompt": prompt, "client_id": client, "prompt_id": prompt_id}
                )
                if queued["node_errors"]:  # the server would run the rest without a word
                    await self._cancel(prompt_id)
                    raise Refusal(_reasons(json.dumps(queued)))
                await self._finish(messages, prompt_id, on_event)
            except asyncio.CancelledError:
                with suppress(
                    aiohttp.ClientError, asyncio.TimeoutError, ServerError
                ):  # a server may be gone
                    await asyncio.wait_for(self._cancel(prompt_id), CANCEL_SECONDS)
                raise
        history = await self.get(f"history/{prompt_id}")
        if prompt_id not in history:
            raise ServerError("the server's history was cleared")
        return history[prompt_id]["outputs"]

    async def _cancel(self, prompt_id: str) -> None:
        await self.post("queue", {"delete": [prompt_id]})
        await self.post("interrupt", {"prompt_id": prompt_id})

    @staticmethod
    async def _finish(messages: Any, prompt_id: str, on_event: Callable[[str, Any], Any]) -> None:
        async for message in messages:
            if message.type is aiohttp.WSMsgType.BINARY:
                on_event("preview", message.data)
            elif message.type is aiohttp.WSMsgType.TEXT:
                event, data = message.json()["type"], message.json()["data"]
                on_event(event, data)
                ours = data.get("prompt_id") == prompt_id
                if ours and event == "execution_error":
                    text = f"{data['node_type']}: {data['exception_message']}"
                    raise NodeError(text, str(data.get("exception_type", "")))
                # Success is told before the outputs stand in the history; this is told after.
                if ours and event == "executing" and data["node"] is None:
                    return
        raise ServerError("the server closed the connection")


def _reasons(text: str) -> str:
    """What the server has against each node of a prompt; the text as it is if it doesn't say."""
    try:
        nodes = json.loads(text)["node_errors"]
        reasons = [
            f"{node['class_type']}: {error['message']} ({error['details']})"
            for node in nodes.values()
            for error in node["errors"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return text
    return "; ".join(reasons) or text


@asynccontextmanager
async def connect(url: str, log: Path | None = None) -> AsyncIterator[Client]:
    """A client of a server, which need not run yet."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Client(url.rstrip("/"), session, log)


@asynccontextmanager
async def serve(
    base: Path,
    *,
    pack_name: str = "ComfyUI-RealCompo",
    models: Path | None = None,
    cpu: bool = True,
    frontend: Path | None = None,
) -> AsyncIterator[Client]:
    """A server with this pack and folders of its own under ``base``; stopped at exit.

    ``frontend`` is a folder to serve in place of the frontend that the host has installed.
    """
    prepare(base, pack_name, models)
    port = _free_port()
    log = base / "server.log"
    with log.open("w") as out:
        command = _command(base, port, cpu, frontend)
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=base)
        try:
            async with connect(f"http://127.0.0.1:{port}", log) as client:
                await _until_ready(client, process)
                yield client
        finally:
            process.terminate()
            process.wait()


def prepare(base: Path, pack_name: str, models: Path | None) -> None:
    """Folders for a server: the pack linked as a custom node, the models folder linked if given."""
    for folder in (base / "custom_nodes", *([models] if models else [])):
        folder.mkdir(parents=True, exist_ok=True)
    links = {base / "custom_nodes" / pack_name: ROOT} | (
        {base / "models": models} if models else {}
    )
    for link, target in links.items():
        if not link.exists():
            link.symlink_to(target, target_is_directory=True)


def _command(base: Path, port: int, cpu: bool, frontend: Path | None) -> list[str]:
    main = str(Path(os.environ["COMFYUI_PATH"]) / "main.py")
    options = [
        *(["--cpu"] if cpu else []),
        "--base-directory",
        base,
        "--port",
        port,
        "--disable-api-nodes",
        "--preview-method",
        "latent2rgb",
        *(["--front-end-root", frontend] if frontend else []),
    ]
    wrapper = ["-c", DIE_WITH_PARENT] if sys.platform == "linux" else []
    return [
        sys.executable,
        *wrapper,
        main,
        *map(str, options),
        "--database-url",
        "sqlite:///:memory:",
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def _until_ready(client: Client, process: subprocess.Popen) -> None:
    """Ask until it answers: a port that accepts is the only sign of readiness."""
    for _ in range(START_SECONDS * 5):
        if process.poll() is not None:
            raise ServerError(f"ComfyUI stopped while starting:\n{client.log.read_text()[-2000:]}")
        try:
            await client.get("system_stats")
            return
        except aiohttp.ClientError:
            await asyncio.sleep(0.2)
    raise ServerError(f"ComfyUI did not answer within {START_SECONDS} s; see {client.log}")
