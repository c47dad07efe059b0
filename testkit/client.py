"""The part of a ComfyUI server's API that tests, benchmarks and the demo need."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp

CANCEL_SECONDS = 10

OnEvent = Callable[[str, Any], Any]


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
    """Talks to a running server; ``url`` is its address."""

    url: str
    session: aiohttp.ClientSession

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

    async def run(self, prompt: dict, on_event: OnEvent = lambda *_: None) -> dict:
        """Queue a prompt and wait for it; returns the nodes' outputs.

        ``on_event`` sees every message; a binary one (the latent preview) is reported as the
        event ``preview``. When this is cancelled, so is the prompt.
        """
        client, prompt_id = uuid.uuid4().hex, str(uuid.uuid4())
        address = f"{self.url}/ws?clientId={client}"
        async with self.session.ws_connect(address, max_msg_size=0) as messages:
            try:
                await self._queue(prompt, client, prompt_id)
                await self._finish(messages, prompt_id, on_event)
            except asyncio.CancelledError:
                # The server may be gone.
                with suppress(aiohttp.ClientError, TimeoutError, ServerError):
                    await asyncio.wait_for(self._cancel(prompt_id), CANCEL_SECONDS)
                raise
        history = await self.get(f"history/{prompt_id}")
        if prompt_id not in history:
            raise ServerError("the server's history was cleared")
        return history[prompt_id]["outputs"]

    async def _queue(self, prompt: dict, client: str, prompt_id: str) -> None:
        """Raises Refusal where any node is refused: the server would run the rest silently."""
        request = {"prompt": prompt, "client_id": client, "prompt_id": prompt_id}
        queued = await self.post("prompt", request)
        if queued["node_errors"]:
            await self._cancel(prompt_id)
            raise Refusal(_reasons(json.dumps(queued)))

    async def _cancel(self, prompt_id: str) -> None:
        await self.post("queue", {"delete": [prompt_id]})
        await self.post("interrupt", {"prompt_id": prompt_id})

    @staticmethod
    async def _finish(
        messages: AsyncIterable[aiohttp.WSMessage], prompt_id: str, on_event: OnEvent
    ) -> None:
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
async def session() -> AsyncGenerator[aiohttp.ClientSession]:
    """Connections that wait for an answer as long as it takes."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30)
    async with aiohttp.ClientSession(timeout=timeout) as opened:
        yield opened


@asynccontextmanager
async def connect(url: str) -> AsyncGenerator[Client]:
    """A client of a server, which need not run yet."""
    async with session() as opened:
        yield Client(url.rstrip("/"), opened)
