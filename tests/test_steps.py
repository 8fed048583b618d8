"""A response and its reasoning steps."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstar.steps import split_steps

LINES = st.text(st.sampled_from("ab \t\n\r"), max_size=30)


@pytest.mark.parametrize(
    ("response", "steps"),
    [
        ("red = 3\nblue = 5\nAnswer: 8", ("red = 3\n", "blue = 5\n", "Answer: 8")),
        ("one line", ("one line",)),
        ("a\n\n \nb", ("a\n\n \n", "b")),
        ("a\nb\n\n", ("a\n", "b\n\n")),
        ("\n\na\nb", ("\n\na\n", "b")),
        ("a  \r\nb", ("a  \r\n", "b")),
        ("", ()),
        (" \n\t\n", ()),
    ],
)
def test_steps_of_one_response(response: str, steps: tuple[str, ...]) -> None:
    assert split_steps(response) == steps


@given(LINES | st.text(max_size=30))
def test_joined_steps_are_the_response_and_none_is_blank(response: str) -> None:
    steps = split_steps(response)
    assert "".join(steps) == (response if response.strip() else "")
    assert all(step.strip() for step in steps)


@given(LINES)
def test_one_step_per_visible_line(response: str) -> None:
    assert len(split_steps(response)) == sum(bool(line.strip()) for line in response.split("\n"))


def test_a_long_run_of_spaces_is_split_quickly() -> None:
    start = time.perf_counter()
    assert len(split_steps("a" + " " * 100_000 + "b\nc")) == 2
    assert time.perf_counter() - start < 5


def test_the_indentation_of_a_line_belongs_to_its_own_step() -> None:
    assert split_steps("a:\n  b\n\n  c\n  ") == ("a:\n", "  b\n\n", "  c\n  ")
