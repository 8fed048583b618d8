"""Thoughts and what opens and closes them."""

from __future__ import annotations

import pytest

from mstar.thoughts import OPEN_TURN, is_in_thought, unopened_thought


@pytest.mark.parametrize(
    ("response", "opening"),
    [
        ("I count.\n</think>\n5", "<think>"),
        ("I count.\n</mm:think>5", "<mm:think>"),
        ("I count.◁/think▷5", "◁think▷"),
        ("I count.[/THINK]5", "[THINK]"),
        ("<think>I count.</think>5", ""),
        ("<reasoning>I count.</reasoning><answer>5</answer>", ""),
        ("5", ""),
    ],
)
def test_a_thought_that_was_closed_and_not_opened(response: str, opening: str) -> None:
    assert unopened_thought(response) == opening
    assert not opening or OPEN_TURN.search(f"<|assistant|>{opening}\n")


@pytest.mark.parametrize(
    ("text", "within"),
    [
        ("\n<think>I count.\n", True),
        ("<think>I count.</think>\nSo", False),
        ("So 5", False),
        ("I count.</think>", False),
    ],
)
def test_whether_a_text_ends_within_a_thought(text: str, within: bool) -> None:
    assert is_in_thought(text) is within
