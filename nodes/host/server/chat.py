"""One question to an OpenAI-compatible chat endpoint, with everything bounded and nothing told
about it.

Errors say what happened in words of their own, and show a server's words without keys, addresses
and the model's name: exceptions of the network hold URLs and keys.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import aiohttp

from ....realcompo_core.errors import InputError
from ....realcompo_core.planner.conventions import schema
from ....realcompo_core.planner.questions import MAXIMUM_OBJECTS
from . import secrets
from .answers import (
    AGAIN,
    CHECK_SERVER,
    Refused,
    Unanswered,
    check_status,
    error_text,
    limited,
    text_of,
)
from .profiles import Profile, ResponseFormat

__all__ = ["Unanswered", "ask", "scrubbed"]

MAXIMUM_ERROR_BYTES = 16_384
VERSION = re.compile(r"/v\d\w*(?:/|$)")


async def ask(
    profile: Profile,
    messages: list[dict[str, str]],
    seed: int,
    without: frozenset[str] = frozenset(),
) -> str:
    """Return the model's reply to a conversation, whatever it says.

    ``without`` names settings that the server refused: they are not sent. Raises
    :class:`Unanswered`.
    """
    try:
        async with (
            _session(profile) as session,
            session.post(
                f"{profile.url}/chat/completions",
                json=_question(profile, messages, seed, without),
                allow_redirects=False,
            ) as answer,
        ):
            await _check(answer, profile)
            return await _reply(answer, profile)
    except InputError:
        raise
    except Refused as refused:
        problem = _refusal(refused.text, profile)
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
    """Return a text without the profile's key, URL and model, should a server repeat them."""
    return secrets.scrubbed(text, _secrets(profile))


def _secrets(profile: Profile) -> list[str]:
    address = profile.url.partition("://")[2]
    host = address.partition("/")[0]
    known = [profile.key(), profile.url, address, profile.model]
    return [*known, host if set(host) & set(".:") else ""]


def _session(profile: Profile) -> aiohttp.ClientSession:
    """A session without cookies, proxies and passwords of the environment, and compression that
    could hide a huge reply.
    """
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


def _question(
    profile: Profile, messages: list[dict[str, str]], seed: int, without: frozenset[str]
) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if profile.temperature is not None:
        settings["temperature"] = profile.temperature
    if profile.seed:
        settings["seed"] = seed
    if profile.response_format is not ResponseFormat.NONE:
        settings["response_format"] = _response_format(profile)
    sent = {name: value for name, value in settings.items() if name not in without}
    question = {"model": profile.model, "messages": messages, "stream": profile.stream}
    return question | sent


def _response_format(profile: Profile) -> dict[str, Any]:
    if profile.response_format is ResponseFormat.JSON_OBJECT:
        return {"type": "json_object"}
    shape = schema(profile.convention, MAXIMUM_OBJECTS)
    return {
        "type": "json_schema",
        "json_schema": {"name": "layout", "strict": True, "schema": shape},
    }


async def _check(answer: aiohttp.ClientResponse, profile: Profile) -> None:
    words = ""
    if answer.status >= 400 and _is_plain(answer):
        data = await answer.content.read(MAXIMUM_ERROR_BYTES)
        words = secrets.said(error_text(data), _secrets(profile))
    versioned = VERSION.search(profile.url) is not None
    check_status(answer.status, answer.headers, words, versioned=versioned)


async def _reply(answer: aiohttp.ClientResponse, profile: Profile) -> str:
    if not _is_plain(answer):
        fix = "Switch compression off at the server."
        raise Unanswered("a plain answer", "a compressed one", fix)
    chunks = limited(answer.content.iter_any(), profile.max_reply_bytes)
    return await text_of(chunks, streamed=answer.content_type == "text/event-stream")


def _is_plain(answer: aiohttp.ClientResponse) -> bool:
    return answer.headers.get("Content-Encoding", "identity") in ("", "identity")


def _refusal(text: str, profile: Profile) -> Unanswered:
    """The error of an answer with status 200, as LM Studio and proxies give it."""
    words = secrets.said(text, _secrets(profile))
    got = f'an error: "{words}"' if words else "an error"
    if not VERSION.search(profile.url) and ("endpoint" in words.lower() or not words):
        fix = "Check the profile's url: most end in /v1."
        return Unanswered("an answer of the chat-completions protocol", got, fix)
    expected = "an answer of the chat-completions protocol"
    return Unanswered(expected, got, AGAIN, wait=1, other_seed=True)
