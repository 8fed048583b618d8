"""Numeric and list answers as a careful person would judge them."""

# ruff: noqa: RUF001

from __future__ import annotations

import pytest

from mstar.grading import AnswerGrader
from mstar.types import AnswerType, Prompt, VerdictStatus

GRADER = AnswerGrader()
INTEGER, FLOAT, LIST = AnswerType.INTEGER, AnswerType.FLOAT, AnswerType.LIST


def right(
    kind: AnswerType,
    gold: str,
    response: str,
    precision: int | None = None,
    unit: str | None = None,
    question: str = "",
) -> bool:
    prompt = Prompt("p", question, answer=gold, answer_type=kind, precision=precision, unit=unit)
    return GRADER.grade(prompt, response).correct


@pytest.mark.parametrize(
    ("gold", "response"),
    [
        ("18", "18"),
        ("18", "18."),
        ("18", "$18"),
        ("18", r"\$18"),
        ("18", "$18$"),
        ("18", "18 dollars"),
        ("18", "18.0"),
        ("18", "018"),
        ("18", "+18"),
        ("18", "１８"),
        ("18", "eighteen"),
        ("18", "**18**"),
        ("18", "`18`"),
        ("18", '"18"'),
        ("18", "(18)"),
        ("18", r"\boxed{18}"),
        ("18", r"$\boxed{18}$"),
        ("18", r"\boxed{18\text{ dollars}}"),
        ("18", r"\[ x = \boxed{18} \]"),
        ("18", r"\( 18 \)"),
        ("18", "$$18$$"),
        ("18", "The answer is 18"),
        ("18", "The answer is: 18."),
        ("18", "The answer is $18."),
        ("18", "Answer: 18"),
        ("18", "Final answer: x = 18"),
        ("18", "Answer: 4 * 3 + 3 * 2 = 18"),
        ("18", "#### 18"),
        ("18", "<answer>18</answer>"),
        ("18", "18 because 3 times 6 is 18."),
        ("18", "18 (because 3 × 6 = 18)"),
        ("18", "18 apples"),
        ("18", "There are 18 apples."),
        ("18", "There are eighteen apples."),
        ("18", "He will spend $18."),
        ("18", "He will spend 4*3 + 3*2 = 18 dollars."),
        ("18", "So, the total is 18."),
        ("18", "The number missing in the sequence is 18."),
        ("18", "The difference between 25 and 7 is 18."),
        ("18", "First, 3 times 4 is 12. Then 3 times 2 is 6. So the total is 12 + 6 = 18."),
        ("18", "approximately 18"),
        ("18", "about 18 years"),
        ("18", "≈ 18"),
        ("18", "答案是18"),
        ("18", "答案：18元"),
        ("12", "十二"),
        ("18", "The answer is 17. Wait, I made a mistake. The answer is 18."),
        ("18", "The answer is 18.\n\nQuestion: What is 5 + 2?\nAnswer: 7"),
        ("18", "36/2"),
        ("1000", "1,000"),
        ("1000", "1, 000"),
        ("1000", "1{,}000"),
        ("1000", r"1{,}000 \text{ g}"),
        ("1000", "one thousand"),
        ("1000", "10^3"),
        ("1000", "10³"),
        ("1000", "1e3"),
        ("1000", r"1 \times 10^{3}"),
        ("1234567", "1,234,567"),
        ("21", "twenty-one"),
        ("21", "Twenty one."),
        ("105", "one hundred and five"),
        ("-5", "−5"),
        ("-5", "-5"),
        ("-5", "negative five"),
        ("-5", "x = -5"),
        ("5", "5 - this is the number of cubes left."),
        ("0", "0"),
        ("0", "zero"),
        ("0", "There are no cubes left."),
        ("64", "64°"),
        ("64", r"64^\circ"),
        ("64", "64 degrees"),
        ("64", "∠ABC = 64°"),
        ("25", "25%"),
        ("25", "25 percent"),
        ("4", "There are 4 red balls, which is more than 3 blue ones."),
        ("8", "The age gap between these two people is 8 years."),
        ("7", "7 out of 10"),
        ("7", "7 (seven)"),
        ("2", "The function has 2 zeros at x = 1 and x = 3."),
        ("4", r"\sqrt{16}"),
        ("3", "3!"),
    ],
)
def test_integers_that_are_right(gold: str, response: str) -> None:
    assert right(INTEGER, gold, response)


