"""One question to an OpenAI-compatible chat endpoint, with everything bounded and nothing told about it.

Errors say what happened in words of their own: exceptions of the network and texts of servers hold URLs and keys.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from ....realcompo_core.errors import InputError
from .profiles import Profile

BUSY = {408, 425, 429, 500, 502, 503, 504}
REASONS = {
    401: ("an accepted key", "a refused one", "Check the variable that key_env names."),
    403: ("an accepted key", "a refused one", "Check the variable that key_env names."),
    404: ("a known model and URL", "an unknown one", "Check the profile's url and model."),
}
CHECK_SERVER = "Check that the profile's server runs, and its url."
LONGER = "Raise the profile's max_reply_bytes, or use a model that answers briefly."
AGAIN = "Ask again with another seed, or use another model."


class Unanswered(InputError):
    """No answer. ``wait`` is after how many seconds asking again may help, None where it can't."""

    def __init__(self, expected: str, got: str, fix: str, wait: float | None = None) -> None:
        super().__init__("answer", expected, got, fix)
        self.wait = wait


async def ask(profile: Profile, messages: list[dict[str, str]], seed: int) -> str:
    """The model's reply to a conversation, whatever it says. Raises :class:`Unanswered`."""
    try:
        async with (
            _session(profile) as session,
            session.post(
                f"{profile.url}/chat/completions",
                json=_question(profile, messages, seed),
                allow_redirects=False,
            ) as answer,
        ):
            _check_status(answer.status, answer.headers)
            return await _reply(answer, profile)
    except InputError:
        raise
    except (
        aiohttp.ClientPayloadError,
        aiohttp.ServerDisconnectedError,
        asyncio.IncompleteReadError,
    ):
        problem = Unanswered("a whole answer", "one that breaks off", CHECK_SERVER, wait=0)
    except (aiohttp.ClientError, OSError, ValueError):
        problem = Unanswered("an answer", "no connection", CHECK_SERVER)
    raise problem


def scrubbed(text: str, profile: Profile) -> str:
    """A text without the profile's key and URL, should a server repeat them."""
    address = profile.url.partition("://")[2]
    host = address.partition("/")[0]
    secrets = [profile.key(), profile.url, address, host if set(host) & set(".:") else ""]
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def _session(profile: Profile) -> aiohttp.ClientSession:
    """No cookies, no proxies and passwords of the environment, no compression that could hide a huge reply."""
    headers = {"Accept": "text/event-stream, application/json", "Accept-Encoding": "identity"}
    if profile.key():
        headers["Authorization"] = f"Bearer {profile.key()}"
    return aiohttp.ClientSession(
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),  # the caller's, over all tries
        auto_decompress=False,
        trust_env=False,
    )


def _question(profile: Profile, messages: list[dict[str, str]], seed: int) -> dict[str, Any]:
    return {
        "model": profile.model,
        "messages": messages,
        "temperature": profile.temperature,
        "seed": seed,
        "stream": profile.stream,
    }


def _check_status(status: int, headers: Mapping[str, str]) -> None:
    if 300 <= status < 400:
        fix = "Write the address that it leads to into the profile, if you trust it."
        raise Unanswered("an answer", "a redirect, which is not followed", fix)
    if status in BUSY:
        got = "too many requests" if status == 429 else f"status {status}"
        raise Unanswered(
            "a free server",
            got,
            "Wait, or use another profile.",
            wait=_wait(headers.get("Retry-After")),
        )
    if status in REASONS:
        raise Unanswered(*REASONS[status])
    if status != 200:
        raise Unanswered("an answer", f"status {status}", "Check the profile's url and model.")


def _wait(after: str | None) -> float:
    """Seconds that a server asks to wait (a number or a date); 1 where it says nothing."""
    if after and after.isascii() and after.strip().isdigit():
        return float(after[:9])
    try:
        moment = parsedate_to_datetime(after or "")
        return max((moment - datetime.now(moment.tzinfo or timezone.utc)).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return 1.0


async def _reply(answer: aiohttp.ClientResponse, profile: Profile) -> str:
    if answer.headers.get("Content-Encoding", "identity") not in ("", "identity"):
        raise Unanswered(
            "a plain answer", "a compressed one", "Switch compression off at the server."
        )
    chunks = _limited(answer.content.iter_any(), profile.max_reply_bytes)
    if answer.content_type == "text/event-stream":
        return await _streamed(chunks)
    return _content(_decoded(b"".join([chunk async for chunk in chunks])), "message")


async def _limited(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise Unanswered(f"an answer of at most {limit} bytes", "a longer one", LONGER)
        yield chunk


async def _streamed(chunks: AsyncIterator[bytes]) -> str:
    """The reply out of server-sent events, which end with ``[DONE]`` or a reason to finish."""
    parts, finished = [], False
    async for data in _events(chunks):
        if data == b"[DONE]":
            return "".join(parts)
        event = _decoded(data)
        parts.append(_content(event, "delta"))
        finished = finished or bool(_choice(event).get("finish_reason"))
    if not finished:
        raise Unanswered("a whole answer", "one that breaks off", CHECK_SERVER, wait=0)
    return "".join(parts)


async def _events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of each event, a line as chat servers send it."""
    buffer = bytearray()
    async for chunk in chunks:
        seen = len(buffer)
        buffer += chunk
        end = buffer.rfind(b"\n", seen)
        if end >= 0:
            lines, buffer = buffer[:end].splitlines(), buffer[end + 1 :]
            for line in lines:
                if line.startswith(b"data:"):
                    yield bytes(line[5:].strip())
    if buffer.startswith(b"data:"):
        yield bytes(buffer[5:].strip())


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        pass
    raise Unanswered("JSON of the chat-completions protocol", "something else", CHECK_SERVER)


def _choice(answer: Any) -> dict[str, Any]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or "error" in answer:
        raise Unanswered("an answer of the chat-completions protocol", "an error", AGAIN, wait=1)
    return choices[0] if choices and isinstance(choices[0], dict) else {}


def _content(answer: Any, part: str) -> str:
    """The text of an answer's ``message``, or of an event's ``delta``, which may be empty."""
    choice = _choice(answer)
    message = choice.get(part)
    content = message.get("content") if isinstance(message, dict) else None
    if choice.get("finish_reason") == "length":
        raise Unanswered("a whole reply", "one cut off at the model's limit of tokens", AGAIN)
    if part == "message" and not isinstance(content, str):
        raise Unanswered("a text", "none", AGAIN)
    return content if isinstance(content, str) else ""
