"""The value of calculations and of numbers in words."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from mstar.grading.closed_forms import evaluate, to_figures


@pytest.mark.parametrize(
    ("text", "value", "exact"),
    [
        ("10^4", 10_000, True),
        ("2/3", Fraction(2, 3), True),
        ("5!/3!", 20, True),
        ("-(3/4)", Fraction(-3, 4), True),
        ("2√3", 2 * math.sqrt(3), False),
        ("2(3 + √5)", 2 * (3 + math.sqrt(5)), False),
        ("36π", 36 * math.pi, False),
    ],
)
def test_calculations(text: str, value: float | Fraction, exact: bool) -> None:
    found = evaluate(text)
    assert found is not None
    assert float(found[0]) == pytest.approx(float(value), rel=1e-12)
    assert found[1] is exact


@pytest.mark.parametrize("text", ["2019-20", "3+4", "1/0", "9**9**9", "100!", "__import__('os')", "x", "1" * 81])
def test_work_left_undone_and_what_is_no_number_are_refused(text: str) -> None:
    assert evaluate(text) is None


@pytest.mark.parametrize(
    ("words", "figures"),
    [
        ("three and a half hours", "7/2 hours"),
        ("two million five hundred and six", "2000506 "),
        ("minus twenty-one", "-21 "),
        ("five six", "five six"),
        ("two thirds", "2/3 "),
        ("half", "1/2 "),
        ("red", "red"),
    ],
)
def test_numbers_in_words(words: str, figures: str) -> None:
    assert to_figures(words) == figures
