"""Which numbers of a step are values, and what stands in their place."""

from __future__ import annotations

import random

import pytest

from mstar.annotation.values import find_values, other_value


@pytest.mark.parametrize(
    ("step", "values"),
    [
        ("red = 3", ["3"]),
        ("3 + 5 = 8\n", ["3", "5", "8"]),
        ("Step 2: the bar is 34.5%", ["34.5"]),
        ("2. In 2019 it is $1,250 (Figure 3)", ["1,250"]),
        ("It was 2019 m, or 2,019 m, in 2020.", ["2019", "2,019"]),
        ("x1 = -5, H2O, v1.2.3", ["5"]),
        ("x^2 = 12^{3}, 3/4 of \\frac{6}{7}", ["12", "3", "6"]),
        ("angle 1 is 60°, AB = 5cm", ["60", "5"]),
        ("the 3rd one of two dice at (1,3), in 3D", ["two", "1", "3"]),
        ("Answer: C", []),
        ("12,34,567", ["12", "34,567"]),
        (f"1 / 3 = 0.{'3' * 5000}, 7{'0' * 5000}", ["1", "3"]),
    ],
)
def test_what_is_a_value(step: str, values: list[str]) -> None:
    assert [match[0] for match in find_values(step)] == values


@pytest.mark.parametrize(
    ("value", "possible"),
    [
        ("3", {"1", "2", "4", "5", "6"}),
        ("0", {"1", "2", "3"}),
        ("99", {"8" + d for d in "0123456789"} | {"9" + d for d in "012345678"}),
        ("0.05", {"0.02", "0.03", "0.04", "0.06", "0.07", "0.08"}),
        ("1,200", {"1,000", "1,100", "1,300", "1,400", "1,500"}),
        ("Two", {"Three", "Four", "Five"}),
    ],
)
def test_another_value_is_near_and_written_alike(value: str, possible: set[str]) -> None:
    rng = random.Random(0)
    drawn = {other_value(value, rng) for _ in range(400)}
    assert drawn <= possible
    assert len(drawn) >= min(len(possible), 10)


def test_values_that_are_to_be_avoided() -> None:
    rng = random.Random(0)
    assert {other_value("3", rng, {"1", "2", "4", "5"}) for _ in range(50)} <= {"6", None}
    assert other_value("0", rng, {"1", "2", "3"}) is None
    assert other_value("two", rng, {"three", "four", "five"}) is None
