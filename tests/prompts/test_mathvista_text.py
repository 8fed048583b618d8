"""Questions and answers of the MathVista family taken apart."""

from __future__ import annotations

import pytest

from mstar.prompts.mathvista_text import parse_answer, parse_question
from mstar.prompts.question_text import parse_choices, render_choices

OPEN = "Hint: Please answer the question and provide the final answer at the end.\n"
LETTER = (
    "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\n"
)  # fmt: skip


@pytest.mark.parametrize("start", ["", "<image>\n", "<image>", "\n<image>\n"])
@pytest.mark.parametrize("hint", ["", OPEN])
@pytest.mark.parametrize("label", ["", "Question: "])
def test_hint_placeholder_and_label_may_each_be_missing(start: str, hint: str, label: str) -> None:
    text = f"{start}{hint}{label}What is the shape?\nOf the bat, not the ball."
    assert parse_question(text) == ("What is the shape?\nOf the bat, not the ball.", ())


@pytest.mark.parametrize(
    ("block", "choices"),
    [
        ("Choices:\n(A) 135°\n(B) 140°", ("135°", "140°")),
        ("Choices: (A) one (B) two words (C) three", ("one", "two words", "three")),
        ("Options:\n(A) x\n(B) y", ("x", "y")),
        ("Choices:\n(A) yes\n(B) as in (A)\n(C) (A) and (B)", ("yes", "as in (A)", "(A) and (B)")),
        ("Choices:\n(A) two\nlines\n(B) y", ("two\nlines", "y")),
        ("Choices:\n(A) \n(B) y", ("", "y")),
    ],
)
def test_choices_are_parsed_off(block: str, choices: tuple[str, ...]) -> None:
    assert parse_question(f"<image>\n{LETTER}Question: Which?\n{block}") == ("Which?", choices)


@pytest.mark.parametrize("text", ["", "(A) alone", "(B) x\n(C) y", "see figure (A) and (B) there", "A. x B. y"])
def test_what_is_no_list_of_choices(text: str) -> None:
    assert parse_choices(text) == ()
    assert parse_question(f"Which?\nChoices:\n{text}")[1] == ()


def test_choices_are_rendered_as_they_are_read() -> None:
    rendered = render_choices("Which?", ("x", "y"))
    assert rendered == "Which?\nChoices:\n(A) x\n(B) y"
    assert parse_question(rendered) == ("Which?", ("x", "y"))
    assert render_choices("Which?", ()) == "Which?"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is Cylindrical", "Cylindrical"),
        ("The answer is 866-680-0146", "866-680-0146"),
        ("The answer is $38.51", "$38.51"),
        ("The answer is: 10^4", "10^4"),
        ("Answer: 100", "100"),
        ("  the ANSWER IS x ", "x"),
        ("bare text", "bare text"),
        ("The answer is 3. No, the answer is 4", "4"),
        ("The answer is Cyan is slightly more than 1:1 to Firebrick", "Cyan is slightly more than 1:1 to Firebrick"),
        ("The answer is", ""),
        ("", ""),
    ],
)
def test_the_gold_answer_of_an_open_question(text: str, answer: str) -> None:
    assert parse_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is B", "B"),
        ("The answer is (b)", "B"),
        ("The answer is (B) two", "B"),
        ("B. two", "B"),
        ("The answer is two", "two"),
        ("The answer is (B) one", "(B) one"),
        ("The answer is E", "E"),
        ("The answer is a dog", "a dog"),
    ],
)
def test_the_gold_answer_among_choices(text: str, answer: str) -> None:
    assert parse_answer(text, ("one", "two")) == answer


def test_a_choice_that_is_a_letter_stays_the_choice() -> None:
    # The choice's text C is option A; the letter C would be another option.
    assert parse_answer("The answer is C", ("C", "D", "A")) == "C"
