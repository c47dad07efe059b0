"""Answers of chat-completions servers: the text in them, or why there is none."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from ....realcompo_core.errors import InputError

BUSY = {408, 425, 429, 500, 502, 503, 504}
REFUSING = {400, 422}
SETTINGS = ("seed", "temperature", "response_format")  # that a request can do without
CHECK_KEY = "Check the variable that key_env names."
CHECK_SERVER = "Check that the profile's server runs, and its url."
CHECK_PROFILE = "Check the profile's url and model."
LONGER = "Raise the profile's max_reply_bytes, or use a model that answers briefly."
AGAIN = "Ask again with another seed, or use another model."
REPHRASE = "Say it in other words, or use another profile."
PROTOCOL = "JSON of the chat-completions protocol"


class Unanswered(InputError):
    """No answer.

    ``wait`` is after how many seconds asking again may help, None where it can't. ``patient`` says
    that a server only needs time, ``setting`` names one that it refuses, ``other_seed`` says that
    the same question would get the same answer.
    """

    def __init__(
        self,
        expected: str,
        got: str,
        fix: str,
        wait: float | None = None,
        *,
        patient: bool = False,
        setting: str = "",
        other_seed: bool = False,
    ) -> None:
        super().__init__("answer", expected, got, fix)
        self.wait = wait
        self.patient = patient
        self.setting = setting
        self.other_seed = other_seed


def check_status(status: int, headers: Mapping[str, str], words: str, *, versioned: bool) -> None:
    """Raise :class:`Unanswered` for any status but 200.

    ``words`` are the server's own, fit to be shown; ``versioned`` says that the profile's URL ends
    in /v1.
    """
    if status == 200:
        return
    if 300 <= status < 400:
        fix = "Write the address that it leads to into the profile, if you trust it."
        raise Unanswered("an answer", "a redirect, which is not followed", fix)
    if status in (401, 403):
        raise Unanswered("an accepted key", _with("a refused one", words), CHECK_KEY)
    if status in (404, 405):
        fix = CHECK_PROFILE if versioned else f"{CHECK_PROFILE} Most urls end in /v1."
        raise Unanswered("a known model and URL", _with("an unknown one", words), fix)
    got = _with(f"status {status}", words)
    if status in REFUSING:
        setting = next((name for name in SETTINGS if name in words.lower()), "")
        raise Unanswered("an answer", got, CHECK_PROFILE, setting=setting)
    if status in BUSY:
        _raise_busy(status, headers, words, got)
    raise Unanswered("an answer", got, CHECK_PROFILE)


async def text_of(chunks: AsyncIterator[bytes], *, streamed: bool) -> str:
    """Return the reply out of a whole answer or out of server-sent events.

    Raises :class:`Unanswered`.
    """
    if streamed:
        return await _streamed(chunks)
    return _content(decoded(b"".join([chunk async for chunk in chunks])), "message")


async def limited(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Pass bytes on; raise :class:`Unanswered` where they are more than ``limit``."""
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise Unanswered(f"an answer of at most {limit} bytes", "a longer one", LONGER)
        yield chunk


def error_text(data: bytes) -> str:
    """Return what a body says of an error: its message, or all of it where it is no JSON."""
    text = data.decode("utf-8", errors="replace")
    try:
        return _message(json.loads(text)) or ""
    except (ValueError, RecursionError):
        return text


def decoded(data: bytes) -> Any:
    """Return the JSON of an answer; raises :class:`Unanswered` for anything else."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        pass
    raise Unanswered(PROTOCOL, "something else", CHECK_SERVER)


def _with(got: str, words: str) -> str:
    return f'{got}: "{words}"' if words else got


def _raise_busy(status: int, headers: Mapping[str, str], words: str, got: str) -> None:
    if status == 429:
        got = _with("too many requests", words)
    loading = status == 503 and "load" in words.lower()
    wait = _wait(headers.get("Retry-After"))
    fix = "Wait, or use another profile."
    raise Unanswered("a free server", got, fix, wait, patient=loading)


def _wait(after: str | None) -> float:
    """The seconds that a server asks to wait (a number or a date); 1 where it says nothing."""
    if after and after.isascii() and after.strip().isdigit():
        return float(after[:9])
    try:
        moment = parsedate_to_datetime(after or "")
        return max((moment - datetime.now(moment.tzinfo or UTC)).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return 1.0


def _message(value: Any) -> str:
    """The message in an error's JSON, as OpenAI, Ollama, Gemini, Mistral and FastAPI write it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(filter(None, map(_message, value[:5])))
    if not isinstance(value, dict):
        return ""
    where = value.get("loc")
    place = f"{where[-1]}: " if isinstance(where, list) and where else ""
    for key in ("error", "message", "detail", "msg"):
        found = _message(value.get(key))
        if found:
            return place + found
    return ""


async def _streamed(chunks: AsyncIterator[bytes]) -> str:
    """The reply out of server-sent events, which end with ``[DONE]`` or a reason to finish."""
    parts: list[str] = []
    finished = False
    async for data in _events(chunks):
        if data == b"[DONE]":
            return "".join(parts)
        event = decoded(data)
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
        if end < 0:
            continue
        lines = buffer[:end].splitlines()
        buffer = buffer[end + 1 :]
        for line in lines:
            if line.startswith(b"data:"):
                yield bytes(line[5:].strip())
    if buffer.startswith(b"data:"):
        yield bytes(buffer[5:].strip())


class Refused(Exception):
    """An error that stands in an answer with status 200."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def _choice(answer: Any) -> dict[str, Any]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or "error" in answer:
        raise Refused(_message(answer))
    return choices[0] if choices and isinstance(choices[0], dict) else {}


def _content(answer: Any, part: str) -> str:
    """The text of an answer's ``message``, or of an event's ``delta``, which may be empty."""
    choice = _choice(answer)
    message = choice.get(part)
    message = message if isinstance(message, dict) else {}
    _check_finish(choice.get("finish_reason"))
    text = _joined(message.get("content"))
    if part == "message" and not text:
        thought = message.get("reasoning") or message.get("reasoning_content")
        got = "thinking alone" if thought else "none"
        raise Unanswered("a text", got, AGAIN)
    return text


def _check_finish(reason: Any) -> None:
    if reason == "length":
        raise Unanswered("a whole reply", "one cut off at the model's limit of tokens", AGAIN)
    if reason == "content_filter":
        raise Unanswered("a reply", "none: the server's content filter stopped it", REPHRASE)


def _joined(content: Any) -> str:
    """The text of a content, which may be a list of parts; what a model only thinks is left out."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part.get("text") for part in content if isinstance(part, dict)]
    return "".join(part for part in parts if isinstance(part, str))
