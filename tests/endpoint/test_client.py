"""Asking a server: what is tried again, what is not, and that nothing is asked twice."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import mstar.interruption as interruption
from mstar.endpoint import AddressedModel, Answer, ChatClient, Refusal, Traffic
from mstar.endpoint import client as endpoint_client
from mstar.errors import ConfigError, EndpointError
from tests.endpoint.asking import Connect, body
from tests.stub_server import completion

if TYPE_CHECKING:
    from tests.stub_server import StubServer


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
    asked = AddressedModel("http://127.0.0.1:9", "teacher", traffic=Traffic(retries=3, concurrency=2))
    asked.pause = waits.append
    client = ChatClient(asked)
    with pytest.raises(EndpointError, match=r"did not answer in 4 tries \(ConnectError: .*Connection refused\)"):
        client.ask_all(body(str(number)) for number in range(2))
    client.close()
    [told] = caplog.messages
    assert told.startswith("teacher at 127.0.0.1:9 does not answer (ConnectError: ")
    assert told.endswith("Connection refused); it is asked again, up to 3 times.")


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


def test_retry_after_is_heeded(stub: StubServer, connect: Connect, waits: list[float]) -> None:
    stub.faults = [(429, {"Retry-After": "7"}, {"message": "slow down"})]
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
        (
            401,
            {"message": "Incorrect API key provided: top-secret"},
            "refuses the key in MSTAR_TEST_KEY.*NO_PROXY",
        ),
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
        connect(cache=tmp_path, omit=omit).ask_all([warm])
    assert ["temperature" in asked for asked in stub.asked] == [True, False]


def test_fields_that_are_not_sent_still_tell_requests_apart(stub: StubServer, connect: Connect, tmp_path: Path) -> None:
    connect(cache=tmp_path, omit=["seed"]).ask_all([body("x", 1), body("x", 2)])
    assert len(stub.asked) == 2
    assert all("seed" not in asked for asked in stub.asked)
