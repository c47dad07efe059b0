"""Servers as they are: what each refuses, how it words it, and what the planner node makes of
it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testkit.chat_server import (
    KEY,
    MODEL,
    Answer,
    ChatServer,
    error,
    parts_streamed,
    strict,
    whole,
)
from testkit.host import Host
from testkit.planner_node import (
    GOOD,
    PLACED,
    VARIABLE,
    configured,
    failure,
    objects,
    plan,
    table,
)

GEMINI = [{"error": {"code": 400, "message": 'Invalid JSON payload. Unknown name "seed"'}}]
MISTRAL = {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "not permitted"}]}
OPENAI = {"error": {"message": "Unsupported value: 'temperature' does not support 0.2"}}
FORMAT = {"error": "response_format is not supported"}
NO_V1 = "/chat/completions"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as running:
        yield running
        assert running.wrong == []


@pytest.fixture
def config(fresh: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(VARIABLE, KEY)
    with configured(fresh) as path:
        yield path


# Settings


def test_settings_can_be_left_out(config: Path, fresh: Host, server: ChatServer) -> None:
    server.answers = [strict(GOOD, {"seed": (400, GEMINI), "temperature": (400, OPENAI)})]
    config.write_text(table(server, seed=False, temperature=False))
    assert objects(plan(fresh, seed=3)) == PLACED
    assert len(server.asked) == 1


REFUSED = {
    "Gemini": {"seed": (400, GEMINI)},
    "Mistral on Azure": {"seed": (422, MISTRAL)},
    "OpenAI's o-series": {"temperature": (400, OPENAI)},
    "all three": {
        "seed": (400, GEMINI),
        "temperature": (400, OPENAI),
        "response_format": (400, FORMAT),
    },
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_a_refused_setting_is_left_out_and_no_try_is_lost(
    config: Path, fresh: Host, server: ChatServer, refused: dict[str, Any]
) -> None:
    server.answers = [strict(GOOD, refused)]
    config.write_text(table(server, retries=0, response_format="json_schema"))
    assert objects(plan(fresh)) == PLACED
    assert len(server.asked) == 1 + len(refused)
    assert not set(refused) & set(server.asked[-1].body)


def test_a_setting_that_is_refused_for_ever_ends(
    config: Path, fresh: Host, server: ChatServer
) -> None:
    server.answers = [error(400, GEMINI)]
    config.write_text(table(server))
    assert 'status 400: "Invalid JSON payload. Unknown name "seed""' in failure(fresh)
    assert len(server.asked) == 2


def test_a_schema_can_be_asked_for(config: Path, fresh: Host, server: ChatServer) -> None:
    server.answers = [whole(GOOD)]
    config.write_text(table(server, response_format="json_schema", box_key="bbox_2d"))
    plan(fresh)
    asked = server.asked[0].body["response_format"]
    entry = asked["json_schema"]["schema"]["properties"]["objects"]["items"]
    assert asked["type"] == "json_schema" and entry["required"] == ["phrase", "bbox_2d"]
    config.write_text(table(server, response_format="json_object"))
    plan(fresh)
    assert server.asked[1].body["response_format"] == {"type": "json_object"}


# The server's own words


WORDS = {
    "Ollama": (404, {"error": "model not found, try pulling it first"}, "try pulling it first"),
    "LM Studio": (404, {"error": {"message": "No models loaded."}}, "No models loaded."),
    "OpenRouter": (402, {"error": {"message": "Insufficient credits", "code": 402}}, "credits"),
    "llama.cpp": (400, {"error": {"message": "exceeds the context size (2048)"}}, "size (2048)"),
    "vLLM": (400, {"object": "error", "message": "System role not supported"}, "System role"),
    "FastAPI": (422, {"detail": [{"loc": ["body", "messages"], "msg": "required"}]}, "messages: "),
    "a bare text": (500, "out of memory", "out of memory"),
}


@pytest.mark.parametrize(("status", "body", "part"), WORDS.values(), ids=WORDS)
def test_what_the_server_says_is_shown(
    config: Path, fresh: Host, server: ChatServer, status: int, body: Any, part: str
) -> None:
    server.answers = [error(status, body)]
    config.write_text(table(server, retries=0))
    assert part in failure(fresh)


LEAKS = [
    f"Incorrect API key provided: {KEY}",
    f"Incorrect API key provided: {KEY[:8]}****{KEY[-4:]}",
    f"Bearer {KEY} was refused",
    f"model {MODEL} not found",
    "see http://10.0.0.7:8080/admin?x=1 or mail ops@internal.example",
    "connect to 10.0.0.7:8080 failed, config in /etc/llm/secret/config.yaml",
    "key: abcd-efgh-1234",
]
SECRETS = (
    KEY,
    KEY[:8],
    MODEL,
    "10.0.0.7",
    "8080",
    "ops@",
    "internal.example",
    "/etc/llm",
    "efgh",
)


@pytest.mark.parametrize("said", LEAKS)
@pytest.mark.parametrize("status", [200, 400, 401, 404, 500])
def test_keys_addresses_and_names_are_not_shown(
    config: Path, fresh: Host, server: ChatServer, said: str, status: int
) -> None:
    server.answers = [error(status, {"error": {"message": said}})]
    config.write_text(table(server, retries=0))
    told = failure(fresh)
    assert not [secret for secret in SECRETS if secret in told]


def test_long_words_are_cut_short(config: Path, fresh: Host, server: ChatServer) -> None:
    server.answers = [error(400, {"error": "too much " * 9000})]
    config.write_text(table(server))
    assert len(failure(fresh)) < 500


# Addresses and waiting


def test_a_missing_v1_is_said(config: Path, fresh: Host) -> None:
    unexpected = {"error": "Unexpected endpoint or method. (POST /chat/completions)"}
    for status in (200, 404):
        with ChatServer([error(status, unexpected)], path=NO_V1) as server:
            config.write_text(table(server))
            assert "end in /v1" in failure(fresh, seed=status)
            assert len(server.asked) == 1


def test_a_loading_model_is_waited_for_beyond_the_retries(
    config: Path, fresh: Host, server: ChatServer
) -> None:
    loading = error(503, {"error": {"message": "Loading model", "code": 503}})
    server.answers = [loading, loading, loading, whole(GOOD)]
    config.write_text(table(server, retries=0, timeout=30))
    assert objects(plan(fresh)) == PLACED


def test_a_model_that_never_loads_is_given_up_in_time(
    config: Path, fresh: Host, server: ChatServer
) -> None:
    server.answers = [error(503, {"error": {"message": "Loading model"}})]
    config.write_text(table(server, retries=0, timeout=2))
    start = time.perf_counter()
    assert "Loading model" in failure(fresh)
    assert time.perf_counter() - start < 10


# Contents


PARTS = [{"type": "thinking", "thinking": []}, {"type": "text", "text": GOOD}]


@pytest.mark.parametrize("answer", [whole(PARTS), parts_streamed(GOOD)], ids=["whole", "streamed"])
def test_contents_may_be_lists_of_parts(
    config: Path, fresh: Host, server: ChatServer, answer: Answer
) -> None:
    server.answers = [answer]
    config.write_text(table(server))
    assert objects(plan(fresh)) == PLACED


def test_a_content_filter_ends_at_once(config: Path, fresh: Host, server: ChatServer) -> None:
    server.answers = [whole("", finish="content_filter")]
    config.write_text(table(server))
    assert "content filter stopped it" in failure(fresh)
    assert len(server.asked) == 1


def test_the_same_question_is_not_asked_with_the_same_seed(
    config: Path, fresh: Host, server: ChatServer
) -> None:
    server.answers = [error(200, {"error": "boom"})]
    config.write_text(table(server))
    assert 'an error: "boom"' in failure(fresh, seed=5)
    assert [asked.body["seed"] for asked in server.asked] == [5, 6, 7]


def test_missing_objects_are_told(config: Path, fresh: Host, server: ChatServer) -> None:
    server.answers = [whole('[{"phrase": "two corgis", "box": [0, 0, 1, 1]}]')]
    config.write_text(table(server))
    status = plan(fresh)["status"]
    assert status.endswith("\nMissing, as it seems: two corgis (1 of 2), a tabby cat")
