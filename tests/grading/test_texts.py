"""Words, dates and formulas: for each gold answer, responses that give it and responses that do not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.grading.frames import check, grade


@pytest.mark.parametrize(
    ("row", "right", "wrong"),
    [
        (
            {"answer": "Saint Gallen Street", "answer_type": "anls"},
            ["saint gallen street", "Saint Galen Stret"],
            ["Main Road"],
        ),
        ({"answer": "yes"}, ["Yes", "yes.", "True"], ["No", "yes or no"]),
        ({"answer": "3:4"}, ["3:4", "3 : 4", "3 to 4"], ["4:3", "0.75:2"]),
        ({"answer": "March 5, 1987"}, ["5 March 1987", "1987-03-05"], ["March 6, 1987", "May 3, 1987"]),
        ({"answer": "4:30"}, ["4:30", "04:30"], ["16:31", "5:30"]),
        ({"answer": "4:30 pm"}, ["16:30", "4:30 PM"], ["4:30 am"]),
        ({"answer": "x^2 - 1"}, ["(x-1)(x+1)", "x^2-1"], ["x^2 + 1", "(x-1)^2"]),
        (
            {"answer": "12*y**3 - 4*y**2"},
            ["12*y**3 - 4*y**2", "4*y**2*(3*y - 1)", "12y^3-4y^2"],
            ["12*y**2 - 4*y**3", "12*y*3 - 4*y*2"],
        ),
        ({"answer": "4!"}, ["4!", "24"], ["4", "4!/2"]),
        ({"answer": "n!/2"}, ["n!/2", r"\frac{n!}{2}"], ["n!", "n!/3"]),
        ({"answer": "grey"}, ["gray", "Grey"], ["green"]),
        # A subscript is no emphasis.
        ({"answer": r"\log_{3} 5"}, [r"\log_{3} 5", r"\log _{3} 5"], [r"\log_{5} 3"]),
        ({"answer": "$b_{1}-b_{2}$"}, ["b_{1}-b_{2}", "b_1-b_2"], ["b_{2}-b_{1}"]),
        ({"answer": "$P_{9}^{4}$"}, ["P_{9}^{4}"], ["P_{4}^{9}"]),
        ({"answer": "1101_{2}"}, ["1101_{2}"], ["1101_{3}"]),
        ({"answer": r"x_\text{max}"}, [r"x_\text{max}"], [r"x_\text{min}"]),
        ({"answer": "pear"}, ["_pear_", "__pear__"], ["_plum_"]),
    ],
)
def test_texts(row: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    check(row, right, wrong)


def test_a_full_stop_behind_a_factorial_is_no_part_of_it() -> None:
    for response in ("答案是4!。", "The answer is 4!.", "Answer: 4!"):
        assert grade(response, answer="4!").correct


@pytest.mark.parametrize("today", [2026, 2027, 2060])
def test_a_year_of_two_digits_does_not_depend_on_today_s(today: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from dateutil.parser import _parser

    monkeypatch.setattr(_parser.DEFAULTPARSER.info, "_year", today)
    for gold, right, wrong in (
        ("March 4, 1976", "3/4/76", "3/4/77"), ("1/9/55", "January 9, 1955", "January 9, 2055"),
        ("June 5, 2026", "6/5/26", "6/5/27"),
    ):  # fmt: skip
        row = {"answer": gold, "answer_type": "text"}
        assert grade(f"Answer: {right}", **row).correct
        assert not grade(f"Answer: {wrong}", **row).correct
