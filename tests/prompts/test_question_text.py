"""Placeholders in questions, gold answers, the numbers of options, and types of answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from mstar.grading import AnswerGrader
from mstar.prompts import FieldMap, RecordPrompts
from mstar.prompts.question_text import (
    find_choices,
    find_numbering,
    infer_answer_type,
    read_gold,
    remove_placeholders,
    settle_votes,
    without_letters,
)
from mstar.types import AnswerType
from tests.prompts.record_files import write_lines


def test_placeholders_inside_a_question_go_too() -> None:
    assert remove_placeholders("<image>\nIs <image> like <image>\n?") == "Is like ?"
    assert remove_placeholders("a < b") == "a < b"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("12", AnswerType.INTEGER),
        ("-12", AnswerType.INTEGER),
        ("\u221212", AnswerType.INTEGER),
        ("1,200", AnswerType.INTEGER),
        ("0.5", AnswerType.FLOAT),
        (".5", AnswerType.FLOAT),
        ("1,200.75", AnswerType.FLOAT),
        ("12,34", AnswerType.TEXT),
        ("866-680-0146", AnswerType.TEXT),
        ("$38.51", AnswerType.TEXT),
        ("10^4", AnswerType.TEXT),
        ("5 cm", AnswerType.TEXT),
        ("9" * 50, AnswerType.TEXT),
        (None, AnswerType.TEXT),
    ],
)
def test_the_type_of_an_answer(answer: str | None, kind: AnswerType) -> None:
    assert infer_answer_type(answer) is kind
    assert infer_answer_type(answer, ("a", "b")) is AnswerType.MULTI_CHOICE


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([("0", False), ("3", False)], "index0"),
        ([("1", False), ("4", False)], "index1"),
        # The number of an option stands among options that are numbers by chance.
        ([("0", False), ("1", False), ("2", True)], "index0"),
        ([("0", True), ("1", True), ("2", False)], None),
        ([("1", False), ("3", False)], None),
        ([("0", False), ("4", False)], None),
        ([("0", False), ("5", False)], None),
        ([("0", False), ("B", False)], None),
        ([], None),
    ],
)
def test_numbers_of_options(rows: list[tuple[str, bool]], found: str | None) -> None:
    assert find_numbering([((answer,), 4, is_text) for answer, is_text in rows]) == found


@pytest.mark.parametrize(
    ("answers", "right"),
    [
        ("down down up Down left up up up at down", ("down", "up")),
        ("up up left left a b c d e f", ("up",)),
        # No votes: each may be right.
        ("a b c d e f g h i j", tuple("abcdefghij")),
        ("a A b c d e f g h i", tuple("aAbcdefghi")),
        ("down down up", ("down", "down", "up")),
    ],
)
def test_ten_answers_are_votes(answers: str, right: tuple[str, ...]) -> None:
    assert settle_votes(tuple(answers.split())) == right


def test_what_one_of_ten_annotators_said_is_not_right(tmp_path: Path) -> None:
    """The rows of VQAv2; those of OK-VQA, TextVQA and VizWiz have lists of texts."""
    said = ["up", *["down"] * 6, *["at table"] * 3]
    votes = [{"answer": text, "answer_confidence": "yes", "answer_id": place} for place, text in enumerate(said)]
    row = {"question": "Where is he looking?", "multiple_choice_answer": "down", "question_id": 1}
    for number, answers in enumerate((votes, said)):
        [prompt] = RecordPrompts(write_lines(tmp_path / f"{number}.jsonl", [row | {"answers": answers}]))
        assert (prompt.answer, prompt.answers) == ("down", ("at table",))
        assert not AnswerGrader().grade(prompt, "Answer: up").correct
    [prompt] = RecordPrompts(str(tmp_path / "1.jsonl"), FieldMap(answer="answers", answers=""))
    assert (prompt.answer, prompt.answers) == ("down", ("at table",))


def test_an_option_that_reads_like_an_announcement_stays_whole() -> None:
    choices = ("the answer is 4", "the answer is 5")
    assert read_gold("the answer is 4", "answer", None, choices) == (("the answer is 4",), None)
    assert read_gold("The answer is B", "answer", None, choices) == (("B",), None)
    assert read_gold(None, "answer", None, ()) == ((), None)


@pytest.mark.parametrize(
    "options",
    [
        r"$\textbf{(A)}\ 26 \qquad\textbf{(B)}\ 27\qquad\textbf{(C)}\ 28\qquad\textbf{(D)}\ \text{none}$",
        r"$(\mathrm {A}) \ 26 \qquad (\mathrm {B}) \ 27 \qquad (\mathrm {C})\ 28 \qquad (\mathrm {D}) \ \text{none}$",
        r"$ \mathrm{(A) \ } 26\qquad \mathrm{(B) \ } 27\qquad \mathrm{(C) \ } 28\qquad \mathrm{(D) \ }\text{none} $",
        r"$\text{(A)}\ 26 \qquad \text{(B)}\ 27 \qquad \text{(C) 28} \qquad \text{(D)}~\text{none}$",
        "$\\textbf{(A)}\\: 26$\n$\\textbf{(B)} \\: 27$\n$\\textbf{(C)} ~28$\n$\\textbf{(D)} \\text{none}$",
        r"\textbf{(A)} 26 \qquad \textbf{(B)} 27 \qquad \textbf{(C)} 28 \qquad \textbf{(D)} \text{none}",
        "$\\textbf{(A) }$ 26\n$\\textbf{(B) }$ 27\n$\\textbf{(C) }$ 28\n$\\textbf{(D) }$ \\text{none}",
    ],
)
@pytest.mark.parametrize("gold", [r"So it is $\boxed{\textbf{(C)}\ 28}$.", "C", "28"])
def test_options_in_latex(tmp_path: Path, options: str, gold: str) -> None:
    """NuminaMath's questions of the AMC; CoT has solutions, 1.5 has letters."""
    row = {"problem": f"What is $x$ if $f(A) = 3$?\n{options}", "solution": gold}
    [prompt] = RecordPrompts(write_lines(tmp_path / "data.jsonl", [row]), FieldMap(answer="solution"))
    assert prompt.choices == ("26", "27", "28", r"\text{none}")
    grade = AnswerGrader().grade
    assert all(grade(prompt, rf"\boxed{{{said}}}").correct for said in ("28", "C", "(C)", r"\textbf{(C)}\ 28"))
    assert not any(grade(prompt, rf"\boxed{{{said}}}").correct for said in ("27", "B", r"\textbf{(B)}\ 27"))


