"""The planner node in the real executor.

Offline, and asking a language model's server over real HTTP.
"""

from __future__ import annotations

import asyncio
import logging
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
    cut_off,
    echo,
    endless,
    meeting,
    raw,
    silent,
    streamed,
    whole,
    zipped,
)
from testkit.graph import Graph
from testkit.host import Host
from testkit.planner_node import (
    GOOD,
    PLACED,
    PROMPT,
    VARIABLE,
    WRONG,
    configured,
    failure,
    objects,
    plan,
    table,
)
from testkit.scene import CHECKPOINT

PATIENCE = 30  # seconds: far less than what is not waited for, far more than a busy machine needs


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


# Without a server


def test_offline_without_any_configuration(config: Path, fresh: Host) -> None:
    found = plan(fresh, profile="offline")
    assert found["status"] == "offline planner: 3 objects: two corgis (2), a tabby cat"
    assert [phrase for phrase, _ in objects(found)] == ["two corgis", "two corgis", "a tabby cat"]
    parse_json = fresh.pack("realcompo_core.layout.text").parse_json
    assert parse_json(found["json"]) == found["layout"]
    assert [
        o["text"] for o in fresh.executor.history_result["outputs"].values() if "text" in o
    ] == [[found["status"]]]


def test_a_prompt_without_objects_is_told(config: Path, fresh: Host) -> None:
    assert failure(fresh, prompt="", profile="offline").startswith(
        "RealCompo Layout Planner, prompt: expected"
    )


# What a model is asked, and what is remembered


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "answer", [whole(GOOD), streamed(GOOD), streamed(GOOD, size=1000, end=b"data: [DONE]")]
)
def test_a_model_plans(
    config: Path, fresh: Host, server: ChatServer, answer: Answer, stream: bool
) -> None:
    server.answers = [answer]
    config.write_text(table(server, stream=stream, temperature=0.5))
    found = plan(fresh, seed=11)
    assert objects(found) == PLACED
    assert found["status"] == "profile 'local': 3 objects: two corgis (2), a tabby cat"
    [asked] = server.asked
    assert (
        asked.headers["Authorization"] == f"Bearer {KEY}"
        and asked.headers["Accept-Encoding"] == "identity"
    )
    assert {k: v for k, v in asked.body.items() if k != "messages"} == {
        "model": MODEL,
        "temperature": 0.5,
        "seed": 11,
        "stream": stream,
    }
    assert [m["role"] for m in asked.body["messages"]] == [
        "system",
        "user",
    ] and PROMPT in asked.said[1]


def test_without_a_key_none_is_sent(config: Path, fresh: Host, server: ChatServer) -> None:
    server.answers = [whole(GOOD)]
    config.write_text(table(server, key_env=""))
    plan(fresh)
    assert "Authorization" not in server.asked[0].headers


def test_the_profile_states_unit_and_order(config: Path, fresh: Host, server: ChatServer) -> None:
    server.answers = [whole("Objects: [('two corgis', [64, 128, 192, 256])]\nPosition: [2]")]
    config.write_text(table(server, unit="512 pixels", order="xywh"))
    assert objects(plan(fresh)) == [("two corgis", [0.125, 0.25, 0.5, 0.75])]
    assert "left, top, width, height, from 0 to 512" in server.asked[0].said[0]


def test_a_requeue_costs_nothing(config: Path, fresh: Host, server: ChatServer) -> None:
    server.answers = [whole(GOOD)]
    config.write_text(table(server))
    first = plan(fresh)
    fresh.forget()  # the host's own cache
    again = plan(fresh)
    assert (
        len(server.asked) == 1
        and again["layout"] == first["layout"]
        and "not asked again" in again["status"]
    )
    for change in ({"seed": 1}, {"prompt": PROMPT + "."}):
        plan(fresh, **change)
    assert len(server.asked) == 3


def test_a_changed_profile_is_asked_anew(config: Path, fresh: Host, server: ChatServer) -> None:
    server.answers = [whole(GOOD)]
    config.write_text(table(server))
    plan(fresh)
    plan(fresh)
    assert len(server.asked) == 1
    config.write_text(table(server, temperature=1.5))
    plan(fresh)  # nothing is forgotten here: the host must notice by itself
    assert [asked.body["temperature"] for asked in server.asked] == [0.2, 1.5]