@pytest.mark.parametrize(
    ("gold", "response"),
    [
        ("18", "17"),
        ("18", "18.5"),
        ("18", "180"),
        ("18", "1.8"),
        ("18", "-18"),
        ("18", "18 or 19"),
        ("18", "17 or 18"),
        ("18", "either 18 or 20"),
        ("18", "18-20"),
        ("18", "18 to 20"),
        ("18", "between 17 and 19"),
        ("18", "more than 18"),
        ("18", "18, 19, 20"),
        ("18", "The answer is 18. It could also be 19."),
        ("18", "The answer is not 18."),
        ("18", "The answer is"),
        ("18", "The answer is 18. Wait, that is wrong. The answer is 12."),
        ("18", "The answer is 12.\n\nQuestion: What is 9 + 9?\nAnswer: 18"),
        ("18", "12\nQ: What is 9 + 9?\nA: 18"),
        ("18", "3 × 6"),
        ("18", "9 + 9"),
        ("18", "18x"),
        ("18", "18!"[:2] + "^2"),
        ("9", "9**9**9**9"),
        ("9", "9^9^9^9"),
        ("9", "9^{9^{9^{9}}}"),
        ("18", "We add 3 times 4, which is 12, and 6, so that 18 is multiplied by"),
        ("18", "First, note that there are 18 cubes. Next, we remove the red ones and get"),
        ("18", "I don't know."),
        ("18", "<think>It is 18, I believe"),
        ("18", ""),
        ("40", "866-680-0146"),
        ("1", "1, 2, 3, 4"),
        ("100", "100, 200"),
        ("1000", "1,00"),
        ("0", "-"),
        ("7", "1" * 5000),
        ("7", "7" * 400),
        ("5", "x = 5 or x = -5"),
        ("-5", "x = 5 or x = -5"),
        ("18", r"\boxed{17} \text{ or } \boxed{18}"),
        ("2", "Step 2: count the cubes"),
        ("18", "nan"),
        ("18", "inf"),
        ("2", "1/2"),
        ("12", "1/2"),
    ],
)
def test_integers_that_are_not_right(gold: str, response: str) -> None:
    assert not right(INTEGER, gold, response)


@pytest.mark.parametrize(
    ("gold", "precision", "response", "expected"),
    [
        ("1.2", 1, "1.2", True),
        ("1.2", 1, "1.24", True),
        ("1.2", 1, "1.20", True),
        ("1.2", 1, "1.15", True),
        ("1.2", 1, "1.26", False),
        ("1.2", 1, "1.3", False),
        ("1.2", 1, "12", False),
        ("1.2", 1, "-1.2", False),
        ("1.2", 1, "6/5", True),
        ("1.2", 1, "1 1/5", True),
        ("1.2", 1, "1⅕", True),
        ("1.2", 1, r"\frac{6}{5}", True),
        ("1.2", 1, r"1\frac{1}{5}", True),
        ("1.2", 1, "1.2e0", True),
        ("1200.0", 1, "1.2 × 10^3", True),
        ("1200.0", 1, r"1.2\times10^{3}", True),
        ("1200.0", 1, "1.2e3", True),
        ("1200.0", 1, "1,200.0", True),
        ("0.5", 1, "½", True),
        ("0.5", 1, "half", True),
        ("0.5", 1, "50%", True),
        ("0.5", 1, ".5", True),
        ("0.5", 1, "0.55", False),
        ("3.46", 2, r"2\sqrt{3}", True),
        ("3.46", 2, "2√3 cm", True),
        ("3.46", 2, r"\sqrt{12}", True),
        ("3.46", 2, r"3\sqrt{2}", False),
        ("3.14", 2, "π", True),
        ("113.1", 1, r"36\pi \text{ cm}^2", True),
        ("0.87", 2, r"\frac{\sqrt{3}}{2}", True),
        ("0.33", 2, "1/3", True),
        ("0.33", 2, "33%", True),
        ("0.33", 2, "0.3", False),
        ("0.60", 2, "The fraction of females is 0.6, which means that six out of ten are female.", True),
        ("1.45", 2, "Luca needs $1.45 to buy a sour apple candy and a butterscotch candy.", True),
        ("38.51", 2, "$38.51", True),
        ("38.51", 2, "38.51 dollars", True),
        ("38.51", 2, "$38.50", False),
        ("2.5", 1, "two and a half", True),
        ("2.5", 1, "2.5 or 3.5", False),
        ("2.5", None, "2.5", True),
        ("2.5", None, "2.54", True),
        ("2.5", None, "2.6", False),
        ("2.0", 1, "2", True),
        ("-0.5", 1, "−0.5", True),
        ("-1.5", 1, "1.5", False),
        ("0.0", 1, "0", True),
        ("0.7", 1, "7/10 of the cake", True),
        ("0.25", 2, "25 %", True),
        ("6.0", 1, "The distance is 6.0 m.", True),
        ("1.2", 1, "The spring is compressed by 1.2 cm, since the energy is conserved.", True),
        ("1.2", 1, "d = 0.012 m = 1.2 cm", True),
        ("1.2", 1, "1.2.3", False),
    ],
)
def test_floats_count_at_the_precision_of_the_question(
    gold: str, precision: int | None, response: str, expected: bool
) -> None:
    assert right(FLOAT, gold, response, precision) is expected


