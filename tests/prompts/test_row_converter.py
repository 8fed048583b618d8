"""What a row's values become in a prompt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mstar.grading import AnswerGrader
from mstar.prompts import FieldMap, RecordPrompts
from mstar.types import AnswerType, Prompt
from tests.prompts.record_files import write_lines


@pytest.mark.parametrize(
    "turns",
    [
        [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "R"}],
        [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "R"}],
        [
            {"role": "user", "content": [{"type": "text", "text": "Q?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "R"}]},
        ],
    ],
)
def test_conversations_give_question_and_rationale(tmp_path: Path, turns: list[dict[str, Any]]) -> None:
    [prompt] = RecordPrompts(write_lines(tmp_path / "data.jsonl", [{"messages": turns}]))
    assert (prompt.question, prompt.rationale, prompt.answer) == ("Q?", "R", None)


def one(tmp_path: Path, row: dict[str, Any], fields: FieldMap | None = None, **settings: Any) -> Prompt:
    [prompt] = RecordPrompts(write_lines(tmp_path / "data.jsonl", [row]), fields, **settings)
    return prompt


@pytest.mark.parametrize(
    ("row", "fields", "answer", "choices"),
    [
        ({"choices": {"A": "red", "B": "blue"}, "answer": "B"}, None, "B", ("red", "blue")),
        ({"choices": [{"label": "A", "text": "red"}, {"label": "B", "text": "blue"}], "answer": "A"}, None, "A",
         ("red", "blue")),
        ({"choices": {"text": ["red", "blue"], "label": ["1", "2"]}, "answer": "2"}, None, "B", ("red", "blue")),
        ({"options": "['red', 'blue']", "answer": "blue"}, None, "blue", ("red", "blue")),
        ({"options": '["red", "blue"]', "answer": "blue"}, None, "blue", ("red", "blue")),
        ({"options": "A. red\nB. blue", "answer": "B"}, None, "B", ("red", "blue")),
        ({"options": [6, 3], "answer": 3}, None, "3", ("6", "3")),
        ({"A": "red", "B": "blue", "C": "nan", "answer": "B"}, None, "B", ("red", "blue")),
        # PMC-VQA.
        ({"Choice A": " A:red ", "Choice B": " B:blue ", "Answer": "blue"}, None, "blue", ("red", "blue")),
        ({"Option A": "red", "Option B": "blue", "Answer": "B"}, None, "B", ("red", "blue")),
        ({"option": "A. red;B. blue", "answer": "B"}, None, "B", ("red", "blue")),
        ({"Options": ["A)red", "B)blue"], "Correct Answer": "B"}, None, "B", ("red", "blue")),
        ({"options": ["$2+4$", "$\\frac{1}{2}$"], "answer": "B"}, None, "B", ("$2+4$", "$\\frac{1}{2}$")),
        ({"options": ["red", "blue", None, float("nan"), ""], "answer": "B"}, None, "B", ("red", "blue")),
        ({"options": {"A": "red", "B": "blue", "C": float("nan"), "D": ""}, "answer": "B"}, None, "B", ("red", "blue")),
        ({"options": [1, 0], "answer": "B"}, None, "B", ("1", "0")),
        ({"options": ["", ""], "answer": "4"}, None, "4", ()),
        ({"meta": {"gold": "4"}}, FieldMap(answer="meta.gold"), "4", ()),
        ({"meta": '{"gold": "4"}'}, FieldMap(answer="meta.gold"), "4", ()),
        ({"reward_model": {"ground_truth": "4"}}, None, "4", ()),
        ({"choices": ["red", "blue"], "answer": 1}, FieldMap(answer_is="index0"), "1", ("red", "blue")),
    ],
)  # fmt: skip
def test_forms_of_choices_and_answers(
    tmp_path: Path, row: dict[str, Any], fields: FieldMap | None, answer: str, choices: tuple[str, ...]
) -> None:
    prompt = one(tmp_path, {"question": "Which?", **row}, fields)
    assert (prompt.answer, prompt.choices) == (answer, choices)
    assert prompt.question == ("\n".join(["Which?", "Choices:", f"(A) {choices[0]}", f"(B) {choices[1]}"]) if choices
                               else "Which?")  # fmt: skip
    assert AnswerGrader().is_gradeable(prompt)


@pytest.mark.parametrize("options", [[{"bytes": None, "path": "a.png"}] * 2, ["red", None, "blue"]])
def test_an_option_without_text_makes_a_bad_row(tmp_path: Path, options: list[Any]) -> None:
    rows = [{"question": "Which?", "options": given, "answer": "A"} for given in (["red", "blue"], options)]
    source = RecordPrompts(str(write_lines(tmp_path / "rows.jsonl", rows)), max_bad_share=0.5)
    assert source.facts().bad == {"wrong_type": 1}


@pytest.mark.parametrize(
    ("question", "answer", "choices"),
    [
        ("Which?\nChoices:\n(A) red\n(B) blue", "B", ("red", "blue")),
        ("Which?\nOptions: A: red, B: blue", "(A)", ("red", "blue")),
        ("Which? Select from A and B. (A) True (B)False", "A", ("True", "False")),
        ("How many? \n A) 10 B) 12 C) 14", "C", ("10", "12", "14")),
        ("How wide?\nChoices:\nA:40°\nB:60°\nC:120°", "C", ("40°", "60°", "120°")),
        ("Is it one?\nChoices:\nA:Yes\nB:No", "B", ("Yes", "No")),
        ("Which are?\nA. x\nB. y\nC. z", "BC", ("x", "y", "z")),
        ("Which one?\nA.-2  B.0  C. 3", "-2", ("-2", "0", "3")),
        ("Which? choice:(A) red (B) blue", "B", ("red", "blue")),
        ("Which?\nA. red\nB. as in (A) and (B)\nAnswer with the letter.", "A", ("red", "as in (A) and (B)")),
        ("Which?\n(A) red (B) blue", "blue", ("red", "blue")),
        # Options that are in the picture.
        ("Which figure? Select from A-E.", "E", ()),
        ("Which figures?", "A, C", ()),
        ("Which? (A) (B) (C) (D)", "D", ()),
    ],
)
def test_choices_in_the_question_itself(tmp_path: Path, question: str, answer: str, choices: tuple[str, ...]) -> None:
    prompt = one(tmp_path, {"question": question, "answer": answer})
    assert (prompt.question, prompt.choices, prompt.answer_type) == (question, choices, AnswerType.MULTI_CHOICE)
    assert AnswerGrader().grade(prompt, f"Answer: {answer}").correct


def test_letters_in_a_question_about_something_else_are_no_choices(tmp_path: Path) -> None:
    for question in ("If (A) x is 2 and (B) y is 3, what is x + y?", "A:B is 1:2 and\nB:C is 2:3. What is A:C?"):
        prompt = one(tmp_path, {"question": question, "answer": "5"})
        assert (prompt.choices, prompt.answer_type) == ((), AnswerType.INTEGER)


def test_lists_of_golds_and_of_categories(tmp_path: Path) -> None:
    row = {"question": "Where?", "answer": ["USA", "America"], "answers": [{"answer": "US"}], "category": ["a", "b"]}
    prompt = one(tmp_path, row)
    assert (prompt.answer, prompt.answers, prompt.category) == ("USA", ("America", "US"), "a, b")
    several = one(tmp_path, {"question": "Which?", "choices": ["x", "y", "z"], "answer": ["A", "C"]})
    assert AnswerGrader().grade(several, "Answer: A, C").correct
    written = one(tmp_path, {"question": "How many?", "answer": "['5', 'five']"})
    assert (written.answer, written.answers, written.answer_type) == ("5", ("five",), AnswerType.INTEGER)
    assert one(tmp_path, {"question": "Which years?", "answer": "[2014, 2016]"}).answer == "[2014, 2016]"
    listed = one(tmp_path, {"question": "Which?", "answer": [3, 4], "answer_type": "list"})
    assert (listed.answer, listed.answer_type) == ("[3, 4]", AnswerType.LIST)


def test_a_solution_in_the_answers_column_is_an_answer_and_a_rationale(tmp_path: Path) -> None:
    solution = "She sold 48 / 2 = 24.\nTogether 72.\n#### 72"
    prompt = one(tmp_path, {"question": "How many?", "answer": solution})
    assert (prompt.answer, prompt.answer_type, prompt.rationale) == ("72", AnswerType.INTEGER, solution)
    boxed = one(tmp_path, {"problem": "How many?", "solution": r"So it is $\boxed{7}$."}, FieldMap(answer="solution"))
    assert (boxed.answer, boxed.rationale) == ("7", r"So it is $\boxed{7}$.")
    several = one(tmp_path, {"question": "How many?", "final_answer": ["2"], "solution": ["One way.", "Another."]})
    assert (several.answer, several.rationale) == ("2", "One way.")


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({"Body": "Ann has 3 pens.", "Question": "How many?"}, "Ann has 3 pens.\nHow many?"),
        ({"context": ["a", ["b"]], "question": "How many?"}, "How many?"),
        ({"instruction": "How many?", "input": "3 pens"}, "3 pens\nHow many?"),
    ],
)
def test_what_a_question_is_about_stands_before_it(tmp_path: Path, row: dict[str, Any], question: str) -> None:
    assert one(tmp_path, row).question == question


def test_sentences_on_how_to_answer_are_taken_out_of_the_questions(
    tmp_path: Path, picture: Callable[..., bytes]
) -> None:
    """LLaVA-OneVision's and Geo170K's questions say how to answer, which contradicts the form that is asked for."""
    (tmp_path / "a.png").write_bytes(picture())
    said = "First perform reasoning, then finally select the question from the choices in the following format:"
    short = "\nAnswer the question using a single word or phrase."
    turns = [
        f"<image>\n{said} Answer: xxx.\nQuestion: How long?\nChoices:\nA: 4.0\nB: 12.0",
        "B",
        f"Why?{short}",
        "So.",
    ]
    chat = [{"from": "human" if n % 2 == 0 else "gpt", "value": text} for n, text in enumerate(turns)]
    path = write_lines(tmp_path / "a.jsonl", [{"image": "a.png", "conversations": chat}])
    [prompt] = RecordPrompts(path, drop=[f"{said} Answer: xxx.", short])
    asked = "Question: How long?\nChoices:\nA: 4.0\nB: 12.0"
    assert (prompt.question, [turn.text for turn in prompt.turns]) == ("Why?", [asked, "B"])
    [first] = RecordPrompts(
        write_lines(tmp_path / "b.jsonl", [{"image": "a.png", "conversations": chat[:2]}]),
        drop=[f"{said} Answer: xxx."],
    )
    assert (first.question, first.choices, first.rationale) == (asked, ("4.0", "12.0"), "B")
    assert len(RecordPrompts(path)[0].question) > len("Why?")


def test_the_answer_of_a_chat_is_to_its_last_question(tmp_path: Path) -> None:
    first = [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "Answer: 3"}]
    rows = [
        {"messages": [*first, {"role": "user", "content": "Which?"}, {"role": "assistant", "content": "Answer: red"}]},
        {"messages": [{"role": "system", "content": "Be brief."}, *first]},
    ]
    path = write_lines(tmp_path / "chats.jsonl", rows)
    asked = [(prompt.question, prompt.answer) for prompt in RecordPrompts(path, FieldMap(answer="messages.1.content"))]
    assert asked == [("Which?", "red"), ("How many?", "3")]
