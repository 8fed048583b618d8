"""Every kind of answer: for each gold answer, responses that give it and responses that do not."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from mstar.grading import AnswerGrader
from mstar.prompts.response_rows import to_prompt
from mstar.types import Verdict, VerdictStatus

GRADER = AnswerGrader()
METALS = ["iron", "copper", "zinc", "gold"]
TOWNS = ["Lyon", "Turin", "Basel"]
ALIKE = Path(__file__).with_name("alike.jsonl").read_text(encoding="utf-8").splitlines()


def grade(response: str, **row: Any) -> Verdict:
    return GRADER.grade(to_prompt(row | {"response": response}, "p"), response)


def check(row: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    """Every form of commitment tells the same."""
    for frame in ("{}", "The answer is {}", r"\boxed{{{}}}", "<answer>{}</answer>", "I looked at it twice.\n#### {}"):
        # Behind this mark stands a number or a few words, or else it is a heading.
        for response in right if "####" not in frame or max(map(len, right)) < 25 else ():
            assert grade(frame.format(response), **row).correct, (frame, response)
        for response in wrong:
            assert not grade(frame.format(response), **row).correct, (frame, response)


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


@pytest.mark.parametrize(
    ("row", "right", "wrong"),
    [
        (
            {"answer": "12", "answer_type": "integer"},
            ["12", "12.0", "twelve", "12 apples", "1.2e1"],
            ["12.5", "13", "-12"],
        ),
        ({"answer": "2.50", "answer_type": "float"}, ["2.5", "2.501", "5/2", "2 1/2"], ["2.51", "2.4", "25"]),
        ({"answer": "3", "answer_type": "float"}, ["3", "3.0"], ["3.3", "2.7", "5.27"]),
        ({"answer": "2.5", "answer_type": "float", "precision": 0}, ["3", "2.6"], ["2", "3.6"]),
        (
            {"answer": "1500", "answer_type": "float", "unit": "m"},
            ["1500", "1500 m", "1.5 km", "1,500 meters"],
            ["1500 km", "1.5"],
        ),
        (
            {"answer": "200", "tolerance": {"relative": 0.05}, "answer_type": "float"},
            ["200", "190", "210"],
            ["189.9", "210.1"],
        ),
        (
            {"answer": "0.5", "tolerance": {"absolute": 0.001}, "answer_type": "float"},
            ["0.5", "0.501", "0.499"],
            ["0.502", "0.49"],
        ),
        ({"answer": "1/3^40"}, ["1/3^40", r"\frac{1}{3^{40}}"], ["1/3^41", "0"]),
        ({"answer": "5!", "question": "In how many ways?"}, ["5!", "120"], ["5", "24"]),
        (
            {"answer": "-6", "question": "What is the rate of change?"},
            ["-6 kg/year", "-6 kg per year"],
            ["6 kg/year", "-6/x"],
        ),
        ({"answer": "1200", "answer_type": "float"}, ["CHF 1,200", "₤1,200"], ["CHF 1,100"]),
        # Thousands as MATH writes them.
        ({"answer": "12600"}, [r"12,\!600", r"$12,\!600$", r"12\,600"], ["12", r"12,\!60"]),
        ({"answer": r"12,\!600"}, ["12600", "12,600", r"12,\!600"], ["12"]),
        # The exact value and the decimal.
        (
            {"answer": r"\sqrt{3}"},
            [r"\sqrt{3} \approx 1.73", r"x = \sqrt{3} ≈ 1.7"],
            [r"\sqrt{2} \approx 1.41", "1.73"],
        ),
        ({"answer": "5/7"}, [r"\frac{5}{7} \approx 0.714"], ["5/7 ≈ 0.9", "5/7 ≈ 0.69", "0.714"]),
        ({"answer": "1.73"}, [r"\sqrt{3} \approx 1.73"], [r"\sqrt{3}"]),
        ({"answer": "23", "answer_type": "integer"}, ["22.6 ≈ 23"], ["23 ≈ 24"]),
        # What has a variable behind it is no number, and what has a unit or a thing is one.
        ({"answer": "$6 p$"}, ["6p", "6 p", "p*6"], ["6", "6 q"]),
        ({"answer": r"\frac{\sqrt{5}}{3} b"}, [r"\frac{\sqrt{5}b}{3}"], [r"\frac{\sqrt{5}}{3}"]),
        ({"answer": r"$5 \pi R$"}, [r"5R\pi"], [r"5\pi"]),
        ({"answer": r"\sqrt{5}"}, [r"\sqrt{5}"], [r"\sqrt{5}i", r"\sqrt{5} x y"]),
        # Letters are variables, where they are no unit for sure: behind a formula, a fraction, a root and pi.
        ({"answer": "5+2t"}, ["2t+5"], ["5+2s", "5+2"]),
        ({"answer": "x+2m"}, ["2m+x"], ["x+2", "x+2n"]),
        ({"answer": r"2\cos t"}, [r"2\cos(t)"], [r"2\cos s"]),
        ({"answer": r"\frac12 ab"}, [r"\frac{ab}{2}", r"\frac{1}{2}ab", "0.5ab"], [r"\frac12", "1/2"]),
        ({"answer": "2ab"}, ["2ba"], ["2", "2cd"]),
        ({"answer": r"\pi rl"}, [r"\pi lr"], [r"\pi rh", r"\pi"]),
        ({"answer": r"2\pi h"}, [r"2h\pi"], [r"2\pi"]),
        ({"answer": "5x+3"}, [r"5x+3\text{ cm}", "5x+3 cm", r"3+5x\mathrm{~m}^2"], [r"5x+3\text{ cm}y"]),
        ({"answer": r"2x \mathrm{~m} / \mathrm{s}"}, ["2x", r"2x\ \text{m/s}", r"x\cdot 2"], ["3x", "2"]),
        ({"answer": r"5 \mathrm{~m} / \mathrm{s}"}, ["5", "5 m/s", r"5\text{ m/s}"], ["4 m/s", "5 km/h"]),
        ({"answer": r"2\pi"}, [r"2\pi\text{ m}", r"2\pi \text{ radians}", r"2\pi\text{ Pa}"], [r"2\pi rh"]),
        (
            {"answer": "25", "answer_type": "float"},
            [
                "25 N",
                "25 g of salt",
                "25 cups a day",
                "25 L of milk",
                "25 V battery",
                "25 m above the ground",
                "25 t-shirts",
            ],
            ["25n", "25i"],
        ),
        ({"answer": "40%"}, ["40%", "40 percent", "40 %"], ["4%", "60%"]),
    ],
)
def test_numbers(row: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    check(row, right, wrong)


@pytest.mark.parametrize(
    ("row", "right", "wrong"),
    [
        (
            {"answer": "[2, 5, 9]", "answer_type": "list"},
            ["2, 5, 9", "[2,5,9]", "2, 5 and 9"],
            ["9, 5, 2", "2, 5", "2, 5, 9, 9"],
        ),
        (
            {"answer": "[2, 5]"},
            ['{"answer": [2, 5], "reasoning": "The final result is a list."}'],
            ['{"answer": [5, 2]}'],
        ),
        ({"answer": "{2, 5, 9}", "answer_type": "set"}, ["9, 2, 5", "{5, 9, 2}", "2, 5 and 9"], ["2, 5", "2, 5, 8"]),
        (
            {"answer": "{2, 7}", "answer_type": "set"},
            ["x = 2 or x = 7", "y = 7, or y = 2", r"x = 2 \text{ or } x = 7"],
            ["x = 2 or x = -7", "2 or 7"],
        ),
        ({"answer": "red; green", "answer_type": "set"}, ["green and red", "red, green"], ["red", "red, blue"]),
        # Two rising numbers in square brackets are an interval, others a list; brackets of a declared type say nothing.
        ({"answer": "[-1, 4]"}, ["[-1, 4]", "-1, 4"], ["[-1, 4)", "(-1, 4)", "(-1, 4]", r"\{-1, 4\}"]),
        ({"answer": r"[0,\pi]"}, [r"[0, \pi]"], [r"[0,\pi)", r"(0,\pi)"]),
        ({"answer": r"[0,1]\cup[2,3]"}, [r"[0,1] \cup [2,3]", "[0,1] \u222a [2,3]"], [r"[0,1)\cup(2,3]", "[0,1]"]),
        ({"answer": r"\{1,2\}"}, [r"\{2,1\}", "1, 2", "[1, 2]"], ["(1,2)"]),
        ({"answer": "[1, 2, 3]"}, ["(1, 2, 3)", "1, 2, 3"], ["[1, 2, 3)", "[3, 2, 1]"]),
        ({"answer": "[5, 2]"}, ["(5, 2)", "5, 2"], ["[2, 5]", "[5, 2)"]),
        ({"answer": "[2, 5]", "answer_type": "list"}, ["(2, 5)", "[2, 5]"], ["(5, 2)"]),
        ({"answer": "±3"}, ["±3", r"\pm 3", r"x=\pm 3", "-3, 3"], ["3", "-3", "±2"]),
        ({"answer": r"\pm 3"}, ["±3", "3, -3"], ["3"]),
        ({"answer": "[1, 4)"}, ["[1, 4)", "[1,4)"], ["(1, 4)", "[1, 4]", "[1, 5)"]),
        ({"answer": r"(-\infty, 2]"}, [r"(-\infty, 2]", r"(-\infty,2]"], [r"(-\infty, 2)", "(0, 2]"]),
        (
            {"answer": r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"},
            [r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"],
            [r"\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}"],
        ),
        (
            {"answer": "[10, 20, 50, 80]", "answer_type": "box"},
            [
                "[10, 20, 50, 80]",
                "[12, 22, 50, 80]",
                "(10, 20), (50, 80)",
                '{"bbox_2d": [10, 20, 50, 80], "label": "car 7"}',
                "{'Position': [10, 20, 50, 80], 'Confidence': 0.8}",
                "xmin: 10, ymin: 20, xmax: 50, ymax: 80",
                "[10. 20. 50. 80.]",
                "<10><20><50><80>",
            ],
            ["[60, 20, 90, 80]", "[10, 20]", "[10, 20, 50, 80, 90]", "[10, 20, 50, 80] or [60, 20, 90, 80]"],
        ),
    ],
)
def test_several_values(row: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    check(row, right, wrong)


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


@pytest.mark.parametrize("line", ALIKE)
def test_what_looks_alike(line: str) -> None:
    """One answer in other spellings, and others that differ from it by a sign, a letter's case, or a unit."""
    row = json.loads(line)
    check(row, row.pop("right"), row.pop("wrong"))


