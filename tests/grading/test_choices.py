"""Options: for each gold answer, responses that name it and responses that do not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.grading.frames import TOWNS, check

METALS = ["iron", "copper", "zinc", "gold"]


@pytest.mark.parametrize(
    ("row", "right", "wrong"),
    [
        (
            {"answer": "A,C"},
            ["A, C", "C, A", "AC", "A and C", "A;C", "(A), (C)", "[A, C]"],
            ["A", "A, B, C", "A, B", "C, D"],
        ),
        ({"answer": '["A", "C"]'}, ["C and A", "iron, zinc", "zinc and iron"], ["A", "iron", "iron, copper"]),
        ({"answer": "iron, gold"}, ["A, D", "D and A", "gold, iron"], ["A, B", "gold"]),
        ({"answer": "[0, 3]", "answer_is": "index0"}, ["AD", "gold and iron"], ["A, C", "[0, 3]"]),
        ({"answer": "1 4", "answer_is": "index1"}, ["AD"], ["A, C", "ABCD"]),
    ],
)
def test_several_options_in_any_order(row: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    check(row | {"answer_type": "multi_select", "choices": METALS}, right, wrong)


@pytest.mark.parametrize(
    ("row", "right", "wrong"),
    [
        ({"answer": "B"}, ["B", "(B)", "b)", "Turin", "B. Turin", "turin"], ["A", "C. Basel", "(A) and (B)", "Lyon"]),
        ({"answer": "Turin"}, ["B", "Turin"], ["A", "Lyon"]),
        ({"answer": "1", "answer_is": "index0"}, ["B", "Turin"], ["A", "C", "1"]),
        ({"answer": "1", "answer_is": "index1"}, ["A", "Lyon"], ["B", "Turin", "1"]),
        ({"answer": "(B)", "answer_is": "letter"}, ["B", "Turin"], ["A"]),
        # The options are letters in another order.
        ({"answer": "B", "choices": ["C", "A", "B"]}, ["B"], ["C", "A"]),
        (
            {"answer": "B", "choices": ["C", "A", "B"], "answer_is": "letter"},
            ["B", "(B)", "(B) A"],
            ["A", "C", "(B) C"],
        ),
        (
            {"answer": "(b)", "choices": ["(c)", "(a)", "(b)"]},
            ["(b)", "C", "(C)", "(C) (b)"],
            ["B", "(B)", "(c)", "(a)"],
        ),
        ({"answer": "b", "choices": ["c", "a", "b"]}, ["b", "C"], ["B", "c", "a"]),
        ({"answer": "C", "choices": ["(B)", "(A)", "(C)"], "answer_is": "letter"}, ["(C)"], ["(A)", "(B)"]),
        # The options are numbers, one of which is another one's index.
        ({"answer": "2", "choices": ["1", "2", "3"]}, ["2", "B", "two"], ["A", "1", "C"]),
        ({"answer": "2", "choices": ["1", "2", "3"], "answer_is": "index0"}, ["3", "C"], ["2", "B"]),
        (
            {"answer": "C", "choices": [r"$\frac{1}{2}$", r"$\frac{2}{3}$", r"$\frac{3}{4}$"]},
            ["3/4", "0.75", r"\frac34"],
            ["2/3"],
        ),
        # A ratio is a quotient, a tilde is LaTeX's blank, and a star is no emphasis where the options have some.
        ({"answer": "B", "choices": ["2:3", "$4: 7$", "5:9"]}, ["4/7", "4:7", r"\frac{4}{7}", "8:14"], ["5/9", "7/4"]),
        ({"answer": "B", "choices": [r"$8 \mathrm{~m}$", r"$9 \mathrm{~m}$"]}, ["9", "9 m", r"9 \mathrm{~m}"], ["8"]),
        ({"answer": "A", "choices": ["*C(=O)NC(*)S", "S1[NH]OC1"]}, ["A: *C(=O)NC(*)S", "A"], ["B", "S1[NH]OC1"]),
        ({"answer": "A", "choices": ["2:30 A.M.", "2:30 P.M."]}, ["2:30 AM", "2:30 a.m."], ["2:30 PM", "2:30 p.m."]),
        (
            {"answer": "B", "choices": ["8 a.m. to 4 p.m.", "7 a.m. to 4 p.m."]},
            ["7 a.m. to 4 p.m.", "7 am to 4 pm"],
            ["8 am to 4 pm"],
        ),
        # A name that ends in a letter is the option of that name.
        ({"answer": "B", "choices": ["Point C", "Point A", "Point B"]}, ["Point A", "B", "option B"], ["Point B", "A"]),
        (
            {"answer": "C", "choices": []},
            ["C", "(C)", "option C", "(C) y = 3x", "C. 3/4"],
            ["D", "(A)", "7", "C = 5", "C -> B"],
        ),
        # The options stand in the picture, and are letters alone: a variable behind one is no other option.
        (
            {"answer": "A", "choices": list("ABCDEFGH"), "answer_is": "letter"},
            ["(A) a > b", "Answer: A) a > b", "The answer is (A) f is even", "(A)", "a"],
            ["(a) and (d)", "(a), (b)", "(a), c", "(b)"],
        ),
        ({"answer": "C", "choices": list("ABCDEFGH"), "answer_is": "letter"}, ["(C) The graph of g is steeper"], ["A"]),
        # A formula behind a letter may be spelt in a way that nothing can read.
        (
            {"answer": "B", "choices": ["$v_a=0.2\\frac{m}{s}(up)$", "$v_a=0.3\\frac{m}{s}(up)$"]},
            ["(B) v_a = 0.3 m/s (up)"],
            ["A"],
        ),
    ],
)
def test_one_option_however_the_gold_names_it(row: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    check({"answer_type": "multi_choice", "choices": TOWNS} | row, right, wrong)