@pytest.mark.parametrize(
    ("gold", "unit", "response", "expected"),
    [
        ("5", "cm", "5 cm", True),
        ("5", "cm", "5", True),
        ("5", "cm", "5cm", True),
        ("5", "cm", "5 centimeters", True),
        ("5", "cm", "50 mm", True),
        ("5", "cm", "5 mm", False),
        ("5", "cm", "5 kg", False),
        ("5", "cm", "0.05 m", True),
        ("1000", "g", "1 kg", True),
        ("1000", "g", "1000 grams", True),
        ("25", "%", "25%", True),
        ("25", "%", "25", True),
        ("25", "%", "0.25", False),
        ("18", "$", "$18", True),
        ("18", "$", "18 dollars", True),
        ("18", "$", "€18", False),
        ("36", "cm^2", "36 square centimeters", True),
        ("36", "cm^2", "36 cm²", True),
        ("36", "cm^2", "36 sq. cm", True),
        ("36", "cm^2", "36 cm", False),
        ("3", "million", "3 million", True),
        ("3", "million", "3", True),
        ("3000000", None, "3 million", True),
        ("120", "min", "2 hours", True),
        ("20", "mph", "20 miles per hour", True),
    ],
)
def test_units(gold: str, unit: str | None, response: str, expected: bool) -> None:
    assert right(INTEGER, gold, response, unit=unit) is expected


def test_the_unit_may_stand_in_the_question() -> None:
    assert not right(INTEGER, "18", "€18", question="How much will he spend? (Unit: $)")
    assert right(INTEGER, "18", "1800 cents", question="How much will he spend? (Unit: $)")


@pytest.mark.parametrize(
    ("gold", "response", "expected"),
    [
        ("[2014, 2016]", "[2014, 2016]", True),
        ("[2014, 2016]", "2014, 2016", True),
        ("[2014, 2016]", "2014 and 2016", True),
        ("[2014, 2016]", "2014-2016", True),
        ("[2014, 2016]", "2014–2016", True),
        ("[2014, 2016]", "from 2014 to 2016", True),
        ("[2014, 2016]", "The line graph saw its maximum peak between 2014 and 2016.", True),
        ("[2014, 2016]", r"\boxed{[2014, 2016]}", True),
        ("[2014, 2016]", "The answer is [2014, 2016].", True),
        ("[2014, 2016]", "[2014, 2015]", False),
        ("[2014, 2016]", "[2016, 2014]", False),
        ("[2014, 2016]", "2014", False),
        ("[2014, 2016]", "2014 or 2016", False),
        ("[2014, 2016]", "[2014, 2015, 2016]", False),
        ("[0, 1, 2]", "(0,1,2)", True),
        ("[red, blue]", "red and blue", True),
        ("[red, blue]", "The colors are red and blue.", True),
    ],
)
def test_lists(gold: str, response: str, expected: bool) -> None:
    assert right(LIST, gold, response) is expected


@pytest.mark.parametrize(
    ("kind", "gold"),
    [
        (INTEGER, None), (INTEGER, ""), (INTEGER, "seven cats or dogs"), (INTEGER, "7.5"), (INTEGER, "nan"),
        (FLOAT, None), (FLOAT, "n/a"), (FLOAT, "1.2 or 1.3"), (LIST, None), (LIST, ""), (AnswerType.TEXT, None),
        (AnswerType.TEXT, "  "),
    ],
)  # fmt: skip
def test_a_gold_answer_that_is_not_of_its_type_is_told(kind: AnswerType, gold: str | None) -> None:
    verdict = GRADER.grade(Prompt("p", "q", answer=gold, answer_type=kind), "The answer is 7")
    assert verdict.status is VerdictStatus.UNGRADEABLE_GOLD
    assert not verdict.correct


def test_equal_answers_without_a_gold_answer_vote_together() -> None:
    prompt = Prompt("p", "q", answer_type=FLOAT, precision=1)
    texts = ("2.5", "The answer is 2.50", "2.5 cm", "5/2", r"\boxed{2.5}", "2.54")
    assert {GRADER.grade(prompt, text).predicted for text in texts} == {"2.5"}


@pytest.mark.parametrize(
    ("response", "number"),
    [
        ("The tallest tree measures nine metres, while the shortest is two metres.", None),
        ("The tallest tree is 9 metres and the shortest tree is 2 metres.", None),
        ("The tallest tree is 9 metres and the shortest is 2 metres, so the difference is 7.", "7"),
        ("The tallest tree is 9 metres, while the shortest is 2 metres, and the difference is 7 metres.", "7"),
        ("The difference is 7 metres, while the tallest tree is 9 metres.", "7"),
        ("The heights are as follows: 1) 4, 2) 6, 3) 8.", None),
        ("1) The tallest is 9, 2) the shortest is 2, so the difference is 7.", "7"),
    ],
)
def test_a_number_that_leads_to_the_asked_one_is_no_answer(response: str, number: str | None) -> None:
    question = "What is the difference between the tallest tree and the shortest tree?"
    prompt = Prompt("p", question, answer="9", answer_type=INTEGER)
    assert GRADER.grade(prompt, response).predicted == number