def test_only_so_many_layouts_are_remembered(config: Path, fresh: Host, server: ChatServer) -> None:
    server.answers = [whole(GOOD)]
    config.write_text(table(server))
    remembered = fresh.pack("nodes.host.server.planning").PLANS
    remembered.size, size = 2, remembered.size
    try:
        for seed in (0, 1, 2):
            plan(fresh, seed=seed)
        assert len(remembered.layouts) == 2
        plan(fresh, seed=0)
    finally:
        remembered.size = size
    assert len(server.asked) == 4


# Wrong replies, and waiting


def test_a_wrong_reply_is_told_to_the_model(config: Path, fresh: Host, server: ChatServer) -> None:
    server.answers = [whole("Sorry?"), whole(WRONG), whole(GOOD)]
    config.write_text(table(server))
    found = plan(fresh)
    assert objects(found) == PLACED and found["status"].startswith("profile 'local', 3 tries: ")
    first, second, third = (asked.said for asked in server.asked)
    assert (
        second[:2] == first
        and second[2] == "Sorry?"
        and "expected a JSON list of objects" in second[3]
    )
    assert third[:4] == second and third[4] == WRONG and "got 'a zebra'" in third[5]


def test_a_model_that_never_gets_it_right(config: Path, fresh: Host, server: ChatServer) -> None:
    server.answers = [whole(WRONG)]
    config.write_text(table(server))
    error = failure(fresh)
    assert error.startswith(
        "RealCompo Layout Planner, profile 'local', object 1, phrase: expected words of"
    )
    assert len(server.asked) == 3


def test_a_failure_is_not_remembered(config: Path, fresh: Host, server: ChatServer) -> None:
    server.answers = [whole(WRONG), whole(GOOD)]
    config.write_text(table(server, retries=0))
    failure(fresh)
    assert objects(plan(fresh)) == PLACED


def test_a_busy_server_is_waited_for(config: Path, fresh: Host, server: ChatServer) -> None:
    server.answers = [raw(b"{}", status=429, headers={"Retry-After": "1"}), whole(GOOD)]
    config.write_text(table(server))
    start = time.perf_counter()
    assert objects(plan(fresh)) == PLACED
    assert time.perf_counter() - start >= 1


