"""The data vocabulary."""

from __future__ import annotations

from typing import Any

import pytest

from mstar.chat_template import prompt_messages
from mstar.errors import DataError
from mstar.types import AnswerIs, Prompt, StepLabels


def labels(num_correct: tuple[int, ...], num_total: tuple[int, ...]) -> StepLabels:
    return StepLabels("p", "a\nb\nc", ("a\n", "b\n", "c"), num_correct, num_total, correct=True)


def test_soft_and_hard_labels_follow_from_the_counts() -> None:
    label = labels((0, 1, 1), (4, 4, 1))
    assert label.soft_labels == (0.0, 0.25, 1.0)
    assert label.hard_labels == (False, True, True)


def test_soft_labels_need_as_many_totals_as_counts() -> None:
    with pytest.raises(ValueError, match="zip"):
        _ = labels((0, 1, 1), (4, 4)).soft_labels


@pytest.mark.parametrize(
    ("kind", "gold", "shown"),
    [
        ("index0", "1", "B"),
        ("index1", "2", "B"),
        ("index0", "[0, 1]", "[A, B]"),
        ("index0", "9", "9"),
        (None, "1", "1"),
    ],
)
def test_an_option_is_shown_by_its_letter(kind: str | None, gold: str, shown: str) -> None:
    answer_is = AnswerIs(kind) if kind else None
    prompt = Prompt("p", "?", answer=gold, choices=("red", "blue"), answer_is=answer_is)
    assert prompt.shown_answers == (shown,)
    [message] = prompt_messages(prompt, show_answer=True)
    assert f"The correct answer is {shown}." in str(message["content"])


@pytest.mark.parametrize("wrong", [{"id": 17}, {"answer": 5}, {"question": None}, {"category": 3}])
def test_what_must_be_text_and_is_none_is_refused(wrong: dict[str, Any]) -> None:
    [(name, value)] = wrong.items()
    fields: dict[str, Any] = {"id": "p", "question": "?"} | wrong
    with pytest.raises(DataError, match=f"prompt '{fields['id']}': its {name} is {value}, but must be text"):
        Prompt(**fields)
    assert Prompt("p", "?").answer is None
