"""Asking a server: what is tried again, what is not, and that nothing is asked twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import mstar.interruption as interruption
from mstar.endpoint import Answer, ChatClient, Refusal, Traffic
from mstar.endpoint import client as endpoint_client
from mstar.endpoint.cache import AnswerCache
from mstar.endpoint.traffic import Pace
from mstar.errors import ConfigError, EndpointError, StorageError
from tests.stub_server import completion

if TYPE_CHECKING:
    from tests.stub_server import StubServer

Connect = Callable[..., ChatClient]


@pytest.fixture
def waits() -> list[float]:
    """The seconds that were waited, or would have been."""
    return []


@pytest.fixture
def connect(stub: StubServer, waits: list[float], request: pytest.FixtureRequest) -> Connect:
    def connected(**arguments: Any) -> ChatClient:
        settings: dict[str, Any] = {"traffic": Traffic(concurrency=1), "pause": waits.append} | arguments
        client = ChatClient(stub.address, "teacher", **settings)
        request.addfinalizer(client.close)
        return client

    return connected


def body(text: str, seed: int = 0) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "seed": seed}


def test_answers_come_in_order_and_are_counted(stub: StubServer, connect: Connect) -> None:
    stub.write = lambda asked: f"about {asked['messages'][0]['content']}"
    client = connect(traffic=Traffic(concurrency=4, input_price=2.0, output_price=10.0))
    found = client.ask_all(body(str(number)) for number in range(12))
    assert [answer.text for answer in found if isinstance(answer, Answer)] == [f"about {n}" for n in range(12)]
    assert {asked["path"] for asked in stub.asked} == {"/v1/chat/completions"}
    assert {asked["model"] for asked in stub.asked} == {"teacher"}
    assert (client.usage.requests, client.usage.prompt_tokens, client.usage.num_tokens) == (12, 120, 24)
    # (120 x 2 + 24 x 10) / 1e6
    cost = client.usage.cost(Traffic(input_price=2000.0, output_price=10000.0))
    assert client.usage.describe(cost).endswith("which cost 0.48")


def test_a_server_that_is_waited_for_is_named_once(waits: list[float], caplog: pytest.LogCaptureFixture) -> None:
    client = ChatClient("http://127.0.0.1:9", "teacher", traffic=Traffic(retries=3, concurrency=2), pause=waits.append)
    with pytest.raises(EndpointError, match=r"did not answer in 4 tries \(ConnectError: Connection refused\)"):
        client.ask_all(body(str(number)) for number in range(2))
    client.close()
    assert caplog.messages == [
        "teacher at 127.0.0.1:9 does not answer (ConnectError: Connection refused); it is asked again, up to 3 times."
    ]


@pytest.mark.parametrize("fault", [500, 502, 429, 408, "cut", "html", "wrong"])
def test_what_may_pass_is_tried_again_with_growing_waits(
    fault: Any, stub: StubServer, connect: Connect, waits: list[float]
) -> None:
    stub.faults = [fault] * 3
    [answer] = connect().ask_all([body("x")])
    assert isinstance(answer, Answer)
    assert answer.text == "1 + 2 = 3\nAnswer: 3"
    assert len(stub.asked) == 4
    assert [int(seconds) for seconds in waits] == [1, 2, 4] or waits[0] < waits[1] < waits[2]


def test_a_server_that_hangs_is_asked_again(stub: StubServer, connect: Connect) -> None:
    stub.faults = ["hang"]
    [answer] = connect(traffic=Traffic(concurrency=1, timeout=0.1)).ask_all([body("x")])
    assert isinstance(answer, Answer)


def test_a_server_that_hangs_is_named_after_a_minute(
    stub: StubServer, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(endpoint_client, "_LONGEST_WAIT", 0.05)
    stub.faults = ["hang"]
    connect(traffic=Traffic(concurrency=1, timeout=0.1)).ask_all([body("x")])
    assert "does not answer (ReadTimeout: timed out); it is asked again" in caplog.text


def test_a_process_that_is_asked_to_stop_does_not_wait_for_a_server(
    stub: StubServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_client, "_PARTING", 0.1)
    stub.faults = ["hang"]

    def stop(answer: Answer | Refusal) -> None:
        monkeypatch.setattr(interruption, "_received", signal.SIGTERM)

    began = time.monotonic()
    with pytest.raises(interruption.Interrupted):
        connect(traffic=Traffic(concurrency=2)).ask_all([body("a"), body("b")], done=stop)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("dated", [False, True])
def test_retry_after_is_heeded(dated: bool, stub: StubServer, connect: Connect, waits: list[float]) -> None:
    header = format_datetime(datetime.now(UTC) + timedelta(seconds=300)) if dated else "7"
    stub.faults = [(429, {"Retry-After": header}, {"message": "slow down"})]
    connect().ask_all([body("x")])
    assert max(waits) > 5


def test_nobody_waits_for_an_hour(stub: StubServer, connect: Connect) -> None:
    stub.faults = [(429, {"Retry-After": "3600"}, {"message": "slow down"})]
    with pytest.raises(EndpointError, match=r"again in 3,600 seconds .*slow down"):
        connect().ask_all([body("x")])


def test_an_outage_in_the_middle_keeps_what_was_answered(stub: StubServer, connect: Connect, tmp_path: Path) -> None:
    def goes_down(asked: dict[str, Any]) -> str:
        stub.down = len(stub.asked) >= 5
        return "fine"

    stub.write = goes_down
    with pytest.raises(EndpointError, match=r"teacher at 127.0.0.1:\d+ did not answer in 9 tries \(HTTP 503: no\)"):
        connect(cache=tmp_path).ask_all(body(str(number)) for number in range(8))
    stub.down, stub.write = False, lambda asked: "later"
    stub.asked.clear()
    client = connect(cache=tmp_path)
    found = client.ask_all(body(str(number)) for number in range(8))
    assert [asked["messages"][0]["content"] for asked in stub.asked] == ["5", "6", "7"]
    assert [answer.text for answer in found if isinstance(answer, Answer)] == ["fine"] * 5 + ["later"] * 3
    assert (client.usage.requests, client.usage.known) == (3, 5)


@pytest.mark.parametrize(
    ("status", "error", "complaint"),
    [
        (401, {"message": "Incorrect API key provided: top-secret"}, "refuses the key in MSTAR_TEST_KEY"),
        (404, {"message": "The model does not exist"}, "mend its address or its name"),
        (429, {"message": "You exceeded your quota", "code": "insufficient_quota"}, "once there is quota"),
        (402, {"message": "Insufficient Balance"}, "once there is quota"),
    ],
)
def test_what_will_not_pass_ends_at_once_and_shows_no_key(
    status: int, error: Any, complaint: str, stub: StubServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSTAR_TEST_KEY", "top-secret")
    stub.faults = [(status, {}, error)]
    with pytest.raises((ConfigError, EndpointError), match=complaint) as raised:
        connect(key_variable="MSTAR_TEST_KEY").ask_all([body("x")])
    assert "top-secret" not in str(raised.value)
    assert stub.keys == ["Bearer top-secret"]


def test_a_proxy_that_may_have_refused_is_named(
    stub: StubServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.faults = [(403, {}, {"message": "not on the list"})] * 2
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # The stub as the proxy, which is what a request to anywhere then reaches.
    monkeypatch.setenv("http_proxy", stub.address.replace("http://", "http://me:top-secret@"))
    client = ChatClient("http://gpu-7:8000", "teacher")
    place = stub.address.removeprefix("http://")
    with pytest.raises(ConfigError, match=f"NO_PROXY to gpu-7 if it was the proxy {place} that refused") as raised:
        client.ask_all([body("x")])
    client.close()
    assert "top-secret" not in str(raised.value)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ConfigError, match=r"set key_variable to the variable that has it\.$"):
        connect().ask_all([body("x")])


def test_a_refused_request_is_told_from_an_answer_and_not_kept(
    stub: StubServer, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.faults = [(400, {}, {"message": "This model's maximum context length is 64 tokens."})]
    stub.faults += [(400, {}, "top-secret is bad")]
    monkeypatch.setenv("MSTAR_TEST_KEY", "top-secret")
    client = connect(cache=tmp_path, key_variable="MSTAR_TEST_KEY")
    too_long, other = client.ask_all([body("long"), body("bad")])
    assert isinstance(too_long, Refusal)
    assert too_long.is_too_long
    assert isinstance(other, Refusal)
    assert not other.is_too_long
    assert other.message == "*** is bad"
    assert isinstance(client.ask_all([body("long")])[0], Answer)


@pytest.mark.parametrize(("status", "error"), [
    (400, {"code": "data_inspection_failed", "message": "Input data may contain inappropriate content."}),
    (400, {"code": "invalid_request_error", "message": "Content Exists Risk"}),
    (400, {"code": 400, "type": "content_filter", "message": "The request was rejected"}),
    (400, {"code": "invalid_prompt", "message": "your prompt was flagged as potentially violating our usage policy."}),
    (403, {"code": 403, "message": "Your chosen model requires moderation and your input was flagged"}),
])  # fmt: skip
def test_a_filter_is_known_by_what_its_provider_says(
    status: int, error: Any, stub: StubServer, connect: Connect
) -> None:
    stub.faults = [(status, {}, error)]
    [found] = connect().ask_all([body("x")])
    assert isinstance(found, Refusal)
    assert found.is_filtered
    assert not found.is_too_long


@pytest.mark.parametrize("error", [
    {"code": 400, "type": "exceed_context_size_error", "message": "request (9 tokens) exceeds the available size"},
    {"code": 400, "message": "The input token count (9) exceeds the maximum number of tokens allowed (8)."},
    {"code": "invalid_parameter_error", "message": "Range of input length should be [1, 8]"},
])  # fmt: skip
def test_a_prompt_that_is_too_long_is_known_in_other_words(error: Any, stub: StubServer, connect: Connect) -> None:
    stub.faults = [(400, {}, error)]
    [found] = connect().ask_all([body("x")])
    assert isinstance(found, Refusal)
    assert found.is_too_long
    assert not found.is_filtered


def test_thoughts_in_parts_are_no_answer(stub: StubServer, connect: Connect) -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "3"}]
    stub.write = lambda asked: {"choices": [{"message": {"content": parts}, "finish_reason": "stop"}]}
    assert connect().ask_all([body("x")]) == [Answer("3", True, 0, 0)]


def test_filtered_aborted_and_empty_answers_are_not_mistaken(stub: StubServer, connect: Connect) -> None:
    written = iter([("half of", "content_filter"), ("broken", "abort"), (None, "length")])

    def write(asked: dict[str, Any]) -> Any:
        text, reason = next(written, ("whole", "stop"))
        return {"choices": [{"message": {"content": text}, "finish_reason": reason}]}

    stub.write = write
    filtered, empty, whole = connect().ask_all([body("a"), body("b"), body("c")])
    assert isinstance(filtered, Refusal)
    assert filtered.is_filtered
    # The aborted one was asked for again; a server without usage counts nothing.
    assert empty == Answer("", False, 0, 0)
    assert whole == Answer("whole", True, 0, 0)


@pytest.mark.parametrize("reason", ["content_filter: RECITATION", "SAFETY", "prohibited_content", "Content_Filter"])
@pytest.mark.parametrize("message", [{}, {"message": None}, {"message": {"content": "half of"}}])
def test_a_filter_may_say_what_for_and_leave_out_the_message(
    reason: str, message: dict[str, Any], stub: StubServer, connect: Connect
) -> None:
    stub.write = lambda asked: {"choices": [{"index": 0, "finish_reason": reason} | message]}
    [found] = connect().ask_all([body("x")])
    assert isinstance(found, Refusal)
    assert found.is_filtered
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    ("message", "tokens"),
    [
        ({"content": ""}, 0),
        ({"content": None, "reasoning_content": "3 + 4 = 7. Answer: 7"}, 12),
        ({"content": "", "reasoning": "hm"}, 12),
        ({"content": [{"type": "thinking", "thinking": []}]}, 12),
    ],
)
def test_nothing_and_thoughts_alone_are_no_answer(
    message: dict[str, Any], tokens: int, stub: StubServer, connect: Connect
) -> None:
    def write(asked: dict[str, Any]) -> Any:
        choice = {"message": message, "finish_reason": "stop"}
        return {"choices": [choice], "usage": {"completion_tokens": tokens}}

    stub.write = write
    with pytest.raises(EndpointError, match=r"in 9 tries \(an answer without a text\), so the run stops at 'how many'"):
        connect().ask_all([body("how many")])
    # A model may end at once, which is one token, and think until it is cut off.
    message, tokens = {"content": ""}, 1
    assert connect().ask_all([body("x")]) == [Answer("", True, 0, 1)]
    cut_off = {"message": {"content": None, "reasoning": "hm"}, "finish_reason": "length"}
    stub.write = lambda asked: {"choices": [cut_off]}
    assert connect().ask_all([body("x")]) == [Answer("", False, 0, 0)]


def test_of_a_server_that_answers_one_question_by_thoughts_alone_that_one_has_no_whole_answer(
    stub: StubServer, connect: Connect, tmp_path: Path
) -> None:
    def write(asked: dict[str, Any]) -> Any:
        message = {"content": "7"} if "how many" in str(asked["messages"]) else {"content": None, "reasoning": "hm"}
        return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"completion_tokens": 12}}

    stub.write = write
    cache = tmp_path / "answers.sqlite"
    client = connect(cache=cache)
    assert client.ask_all([body("how many")]) == [Answer("7", True, 0, 12)]
    assert client.ask_all([body("which")]) == [Answer("", False, 0, 0)]
    # It is asked for once more in another run, and what was begun is not continued by nothing.
    asked = len(stub.asked)
    again = connect(cache=cache)
    assert again.ask_all([body("how many"), body("which")])[1] == Answer("", False, 0, 0)
    assert len(stub.asked) == asked + 9
    begun = body("which") | {"messages": [*body("which")["messages"], {"role": "assistant", "content": "It is"}]}
    with pytest.raises(EndpointError, match="an answer without a text"):
        again.ask_all([begun])


def test_only_what_the_model_ended_is_whole(stub: StubServer, connect: Connect) -> None:
    ends = iter(["insufficient_system_resource", "eos", "model_length", *["error"] * 9])
    stub.write = lambda asked: {"choices": [{"message": {"content": "x"}, "finish_reason": next(ends)}]}
    whole, cut = connect().ask_all([body("a"), body("b")])
    assert (whole, cut) == (Answer("x", True, 0, 0), Answer("x", False, 0, 0))
    assert len(stub.asked) == 3
    with pytest.raises(EndpointError, match=r"\(an answer that was ended by 'error'\)"):
        connect().ask_all([body("c")])


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_prompt_that_leaves_room_for_a_shorter_answer_is_answered(
    field: str, stub: StubServer, connect: Connect, tmp_path: Path
) -> None:
    error = {"message": "maximum context length is 64 tokens, but you requested 70 (20 in the messages, 50 to write)"}
    stub.faults = [(400, {}, error)]
    asked = body("x") | {field: 50}
    assert isinstance(connect(cache=tmp_path).ask_all([asked])[0], Answer)
    assert [field in sent for sent in stub.asked] == [True, False]
    connect(cache=tmp_path).ask_all([asked])
    assert len(stub.asked) == 2
    stub.faults = [(400, {}, error)] * 2
    assert isinstance(connect().ask_all([asked])[0], Refusal)
    # What the context cuts off is not kept: it is no answer of that length.
    longer = body("y") | {field: 50}
    stub.faults, written = [(400, {}, error)], iter([completion("half of", "length"), completion("a whole one")])
    stub.write = lambda sent: next(written)
    found = [connect(cache=tmp_path).ask_all([longer])[0] for _ in range(3)]
    assert [answer.text for answer in found if isinstance(answer, Answer)] == ["half of", *["a whole one"] * 2]


def test_half_a_surrogate_pair_is_asked_answered_and_kept(stub: StubServer, connect: Connect, tmp_path: Path) -> None:
    stub.write = lambda asked: asked["messages"][0]["content"] + " \ud83d"
    [answer] = connect(cache=tmp_path).ask_all([body("half \ud83d")])
    assert isinstance(answer, Answer)
    assert answer.text == "half ? ?"
    assert connect(cache=tmp_path).ask_all([body("half \ud83d")]) == [answer]


def test_a_field_that_is_left_out_makes_another_request(stub: StubServer, connect: Connect, tmp_path: Path) -> None:
    warm = body("x") | {"temperature": 0.0}
    for omit in ((), ("temperature",), ("temperature", "top_p"), ()):
        connect(cache=tmp_path).ask_all([warm], omit=omit)
    assert ["temperature" in asked for asked in stub.asked] == [True, False]


def test_fields_that_are_not_sent_still_tell_requests_apart(stub: StubServer, connect: Connect, tmp_path: Path) -> None:
    connect(cache=tmp_path).ask_all([body("x", 1), body("x", 2)], omit=["seed"])
    assert len(stub.asked) == 2
    assert all("seed" not in asked for asked in stub.asked)


@pytest.mark.parametrize(
    "address",
    [
        *("localhost:8000", "ftp://host", "http://", "http://host:x"),
        *("http://user:pass@host/v1", "http://user:pass@host:x/v1", "https://host/v1?key=abc", "host/v1?key=abc"),
    ],
)
def test_what_is_no_address_is_refused_and_shows_no_key(address: str) -> None:
    with pytest.raises(ConfigError, match="address") as raised:
        ChatClient(address, "m")
    assert "pass" not in str(raised.value)
    assert "abc" not in str(raised.value)


@pytest.mark.parametrize("key", ["sk-abc-123", "hf_abc123"])
def test_a_key_itself_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigError, match="not the name of an environment variable") as raised:
        ChatClient("http://host", "m", key_variable=key)
    assert key not in str(raised.value)
    with pytest.raises(ConfigError, match="MSTAR_NOT_SET"):
        ChatClient("http://host", "m", key_variable="MSTAR_NOT_SET")


@pytest.mark.parametrize("key", ["top-secret\nanother", "top-secret\u201d", "top secret"])
def test_what_cannot_be_a_key_is_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSTAR_TEST_KEY", key)
    with pytest.raises(ConfigError, match="MSTAR_TEST_KEY has a line break") as raised:
        ChatClient("http://host", "m", key_variable="MSTAR_TEST_KEY")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("http://host:1", "/v1/chat/completions"),
        ("http://host/", "/v1/chat/completions"),
        ("http://host/openai/v2/", "/openai/v2/chat/completions"),
        ("http://host/v1/chat/completions", "/v1/chat/completions"),
    ],
)
def test_an_address_may_be_given_in_any_usual_form(address: str, path: str) -> None:
    assert ChatClient(address, "m").url.path == path


@pytest.mark.parametrize(
    "settings", [{"concurrency": 0}, {"timeout": 0}, {"requests_per_minute": 0}, {"retries": -1}, {"input_price": -1}]
)
def test_traffic_out_of_range_is_refused(settings: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Traffic(**settings)


def test_requests_begin_no_faster_than_allowed() -> None:
    waits: list[float] = []
    pace = Pace(30, waits.append, lambda: 100.0)
    for _ in range(3):
        pace.enter()
    assert waits == [2.0, 4.0]


def test_answers_survive_a_kill_and_are_shared_by_processes(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from mstar.endpoint.cache import AnswerCache\n"
        "cache = AnswerCache(Path(sys.argv[1])); [cache.keep(f'{sys.argv[2]}{n}', str(n)) for n in range(50)]\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), name]) for name in "ab"]
    assert [process.wait() for process in running] == [-9, -9]
    cache = AnswerCache(tmp_path)
    assert all(cache.find(f"{name}{n}") == str(n) for name in "ab" for n in range(50))
    cache.keep("a0", "another")
    assert cache.find("a0") == "0"
    assert cache.find("c0") is None


def test_a_file_that_holds_no_answers_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.joinpath("answers.sqlite").write_text(json.dumps({"not": "SQLite"}) * 100)
    with pytest.raises(StorageError, match=r"answers.sqlite' cannot be read or written .*choose another folder"):
        AnswerCache(tmp_path).find("a")


def test_two_that_ask_the_same_at_once_go_on_with_one_answer(
    stub: StubServer, connect: Connect, tmp_path: Path
) -> None:
    both, texts = threading.Barrier(2, timeout=10), iter("ab")

    def write(asked: dict[str, Any]) -> str:
        both.wait()
        return next(texts)

    stub.write = write
    client = connect(traffic=Traffic(concurrency=2), cache=tmp_path)
    first, second = client.ask_all([body("x"), body("x")])
    assert first == second == client.ask_all([body("x")])[0]