@pytest.mark.parametrize(
    ("row", "right", "wrong"),
    [
        ({"answer": "USA", "answers": ["United States", "America"]}, ["USA", "united states", "America"], ["Canada"]),
        ({"answer": "7", "answers": ["8"], "answer_type": "integer"}, ["7", "8", "eight"], ["9", "7 or 9"]),
        # A gold answer among several that cannot be read leaves the others.
        ({"answer": "unknown", "answers": ["8"], "answer_type": "integer"}, ["8"], ["7"]),
    ],
)
def test_several_gold_answers(row: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    check(row, right, wrong)


@pytest.mark.parametrize(
    "gold",
    [
        r"\boxed{42}",
        "<answer>42</answer>",
        "#### 42",
        "6 * 7 = 42.\n#### 42",
        r"So it is $\boxed{42}$.",
        "The answer is 42.",
    ],
)
def test_gold_answers_in_a_wrapping(gold: str) -> None:
    for kind in ("integer", "float", "text"):
        check({"answer": gold, "answer_type": kind}, ["42"], ["41", "6"])
    check({"answer": gold.replace("42", "B"), "answer_type": "multi_choice", "choices": TOWNS}, ["B", "Turin"], ["A"])


def test_a_full_stop_behind_a_factorial_is_no_part_of_it() -> None:
    for response in ("答案是4!。", "The answer is 4!.", "Answer: 4!"):
        assert grade(response, answer="4!").correct


@pytest.mark.parametrize(
    "row",
    [
        {"answer": "many", "answer_type": "integer"},
        {"answer": "2.5", "answer_type": "integer"},
        {"answer": "E", "answer_type": "multi_choice", "choices": TOWNS},
        {"answer": "9", "answer_is": "index0", "answer_type": "multi_choice", "choices": TOWNS},
        {"answer": "[5, 5, 1, 1]", "answer_type": "box"},
        {"answer": "A, F", "answer_type": "multi_select", "choices": TOWNS},
    ],
)
def test_gold_answers_that_nothing_can_equal(row: dict[str, Any]) -> None:
    verdict = grade(str(row["answer"]), **row)
    assert verdict.status is VerdictStatus.UNGRADEABLE_GOLD
    assert not verdict.correct


def test_two_responses_that_say_the_same_are_voted_for_as_one() -> None:
    for gold in ("12", None):
        row = {"answer": gold, "answer_type": "integer"}
        assert grade("So we have 12.0 apples.\nAnswer: twelve", **row).predicted == "12"
        assert grade(r"\boxed{12}", **row).predicted == "12"


def test_what_is_read_does_not_depend_on_the_gold_answer() -> None:
    for response in ("It is 7 (3 + 4).", "The answer is 12, because 5 + 7 = 12.", "Answer: 36 - that is 6 squared"):
        read = {
            grade(response, answer=gold, answer_type="integer").predicted for gold in ("7", "4", "12", "5", "36", None)
        }
        assert len(read) == 1, (response, read)


def test_answers_of_which_nothing_is_known_are_voted_for_by_what_they_say() -> None:
    """Data without answers has no type either, and spellings are no candidates of a vote."""

    def said(*texts: str) -> set[str | None]:
        return {grade(f"x = y\nAnswer: {text}", answer=None, answer_type="text").predicted for text in texts}

    assert len(said("0.5", ".5", "0.50", "1/2", r"\frac{1}{2}")) == 1
    assert len(said("12", "12.0", "twelve")) == len(said("1,200", "1200")) == len(said("[1, 2]", "(1,2)")) == 1
    assert len(said(".5", "5", "-5", "50")) == 4
    assert said("Red", "red.") == {"red"}


def test_a_gold_answer_keeps_its_own_unit() -> None:
    """Its number is in that, whatever unit the question mentions."""
    asked = {"answer": "0.25 m", "answer_type": "float", "question": "What is the length of AB in cm?"}
    assert [grade(f"Answer: {text}", **asked).correct for text in ("0.25 m", "25 cm", "0.25 cm")] == [True, True, False]


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


def test_a_loop_of_signs_behind_a_heading_costs_no_time() -> None:
    start = time.process_time()
    grade("Answer: a b c d e f g h i j k\n" + "-\n" * 11_000 + "x", answer="5", answer_type="integer")
    assert time.process_time() - start < 2
