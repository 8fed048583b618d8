"""M3CoT, MMStar, MMBench and AI2D: options, answers, pictures and groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mstar.errors import DataError
from mstar.grading import AnswerGrader
from mstar.prompts.benchmarks import AI2D, M3CoT, MMBench, MMStar
from mstar.prompts.benchmarks.mmstar import split_question


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
@pytest.mark.parametrize(("split", "first"), [("test", 0), ("validation", 5), ("dev", 5)])
def test_m3cot_splits_have_two_names(files: Any, shown: Any, form: str, split: Any, first: int) -> None:
    path = files.m3cot_parquet() if form == "parquet" else files.m3cot_jsonl()
    source = M3CoT(str(path), split=split)
    assert len(source) == 3
    assert [shown(p.images[0], first + i) for i, p in enumerate(source)] == [True] * 3


def test_m3cot_keeps_options_that_name_other_options(files: Any) -> None:
    source = M3CoT(str(files.m3cot_parquet()))
    prompt = source[1]
    assert prompt.id == "m3cot-mathematics-888"
    assert prompt.answer == "the answer is option D in the image"
    grader = AnswerGrader()
    assert grader.grade(prompt, "The answer is (C)").correct
    assert not grader.grade(prompt, "The answer is (D)").correct
    assert source[2].question == (
        "Read the poem.\nDoes the sentence use a simile?\nChoices:\n(A) Option A in the image\n"
        "(B) Option B in the image\n(C) None of the provided options"
    )
    assert source.items[2].facets == (
        ("domain", "science"), ("topic", "language-science"), ("category", "Literary devices"),
    )  # fmt: skip


def test_m3cot_official_form(files: Any) -> None:
    source = M3CoT(str(files.m3cot_parquet()), question_format="official")
    assert source[2].question.startswith("[Context]\nRead the poem.\n\n[Question]\nDoes the sentence use a simile?\n")
    assert source[0].question.endswith("[Choices]\n(A) To scare away trespassers\n(B) To honor a local legend")


def test_m3cot_says_which_splits_a_file_has(files: Any) -> None:
    with pytest.raises(DataError, match=r"no rows of the split 'train'; it has \['test'\]"):
        M3CoT(str(files.m3cot_parquet() / "data/test-00000-of-00001.parquet"), split="train")


@pytest.mark.parametrize("form", ["parquet", "tsv"])
def test_mmstar_finds_options_in_all_layouts(files: Any, shown: Any, form: str) -> None:
    source = MMStar(str(files.mmstar_parquet() if form == "parquet" else files.mmstar_tsv()))
    assert [p.id for p in source] == ["mmstar-0", "mmstar-900", "mmstar-1200", "mmstar-1499"]
    assert [p.choices for p in source] == [
        ("The suitcase, red, is on the book.", "Ratio: 3", "The suitcase is beneath the bed."),
        ("4", "6", "8", "2"),
        ("x = 1", "x = 2", "both (A) and (B)"),
        ("5", "Other Answers"),
    ]
    assert [p.answer for p in source] == ["The suitcase, red, is on the book.", "6", "both (A) and (B)", "5"]
    assert source[1].question == (
        "How many algorithms have accuracies higher than 2?\nChoices:\n(A) 4\n(B) 6\n(C) 8\n(D) 2"
    )
    assert source[2].question.startswith("As shown, (A) and (B) are points. Which holds?\nChoices:\n(A) x = 1\n")
    assert source[3].question == (
        "How many chirality centers does the molecule have?\nChoices:\n(A) 5\n(B) Other Answers"
    )
    assert [shown(p.images[0], i) for i, p in enumerate(source)] == [True] * 4
    assert dict(source.items[3].facets)["source"] == "MMMU"


def test_mmstar_r_is_four_categories(files: Any) -> None:
    source = MMStar(str(files.mmstar_parquet()), subset="reasoning")
    assert source.name == "MMStar-R"
    assert {p.category for p in source} == {"logical reasoning", "math", "science & technology"}


@pytest.mark.parametrize(
    ("text", "question", "options"),
    [
        ("Q?\nOptions: A: 1, 2, B: 3: 4, C: nan, D: nan", "Q?", {"A": "1, 2", "B": "3: 4", "C": "nan", "D": "nan"}),
        ("Options: which? Options: A: x, B: y", "Options: which?", {"A": "x", "B": "y"}),
        ("Q? (A) x (B) y", "Q?", {"A": "x", "B": "y"}),
        ("Hint: h\nQuestion: Q?\n(A) x\n(B) y", "Q?", {"A": "x", "B": "y"}),
    ],
)
def test_questions_are_taken_apart(text: str, question: str, options: dict[str, str]) -> None:
    assert split_question(text) == (question, options)


def test_a_question_without_options_is_an_error() -> None:
    with pytest.raises(DataError, match="options cannot be found"):
        split_question("How many?\nOptions: none")


def test_mmbench_rotations_are_one_question_and_share_its_picture(files: Any, shown: Any) -> None:
    source = MMBench(str(files.mmbench_tsv()))
    assert [item.question_key for item in source.items] == [
        "mmbench-241", "mmbench-241", "mmbench-252", "mmbench-252", "mmbench-252", "mmbench-260",
    ]  # fmt: skip
    # The fifth row names a row that names another, the last one a row of another question.
    assert [shown(p.images[0], n) for p, n in zip(source, (1, 1, 2, 2, 2, 1), strict=True)] == [True] * 6
    assert source[0].images[0].uri == source[1].images[0].uri == source[5].images[0].uri
    assert [p.answer for p in source] == ["The second", "The second", "It grows", "It grows", "It grows", "a hen"]
    # "nan" and empty cells are no options; the text "None" is one.
    assert source[0].choices == ("The first", "The second")
    assert source[2].choices == ("It melts", "None", "It grows")
    assert source[2].question.startswith('The text says\n"wait".\nWhat will happen?\nChoices:\n(A) It melts')


def test_mmbench_r_is_three_categories(files: Any) -> None:
    source = MMBench(str(files.mmbench_tsv()), subset="reasoning")
    assert (source.name, len(source)) == ("MMBench-R", 5)
    assert {prompt.category for prompt in source} == {"attribute reasoning", "logic_reasoning"}
    assert MMBench(str(files.mmbench_tsv()), circular=False).items[1].question_key == "mmbench-1000241"


def test_mmbench_says_when_rotations_are_missing(files: Any, tmp_path: Path) -> None:
    # The last question has four options and one row.
    [note] = MMBench(str(files.mmbench_tsv())).notes
    assert note.startswith("1 of 3 questions have fewer rotations than options")
    assert MMBench(str(files.mmbench_tsv()), subset="reasoning").notes == ()
    assert MMBench(str(files.mmbench_tsv()), circular=False).notes == ()


def test_mmbench_official_form(files: Any) -> None:
    source = MMBench(str(files.mmbench_tsv()), question_format="official")
    assert source[0].question == (
        "Question: Which is brighter?\nOptions:\nA. The first\nB. The second\n"
        "Please select the correct answer from the options above."
    )


def test_mmbench_refuses_a_picture_that_is_nowhere(files: Any, tmp_path: Path) -> None:
    text = Path(files.mmbench_tsv()).read_text(encoding="utf-8").replace("\tdev\t252\n", "\tdev\t999\n")
    path = tmp_path / "bad.tsv"
    path.write_text(text, encoding="utf-8")
    # Row 4 shows the picture of row 3.
    with pytest.raises(DataError, match=r"row 3 cannot .* image cell '999' names no row with a picture \(and 1 more\)"):
        MMBench(str(path))


def test_ai2d_answers_count_from_zero(files: Any, shown: Any) -> None:
    source = AI2D(str(files.ai2d_parquet()))
    assert [p.answer for p in source] == ["c", "Egg"]
    assert [shown(p.images[0], i) for i, p in enumerate(source)] == [True, True]
    grader = AnswerGrader()
    assert grader.grade(source[0], "The answer is (A)").correct
    assert not grader.grade(source[0], "The answer is (C)").correct
    assert grader.grade(source[1], "The answer is B").correct


def test_ai2d_tsv_answers_are_letters(files: Any, shown: Any) -> None:
    [prompt] = AI2D(str(files.ai2d_tsv()))
    assert (prompt.answer, prompt.choices, prompt.category) == ("c", ("c", "D", "b", "a"), "foodChains")
    assert shown(prompt.images[0], 0)


def test_an_instruction_is_added_to_every_question(files: Any) -> None:
    source = AI2D(str(files.ai2d_parquet()), instruction="Think step by step.")
    assert all(p.question.endswith("(D) a\nThink step by step.") or "Butterfly\nThink" in p.question for p in source)