@pytest.mark.parametrize("after", ["9999", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_long_wait_is_refused_at_once(
    config: Path, fresh: Host, server: ChatServer, after: str
) -> None:
    server.answers = [raw(b"{}", status=429, headers={"Retry-After": after})]
    config.write_text(table(server))
    start = time.perf_counter()
    assert "expected a free server, got too many requests" in failure(fresh)
    assert time.perf_counter() - start < PATIENCE and len(server.asked) == 1


def test_a_server_that_stays_busy_is_given_up(
    config: Path, fresh: Host, server: ChatServer
) -> None:
    server.answers = [raw(b"{}", status=503, headers={"Retry-After": "nonsense"})]
    config.write_text(table(server, retries=1))
    assert "got status 503" in failure(fresh)
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "answer",
    [silent(60), streamed(GOOD, pause=1), endless("text/plain")],
    ids=["silent", "slow", "endless"],
)
def test_a_slow_server_is_given_up(
    config: Path, fresh: Host, server: ChatServer, answer: Answer
) -> None:
    server.answers = [answer]
    config.write_text(table(server, timeout=1, max_reply_bytes=16_777_216))
    start = time.perf_counter()
    error = failure(fresh)
    assert time.perf_counter() - start < PATIENCE and len(server.asked) == 1
    assert "an answer within 1 seconds, got none" in error or "at most 16777216 bytes" in error


def test_an_interrupt_ends_the_wait(config: Path, fresh: Host, server: ChatServer) -> None:
    import nodes

    async def interrupting(request: Any) -> Any:
        nodes.interrupt_processing()
        return await silent(60)(request)

    server.answers = [interrupting, whole(GOOD)]
    config.write_text(table(server, timeout=60))
    start = time.perf_counter()
    assert failure(fresh) == "execution_interrupted"
    assert time.perf_counter() - start < PATIENCE
    assert objects(plan(fresh)) == PLACED
    assert server.dropped == 1


def test_other_nodes_go_on_meanwhile(config: Path, fresh: Host, server: ChatServer) -> None:
    """Two planners wait at the same time."""
    server.answers = [meeting(2, GOOD)]
    config.write_text(table(server))
    graph = Graph()
    planners = [
        graph.add("RealCompoLayoutPlanner", prompt=PROMPT, profile="local", seed=seed)
        for seed in (1, 2)
    ]
    found = fresh.run(graph, one=planners[0][1], other=planners[1][1])
    assert found["one"] == found["other"]


# Broken servers, and what must not leak


BROKEN = {
    "cut off": (cut_off(), "one that breaks off"),
    "cut off stream": (streamed(GOOD, end=b""), "one that breaks off"),
    "oversized": (whole("x" * 60_000), "at most 50000 bytes"),
    "oversized stream": (streamed("x" * 60_000, size=500), "at most 50000 bytes"),
    "endless event": (endless("text/event-stream"), "at most 50000 bytes"),
    "endless JSON": (endless("application/json"), "at most 50000 bytes"),
    "compressed": (zipped(GOOD), "a compressed one"),
    "HTML": (
        raw(b"<html>hello</html>", headers={"Content-Type": "text/html"}),
        "chat-completions protocol",
    ),
    "not UTF-8": (raw(b'{"choices": "\xff\xfe"}'), "chat-completions protocol"),
    "deep": (raw(b"[" * 9000), "chat-completions protocol"),
    "another protocol": (raw(b'{"response": "hello"}'), "got an error"),
    "an error in JSON": (raw(b'{"error": {"message": "boom"}}'), "got an error"),
    "an error in a stream": (
        raw(b'data: {"error": {}}', headers={"Content-Type": "text/event-stream"}),
        "an error",
    ),
    "no choices": (raw(b'{"choices": []}'), "expected a text, got none"),
    "odd choices": (raw(b'{"choices": [null]}'), "expected a text, got none"),
    "no text": (whole(None), "expected a text, got none"),
    "a list for a text": (whole([{"type": "text"}]), "expected a text, got none"),
    "cut off by the model": (whole(GOOD, finish="length"), "limit of tokens"),
    "a redirect": (
        raw(b"", status=307, headers={"Location": "http://127.0.0.1:1/v1"}),
        "a redirect, which is not",
    ),
    "a refused key": (
        raw(b'{"error": {"message": "Incorrect key"}}', status=401),
        "got a refused one",
    ),
    "an unknown model": (raw(b"{}", status=404), "a known model and URL"),
    "a bad request": (raw(b"{}", status=400), "got status 400"),
    "no content": (raw(b"", status=204), "got status 204"),
    "everything said back": (echo(), "words of the description"),
    "a huge header": (raw(b"{}", headers={"X-Long": "x" * 20_000}), "no connection"),
}


@pytest.mark.parametrize(("answer", "part"), BROKEN.values(), ids=BROKEN)
def test_broken_servers_end_in_one_error_and_nothing_leaks(
    config: Path,
    fresh: Host,
    server: ChatServer,
    answer: Answer,
    part: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.answers = [answer]
    config.write_text(table(server, retries=1, max_reply_bytes=50_000))
    with caplog.at_level(logging.DEBUG):
        error = failure(fresh)
    assert error.startswith("RealCompo Layout Planner, profile 'local', ") and part in error
    assert len(server.asked) <= 2
    check_nothing_leaked(fresh, server, caplog)
    server.answers = [whole(GOOD)]
    assert objects(plan(fresh, seed=1)) == PLACED


def check_nothing_leaked(host: Host, server: ChatServer, caplog: pytest.LogCaptureFixture) -> None:
    """Neither key, URL nor model in what the browser, the history or the log gets, tracebacks
    included.
    """
    formatter = logging.Formatter("%(message)s %(exc_info)s")
    seen = [
        repr(host.executor.status_messages),
        repr(host.server.messages),
        repr(host.executor.history_result),
    ]
    seen += [formatter.format(record) for record in caplog.records]
    assert any(text for text in seen)
    for secret in (
        KEY,
        KEY[:10],
        server.url,
        f"127.0.0.1:{server.port}",
        str(server.port),
        "hidden-path-42",
        MODEL,
    ):
        assert [text for text in seen if secret in text] == []


def test_nothing_leaks_where_no_server_is(
    config: Path, fresh: Host, caplog: pytest.LogCaptureFixture
) -> None:
    with ChatServer() as gone:
        config.write_text(table(gone))
    with caplog.at_level(logging.DEBUG):
        assert "expected an answer, got no connection" in failure(fresh)
    check_nothing_leaked(fresh, gone, caplog)


def test_nothing_leaks_when_all_goes_well(
    config: Path, fresh: Host, server: ChatServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers = [whole(GOOD)]
    config.write_text(table(server))
    with caplog.at_level(logging.DEBUG):
        found = plan(fresh)
    check_nothing_leaked(fresh, server, caplog)
    assert not any(
        secret in found["json"] + found["status"] for secret in (KEY, MODEL, str(server.port))
    )


def test_no_redirect_is_followed(config: Path, fresh: Host, server: ChatServer) -> None:
    with ChatServer([whole(GOOD)]) as other:
        for status in (301, 302, 303, 307, 308):
            server.answers = [
                raw(b"", status=status, headers={"Location": f"{other.url}/chat/completions"})
            ]
            config.write_text(table(server))
            assert "a redirect" in failure(fresh, seed=status)
        assert other.asked == [] and other.wrong == []


# The owner's configuration


@pytest.mark.parametrize("name", ["http://127.0.0.1:9/v1", "../../secrets", "missing", ""])
def test_a_workflow_can_only_name_what_the_owner_set_up(
    config: Path, fresh: Host, server: ChatServer, name: str
) -> None:
    config.write_text(
        table(server) + '\n["my other one"]\nurl = "http://127.0.0.1:2/x"\nmodel = "m"\n'
    )
    error = failure(fresh, profile=name)
    assert "one of offline, local, my other one" in error and str(server.port) not in error
    assert server.asked == []


def test_the_browser_sees_names_only(config: Path, fresh: Host, server: ChatServer) -> None:
    def options() -> Any:
        return fresh.nodes["RealCompoLayoutPlanner"].GET_NODE_INFO_V1()["input"]["required"][
            "profile"
        ]

    assert "'offline'" in repr(options()) and "local" not in repr(options())
    config.write_text(
        table(server) + '\n["http://127.0.0.1/x"]\nurl = "http://127.0.0.1/x"\nmodel = "m"\n'
    )
    assert "['offline', 'local']" in repr(options())
    shown = repr(fresh.nodes["RealCompoLayoutPlanner"].GET_NODE_INFO_V1())
    assert not any(secret in shown for secret in (KEY, MODEL, VARIABLE, "127.0.0.1"))


CONFIGURATIONS = {
    "not TOML": (
        "[local\nurl = 'http://secret-host/v1'",
        "a TOML file in UTF-8, got a mistake at line 1, column",
    ),
    "not UTF-8": (b"\xff\xfe", "one that can't be read"),
    "no table": ("local = 'http://secret-host/v1'", "expected a table"),
    "no URL": ("[local]\nmodel = 'm'", "url: expected an http or https URL"),
    "a file URL": (
        "[local]\nurl = 'file:///etc/secret-host'\nmodel = 'm'",
        "url: expected an http or https URL",
    ),
    "no host": ("[local]\nurl = 'http://'\nmodel = 'm'", "url: expected"),
    "a wrong port": ("[local]\nurl = 'http://secret-host:99999/'\nmodel = 'm'", "url: expected"),
    "a password": ("[local]\nurl = 'http://me:secret-host@x/v1'\nmodel = 'm'", "url: expected"),
    "a query": ("[local]\nurl = 'http://x/v1?key=secret-host'\nmodel = 'm'", "url: expected"),
    "no model": ("[local]\nurl = 'http://secret-host/v1'", "model: expected a text"),
    "a misspelt setting": (
        "[local]\nurl = 'http://x'\nmodel = 'm'\nkey = 'secret-host'",
        "1 unknown. Settings are",
    ),
    "an unknown unit": (
        "[local]\nurl = 'http://x'\nmodel = 'm'\nunit = 'secret-host'",
        '"normalised" or "percent" or "1000" or "512 pixels" or "1024 pixels"',
    ),
    "a guessed unit": ("[local]\nurl = 'http://x'\nmodel = 'm'\nunit = 'auto'", "unit: expected"),
    "temperature on": (
        "[local]\nurl = 'http://x'\nmodel = 'm'\ntemperature = true",
        "temperature: expected a number from 0 to 2",
    ),
    "a seed of its own": (
        "[local]\nurl = 'http://x'\nmodel = 'm'\nseed = 7",
        "seed: expected true or false",
    ),
    "an unknown format": (
        "[local]\nurl = 'http://x'\nmodel = 'm'\nresponse_format = 'yaml'",
        '"none" or "json_object" or "json_schema"',
    ),
    "an unknown order": (
        "[local]\nurl = 'http://x'\nmodel = 'm'\norder = []",
        '"corners" or "xywh" or "y first" or "centre"',
    ),
    "too many retries": (
        "[local]\nurl = 'http://x'\nmodel = 'm'\nretries = 99",
        "a number from 0 to 10",
    ),
    "a text for a number": (
        "[local]\nurl = 'http://x'\nmodel = 'm'\ntimeout = 'secret-host'",
        "a number from 1 to",
    ),
    "a number for a switch": (
        "[local]\nurl = 'http://x'\nmodel = 'm'\nstream = 1",
        "true or false",
    ),
    "no key": (
        "[local]\nurl = 'http://x'\nmodel = 'm'\nkey_env = 'SECRET_HOST_KEY'",
        "an environment variable with",
    ),
}


@pytest.mark.parametrize(("text", "part"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_mistakes_of_the_owner_are_told_without_values(
    config: Path, fresh: Host, text: str | bytes, part: str
) -> None:
    config.write_bytes(text if isinstance(text, bytes) else text.encode())
    error = failure(fresh)
    assert part in error and "Planner" in error
    assert (
        "secret-host" not in error
        and "SECRET_HOST_KEY" not in error
        and str(config.parent) not in error
    )
    assert "offline planner" in plan(fresh, profile="offline")["status"]


def test_a_key_that_could_break_the_header_is_not_sent(
    config: Path, fresh: Host, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "abc\r\nX-Injected: 1")
    config.write_text(table(server))
    assert "an environment variable with a key" in failure(fresh)
    assert server.asked == []


def test_proxies_of_the_environment_get_nothing(
    config: Path, fresh: Host, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ChatServer() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        server.answers = [whole(GOOD)]
        config.write_text(table(server))
        assert objects(plan(fresh)) == PLACED
        assert proxy.asked == [] and proxy.wrong == []


def test_planned_layouts_are_found_by_the_real_tokenizer(config: Path, fresh: Host) -> None:
    """Phrases of the offline planner stand in the prompt for CLIP too, weights, hyphens and other
    scripts included.
    """
    prompts = [
        "two corgis and a black-and-white cat, masterpiece",
        "a (red cube:1.3) on top of a ((blue ball)) beside the dog's bowl",
        "three t-shirts under a lamp's shade",
        "2 apples and 3 oranges in a bowl next to a can't-miss sign",
        "une pomme à gauche, ein Hündchen",
        r"a robot \(old\) left of a car",
        "a couple of dogs near a 2CV",
        "A sign that says 'Text to Image' beside a cat",
        "a 'Diffusion' poster left of a 'macaroni' box",
        "a 1960s poster and a two-tiered cake",
        "two cats and one cat",
    ]
    for prompt in prompts:
        graph = Graph()
        clip = graph.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)[1]
        planner = graph.add("RealCompoLayoutPlanner", prompt=prompt, profile="offline", seed=0)
        layout = planner[0]
        conditioning = graph.add(
            "RealCompoLayoutConditioning", clip=clip, text=prompt, layout=layout
        )
        matched = fresh.run(graph, tokens=conditioning[2], layout=layout)
        assert len(matched["tokens"].splitlines()) == len(matched["layout"].objects), prompt


def test_the_wait_is_shorter_than_the_timeout_says_where_asyncio_stops_it(fresh: Host) -> None:
    """Work that refuses to be cancelled at once is still waited for, so that nothing is left
    running.
    """
    interruptible = fresh.pack("nodes.host.server.planning").interruptible
    done = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            done.append(True)

    with pytest.raises(ValueError, match=r"within 0\.2 seconds"):
        asyncio.run(interruptible(work(), 0.2))
    assert done == [True]