def test_a_formula_at_the_end_of_an_option_stays_where_the_letter_is_one_of_its_own() -> None:
    turned = "rotation by $90^{\\circ}$"
    question = "".join(
        f"\n$\\textbf{{({letter}) }}$ {turn} {turned}" for letter, turn in zip("ABC", "pqr", strict=True)
    )
    assert find_choices(f"Which?{question}", "B") == (f"p {turned}", f"q {turned}", f"r {turned}")


@pytest.mark.parametrize("gold", [r"\boxed{\text{A}}", "$A$", r"$20^\circ$", "20", "Option A", "A 20°", "A:20°"])
def test_options_stay_options_however_the_answer_is_spelt(tmp_path: Path, gold: str) -> None:
    rows = [{"question": "x?\nChoices:\n(A) 20°\n(B) 40°\n(C) 50°", "answer": gold}]
    [prompt] = RecordPrompts(write_lines(tmp_path / "data.jsonl", rows))
    assert prompt.choices == ("20°", "40°", "50°")
    grade = AnswerGrader().grade
    assert all(grade(prompt, text).correct for text in ("Answer: A", r"\boxed{A. 20°}", "Answer: 20°"))
    assert not grade(prompt, "Answer: B").correct


def test_options_in_full_width_letters_and_brackets() -> None:
    """Chinese questions have them; none of them was an option."""
    for question in (
        "\uff08A\uff095\n\uff08B\uff096",
        "\uff08\uff21\uff095\n\uff08\uff22\uff096",
        "\uff21\uff0e5 \uff22\uff0e6 \uff23\uff0e7",
    ):
        for gold in ("B", "\uff22", "\uff08B\uff09"):
            assert find_choices(f"Which?\n{question}", gold)[:2] == ("5", "6"), (question, gold)
    texts = ("5\uff08cm\uff09", "\uff22")
    for form in ("\uff08{}\uff09", "{}\uff0e"):
        marked = [form.format(letter) + text for letter, text in zip("\uff21\uff22", texts, strict=True)]
        assert without_letters(marked) == texts
