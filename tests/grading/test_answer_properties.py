"""What must not change a verdict, and what must."""

from __future__ import annotations

import string
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstar.grading import AnswerGrader, MathVistaGrader
from mstar.types import AnswerType, Prompt, Verdict, VerdictStatus

GRADER = AnswerGrader()
FRAMES = (
    "{}",
    "{}.",
    "  {}\n",
    "The answer is {}",
    "the answer is: {}.",
    "THE ANSWER IS {}",
    "Answer: {}",
    "**Answer:** {}",
    "First, I look at the picture. So the answer is {}.",
    "Final answer:\n\n{}",
    "\\boxed{{{}}}",
    "<think>perhaps 3 or 4</think>{}",
    "答案是{}。",
    "The answer is {}.\n\nQuestion: What is 1 + 1?\nAnswer: 99999",
    "{}</s>",
    "\u202a{}\u202c",
    '{{"answer": "{}"}}',
    "My first answer was 31337. The answer is {}.",
)
frames = st.sampled_from(FRAMES)
integers = st.integers(-(10**9), 10**9)
# Without vowels, so that none is a word that says something by itself: a number, a negation, a hedge.
words = st.text("bcdfghjklmnpqrstvwxz", min_size=4, max_size=9)


def grade(
    gold: str, kind: AnswerType, response: str, choices: tuple[str, ...] = (), precision: int | None = None
) -> Verdict:
    return GRADER.grade(Prompt("p", "", answer=gold, answer_type=kind, choices=choices, precision=precision), response)


def indian(digits: int) -> str:
    head, tail = divmod(digits, 1000)
    pairs = []
    while head:
        head, pair = divmod(head, 100)
        pairs.insert(0, f"{pair:02}" if head else str(pair))
    return ",".join([*pairs, f"{tail:03}"]) if pairs else str(tail)


def number_forms(value: int) -> list[str]:
    sign, digits = ("-" if value < 0 else ""), abs(value)
    fullwidth = "".join(chr(0xFF10 + int(digit)) for digit in str(digits))
    return [
        str(value),
        f"{value:,}",
        f"{value:,}".replace(",", "'"),
        f"{value:,}".replace(",", " "),
        f"{sign}{indian(digits)}",
        f"{value:,}".replace(",", ".") if digits >= 10**6 else str(value),
        f"{value}.0",
        f"{sign}0{digits}",
        sign.replace("-", "\u2212") + fullwidth,
        f"{sign}{3 * digits}/3",
        f"{sign}\\frac{{{2 * digits}}}{{2}}",
        f"${value}$",
        f"{value} apples",
        f"{value} cm",
    ]


@given(integers, frames, st.data())
def test_every_form_of_an_integer_in_every_frame_is_right(value: int, frame: str, data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(number_forms(value)))
    verdict = grade(str(value), AnswerType.INTEGER, frame.format(form))
    assert verdict == Verdict(True, str(value), VerdictStatus.GRADED)


@given(integers, integers, frames, st.data())
def test_another_integer_is_not_right(gold: int, other: int, frame: str, data: st.DataObject) -> None:
    if gold != other:
        form = data.draw(st.sampled_from(number_forms(other)))
        assert not grade(str(gold), AnswerType.INTEGER, frame.format(form)).correct


@given(st.decimals(-1000, 1000, places=3), st.integers(0, 2), frames)
def test_floats_are_equal_when_they_round_to_the_same(value: Fraction, precision: int, frame: str) -> None:
    shown = f"{value:.3f}"
    assert grade(shown, AnswerType.FLOAT, frame.format(shown), precision=precision).correct
    different = f"{value + 2:.3f}"
    assert not grade(shown, AnswerType.FLOAT, frame.format(different), precision=precision).correct


@given(st.lists(words, min_size=2, max_size=6, unique=True), frames, st.data())
def test_every_form_of_an_option_in_every_frame_is_right(texts: list[str], frame: str, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(texts) - 1))
    letter, text = string.ascii_uppercase[index], texts[index]
    forms = (
        letter,
        f"({letter})",
        f"({letter}) {text}",
        f"{letter}. {text}",
        f"{letter}: {text}",
        f"**{letter}**",
        text,
        text.upper(),
    )
    response = frame.format(data.draw(st.sampled_from(forms)))
    for gold in (text, letter, f"({letter})"):
        assert grade(gold, AnswerType.MULTI_CHOICE, response, tuple(texts)) == Verdict(
            True, letter, VerdictStatus.GRADED
        )
    wrong = string.ascii_uppercase[(index + 1) % len(texts)]
    assert not grade(wrong, AnswerType.MULTI_CHOICE, response, tuple(texts)).correct


@given(words, words, frames)
def test_words_are_compared_without_case(gold: str, other: str, frame: str) -> None:
    assert grade(gold, AnswerType.TEXT, frame.format(gold.title())).correct
    assert grade(gold, AnswerType.TEXT, frame.format(other)).correct is (gold == other)


@given(st.lists(integers, min_size=2, max_size=4), frames)
def test_lists_keep_their_order(values: list[int], frame: str) -> None:
    gold = str(values)
    assert grade(gold, AnswerType.LIST, frame.format(gold)).correct
    assert grade(gold, AnswerType.LIST, frame.format(str(values[::-1]))).correct is (values == values[::-1])


@given(
    st.text(max_size=60) | st.text("0123456789 .,:;()[]{}$^*/+-=\\ABCDabcor\n", max_size=60),
    st.sampled_from(list(AnswerType)),
    st.sampled_from([None, "7", "1.50", "A", "red", "yes", "[1, 2]", "3:30", "\u0663"]),
)
def test_nothing_that_a_policy_writes_raises(text: str, kind: AnswerType, gold: str | None) -> None:
    for grader in (GRADER, MathVistaGrader()):
        verdict = grader.grade(Prompt("p", "q", answer=gold, answer_type=kind, choices=("red", "7"), precision=1), text)
        assert verdict.predicted != "" or isinstance(grader, MathVistaGrader)
        assert verdict.correct <= (verdict.status is VerdictStatus.GRADED)


@given(integers, st.sampled_from(["{} or {}", "either {} or {}", "{}, {}", "{} and {}", "between {} and {}"]))
def test_several_values_are_no_answer(value: int, form: str) -> None:
    verdict = grade(str(value), AnswerType.INTEGER, "The answer is " + form.format(value, value + 1))
    assert verdict == Verdict(False, None, VerdictStatus.NO_ANSWER)


@pytest.mark.parametrize("cut", range(1, len("The answer is")))
def test_an_announcement_without_an_answer_is_none(cut: int) -> None:
    response = "The picture shows 7 cubes and the question asks for more. The answer is"[:-cut]
    assert not grade("7", AnswerType.INTEGER, response).correct


@given(
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.sampled_from(["{} + {} = {}", "Answer: {} + {} = {}", "\\boxed{{{} + {} = {}}}"]),
)
def test_what_a_sum_comes_to_is_its_answer(first: int, second: int, form: str) -> None:
    response = form.format(first, second, first + second)
    assert grade(str(first + second), AnswerType.INTEGER, response).correct
    assert not grade(str(first), AnswerType.INTEGER, response).correct


@given(integers, st.sampled_from(["It is not {}.", "The answer is not {}.", "I don't think it is {}.", "{} is wrong."]))
def test_a_denied_value_is_no_answer(value: int, form: str) -> None:
    assert not grade(str(value), AnswerType.INTEGER, form.format(value)).correct
