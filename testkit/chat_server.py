"""A language model's server for tests: chat completions over real HTTP, answers by script."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
KEY = "sk-test-3f9a7c1e5b"
MODEL = "secret-model-7b"
PATH = "/hidden-path-42/v1/chat/completions"


@dataclass
class Asked:
    """One request as it came in."""

    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def said(self) -> list[str]:
        return [message["content"] for message in self.body["messages"]]


@dataclass
class ChatServer:
    """Serves on a port of its own, in a thread.

    The last of ``answers`` is given again and again.
    """

    answers: list[Answer] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # requests that break the protocol
    dropped: int = 0  # requests that the client gave up
    port: int = 0
    path: str = PATH

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path.removesuffix('/chat/completions')}"

    def __enter__(self) -> ChatServer:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{anything:.*}", self._handle)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if not _speaks_the_protocol(request, self.path):
            self.wrong.append(f"{request.method} {request.path} {request.content_type}")
            return web.json_response({"error": {"message": "no such route"}}, status=404)
        self.asked.append(Asked(await request.json(), dict(request.headers)))
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        try:
            return await answer(request)
        except asyncio.CancelledError:
            self.dropped += 1
            raise


def _speaks_the_protocol(request: web.Request, path: str) -> bool:
    asked = request.method, request.path, request.content_type
    return asked == ("POST", path, "application/json")


def layout_reply(*objects: tuple[str, list[float]]) -> str:
    return json.dumps({"objects": [{"phrase": phrase, "box": box} for phrase, box in objects]})


def whole(content: Any, *, finish: str = "stop", headers: dict | None = None) -> Answer:
    """A whole answer in one piece."""

    async def answer(_: web.Request) -> web.Response:
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        data = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": MODEL,
            "choices": [choice],
        }
        return web.json_response(data, headers=headers)

    return answer


def event(content: str | None, finish: str | None = None) -> bytes:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    data = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": MODEL,
        "choices": [choice],
    }
    return f"data: {json.dumps(data)}\r\n\r\n".encode()


def streamed(
    content: str, *, size: int = 3, end: bytes = b"data: [DONE]\n\n", pause: float = 0.0
) -> Answer:
    """An answer in events of ``size`` characters; odd pieces of bytes, a comment, a usage event."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        parts = [content[i : i + size] for i in range(0, len(content), size)]
        data = b": hello\n\n" + b"".join(event(part) for part in ["", *parts])
        if end:
            data += (
                event(None, "stop")
                + b'data: {"choices": [], "usage": {"total_tokens": 9}}\n\n'
                + end
            )
        for i in range(0, len(data), 57):
            await response.write(data[i : i + 57])
            await asyncio.sleep(pause)
        return response

    return answer


def raw(body: bytes, *, status: int = 200, headers: dict | None = None) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(
            body=body, status=status, headers={"Content-Type": "application/json"} | (headers or {})
        )

    return answer


def error(status: int, body: Any, **headers: str) -> Answer:
    """An error as a server words it in JSON."""
    return raw(json.dumps(body).encode(), status=status, headers=headers)


def strict(content: str, refused: dict[str, tuple[int, Any]]) -> Answer:
    """A server that refuses settings: for each a status and the body that says so."""

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        for setting, (status, words) in refused.items():
            if setting in body:
                return await error(status, words)(request)
        return await whole(content)(request)

    return answer


def parts_streamed(content: str) -> Answer:
    """Events whose deltas hold lists of parts, thinking first."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "let me see"}]}
    deltas: list[Any] = [[thinking], [{"type": "text", "text": content}]]
    choices = [{"index": 0, "delta": {"content": delta}} for delta in deltas]
    lines = [f"data: {json.dumps({'choices': [choice]})}\n\n" for choice in choices]
    body = "".join([*lines, "data: [DONE]\n\n"]).encode()
    return raw(body, headers={"Content-Type": "text/event-stream"})


def cut_off() -> Answer:
    """Promises more than it sends, and hangs up."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Content-Length": "5000"}
        )
        await response.prepare(request)
        await response.write(b'{"choices": [{"mess')
        if request.transport:
            request.transport.close()
        return response

    return answer


def silent(seconds: float) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await whole("[]")(request)

    return answer


def meeting(count: int, content: str) -> Answer:
    """Answers nobody before so many have asked."""
    asked: list[web.Request] = []
    everyone = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request)
        if len(asked) >= count:
            everyone.set()
        await asyncio.wait_for(everyone.wait(), 30)
        return await whole(content)(request)

    return answer


def endless(kind: str) -> Answer:
    """Never stops sending, in small pieces: an event without end, or JSON."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        await response.write(b'data: {"choices": [{"delta": {"content": "')
        while True:
            await response.write(b"x" * 4096)
            await asyncio.sleep(0)

    return answer


def echo() -> Answer:
    """Says back everything it was sent, as a server's debug mode might."""

    async def answer(request: web.Request) -> web.StreamResponse:
        seen = f"{request.headers.get('Authorization')} {request.url} {MODEL}"
        return await whole(json.dumps([{"phrase": seen, "box": [0, 0, 1, 1]}]))(request)

    return answer


def zipped(content: str) -> Answer:
    return raw(gzip.compress(content.encode()), headers={"Content-Encoding": "gzip"})
