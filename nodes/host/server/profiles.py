"""The language models that this server's owner lets workflows use, by name.

They stand in ``realcompo_planner.toml`` in ComfyUI's user folder, a table for each::

    [local]
    url = "http://localhost:11434/v1"
    model = "qwen2.5:7b"

Its URL, its model and its key reach no workflow, output, error or log: workflows know a profile by
name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import folder_paths

from ....realcompo_core.errors import InputError, within
from ....realcompo_core.planner.conventions import BoxKey, Convention, Order, PhraseKey, Unit

FILE = "realcompo_planner.toml"
OFFLINE = "offline"
NAME = re.compile(r"\w[\w .-]{0,63}")  # no name can be a URL
SETTINGS = frozenset(
    (
        "url",
        "model",
        "key_env",
        "unit",
        "order",
        "box_key",
        "phrase_key",
        "seed",
        "response_format",
        "timeout",
        "max_reply_bytes",
        "retries",
        "temperature",
        "stream",
    )
)
E = TypeVar("E", bound=Enum)


class ResponseFormat(str, Enum):
    """What a server is asked to hold its model to."""

    NONE = "none"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"


@dataclass(frozen=True)
class Profile:
    """One model behind an OpenAI-compatible chat endpoint, and how to ask it.

    ``timeout`` is in seconds and covers all tries; ``key_env`` names an environment variable (""
    for none). ``temperature`` None and ``seed`` False are not sent.
    """

    name: str
    url: str = field(repr=False)
    model: str = field(repr=False)
    key_env: str = field(default="", repr=False)
    convention: Convention = field(default_factory=Convention)
    timeout: float = 120.0
    max_reply_bytes: int = 1_048_576  # events take some 200 for each token
    retries: int = 2
    temperature: float | None = 0.2
    seed: bool = True
    stream: bool = False
    response_format: ResponseFormat = ResponseFormat.NONE

    def key(self) -> str:
        """Return the key to send, "" for none.

        Raises :class:`InputError` where its variable is not set.
        """
        key = os.environ.get(self.key_env, "").strip() if self.key_env else ""
        if self.key_env and not (key and key.isascii() and key.isprintable()):
            fix = "Set the variable in the environment that ComfyUI starts in, and restart it."
            raise InputError("key_env", "an environment variable with a key", "none", fix)
        return key


def names() -> list[str]:
    """Return what a workflow may choose from; a file that can't be read offers no profile."""
    try:
        return [OFFLINE, *(name for name in _tables() if _is_name(name))]
    except InputError:
        return [OFFLINE]


def changed() -> int:
    """Return when the file was last changed, in nanoseconds; 0 where there is none."""
    try:
        return _file().stat().st_mtime_ns
    except OSError:
        return 0


def check(name: str) -> None:
    """Raise :class:`InputError`, with the names that exist, for one that doesn't."""
    if name == OFFLINE:
        return
    known = [OFFLINE, *filter(_is_name, _tables())]
    if name not in known:
        fix = f"Choose another, or have the server's owner add it to {FILE}."
        raise InputError("profile", f"one of {', '.join(known)}", repr(str(name)[:64]), fix)


def profile(name: str) -> Profile:
    """Return the profile of a name.

    Raises :class:`InputError` for a missing or wrong one, without repeating its values.
    """
    check(name)
    table = _tables()[name]
    with within(f"{FILE}, profile {name!r}"):
        if not isinstance(table, dict):
            raise InputError(
                "profile", "a table", "a value", f"Write [{name}] and its settings below it."
            )
        unknown = sorted(set(table) - SETTINGS)
        if unknown:
            fix = f"Settings are {', '.join(sorted(SETTINGS))}."
            raise InputError("profile", "known settings", f"{len(unknown)} unknown", fix)
        found = _profile(name, table)
        found.key()
        return found


def _profile(name: str, table: Mapping[str, Any]) -> Profile:
    return Profile(
        name=name,
        url=_url(table.get("url")),
        model=_text(table, "model"),
        key_env=_text(table, "key_env", ""),
        convention=_convention(table),
        timeout=_number(table, "timeout", Profile.timeout, 1, 3600),
        max_reply_bytes=int(
            _number(table, "max_reply_bytes", Profile.max_reply_bytes, 1024, 16_777_216)
        ),
        retries=int(_number(table, "retries", Profile.retries, 0, 10)),
        temperature=_temperature(table),
        seed=_switch(table, "seed", Profile.seed),
        stream=_switch(table, "stream", Profile.stream),
        response_format=_choice(table, "response_format", ResponseFormat.NONE),
    )


def _convention(table: Mapping[str, Any]) -> Convention:
    return Convention(
        _choice(table, "unit", Unit.NORMALISED),
        _choice(table, "order", Order.CORNERS),
        _choice(table, "box_key", BoxKey.BOX),
        _choice(table, "phrase_key", PhraseKey.PHRASE),
    )


def _temperature(table: Mapping[str, Any]) -> float | None:
    if table.get("temperature") is False:
        return None
    return _number(table, "temperature", 0.2, 0, 2)


def _file() -> Path:
    return Path(folder_paths.get_user_directory()) / FILE


def _tables() -> dict[str, Any]:
    """The file as it stands, {} where there is none."""
    try:
        import tomllib  # from Python 3.11 on
    except ModuleNotFoundError:
        return {}
    try:
        return tomllib.loads(_file().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"line \d+, column \d+", str(error))
        got = f"a mistake at {where[0]}" if where else "a mistake"
    except (OSError, UnicodeDecodeError):
        got = "one that can't be read"
    raise InputError(FILE, "a TOML file in UTF-8", got, "Mend it in ComfyUI's user folder.")


def _is_name(name: str) -> bool:
    return name != OFFLINE and NAME.fullmatch(name) is not None


def _url(value: Any) -> str:
    """A base URL without its last slash."""
    if isinstance(value, str) and _is_base_url(value):
        return value.rstrip("/")
    expected = "an http or https URL without user, password and query"
    example = 'such as "http://localhost:11434/v1"'
    fix = f"Write the server's base URL, {example}; keys belong in key_env's variable."
    raise InputError("url", expected, "something else", fix)


def _is_base_url(text: str) -> bool:
    if not text.isascii() or not text.isprintable():
        return False
    try:
        parts = urlsplit(text)
        reachable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    more = (parts.username, parts.password, parts.query, parts.fragment)
    return parts.scheme in ("http", "https") and reachable and not any(more)


def _text(table: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or (default is None and not value):
        raise InputError(key, "a text", "something else", f'Write {key} = "...".')
    return value


def _number(table: Mapping[str, Any], key: str, default: float, low: float, high: float) -> float:
    value = table.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(
            key, f"a number from {low} to {high}", "something else", f"Write {key} = {default}."
        )
    return float(value)


def _switch(table: Mapping[str, Any], key: str, default: bool) -> bool:
    value = table.get(key, default)
    if not isinstance(value, bool):
        raise InputError(
            key, "true or false", "something else", f"Write {key} = {str(default).lower()}."
        )
    return value


def _choice(table: Mapping[str, Any], key: str, default: E) -> E:
    value, kind = table.get(key, default.value), type(default)
    if value not in [member.value for member in kind]:
        expected = " or ".join(f'"{member.value}"' for member in kind)
        raise InputError(key, expected, "something else", f'Write {key} = "{default.value}".')
    return kind(value)
