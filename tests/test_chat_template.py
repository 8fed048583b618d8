"""Prompts as messages, with their pictures where they stand."""

from __future__ import annotations

from typing import Any

import pytest

from mstar.chat_template import place_pictures, plain_system, prompt_messages, takes_system_parts
from mstar.errors import DataError
from mstar.types import PICTURE, Prompt, Turn

IMAGES: Any = (object(), object())


def shown(messages: list[dict[str, Any]]) -> list[str]:
    return ["".join("#" if part["type"] == "image" else part["text"] for part in m["content"]) for m in messages]


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        (["How many?"], ["##How many?"]),
        ([f"Of {PICTURE} and {PICTURE}?"], ["Of # and #?"]),
        ([f"{PICTURE}Look.", f"And {PICTURE}?"], ["#Look.", "And #?"]),
    ],
)
def test_pictures_stand_at_their_marks_or_before_the_first_text(turns: list[str], expected: list[str]) -> None:
    prompt = Prompt("p", turns[-1], images=IMAGES)
    assert shown(place_pictures([Turn("user", text) for text in turns], prompt)) == expected


def test_a_system_turn_stays_before_the_pictures() -> None:
    prompt = Prompt("p", "How many?", images=IMAGES, turns=(Turn("system", "Be brief."),))
    assert shown(prompt_messages(prompt)) == ["Be brief.", "##How many?"]
    assert plain_system(prompt_messages(prompt))[0]["content"] == "Be brief."


def test_marks_for_other_pictures_than_there_are_are_an_error_and_text_where_there_are_none() -> None:
    with pytest.raises(DataError, match="has '<image>' 1 times, and it has 2 pictures"):
        prompt_messages(Prompt("p", f"Of {PICTURE}?", images=IMAGES))
    assert shown(prompt_messages(Prompt("p", f"What does {PICTURE} mean?"))) == [f"What does {PICTURE} mean?"]


def test_the_answer_is_shown_where_it_is_asked_for_and_must_be_there() -> None:
    [message] = prompt_messages(Prompt("p", "2 + 2?", answer="4"), show_answer=True)
    assert "The correct answer is 4." in message["content"][0]["text"]
    with pytest.raises(DataError, match="prompt 'p' has no answer"):
        prompt_messages(Prompt("p", "2 + 2?"), show_answer=True)


def test_templates_that_take_a_system_turn_as_one_text_alone_are_known() -> None:
    def write(messages: list[dict[str, Any]], *, parts: bool) -> str:
        def text(message: dict[str, Any]) -> str:
            content = message["content"]
            if isinstance(content, str) or (message["role"] == "system" and not parts):
                return str(content)
            return "".join(part["text"] for part in content)

        return "".join(map(text, messages))

    assert takes_system_parts(lambda messages, open_turn: write(messages, parts=True))
    assert not takes_system_parts(lambda messages, open_turn: write(messages, parts=False))
