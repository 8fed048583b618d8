"""What a server sent: an answer, a refusal, or nothing of use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mstar.endpoint import Answer, Refusal
from mstar.errors import EndpointError
from tests.endpoint.asking import Connect, body

if TYPE_CHECKING:
    from tests.stub_server import StubServer


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


def test_thoughts_that_are_counted_apart_are_paid_for_alone(stub: StubServer, connect: Connect) -> None:
    choice = {"message": {"content": ""}, "finish_reason": "length"}
    usage = {"prompt_tokens": 21, "completion_tokens": 0, "total_tokens": 81}
    stub.write = lambda asked: {"choices": [choice], "usage": usage}
    client = connect()
    assert client.ask_all([body("x")]) == [Answer("", False, 21, 0, hidden_tokens=60)]
    assert client.usage.num_tokens == 60


def test_only_what_the_model_ended_is_whole(stub: StubServer, connect: Connect) -> None:
    ends = iter(["insufficient_system_resource", "eos", "model_length", *["error"] * 9])
    stub.write = lambda asked: {"choices": [{"message": {"content": "x"}, "finish_reason": next(ends)}]}
    whole, cut = connect().ask_all([body("a"), body("b")])
    assert (whole, cut) == (Answer("x", True, 0, 0), Answer("x", False, 0, 0))
    assert len(stub.asked) == 3
    with pytest.raises(EndpointError, match=r"\(an answer that was ended by 'error'\)"):
        connect().ask_all([body("c")])
