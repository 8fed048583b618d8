"""MMBench and MMBench-R: rotations, pictures that rows share, and the official form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mstar.errors import DataError
from mstar.prompts.benchmarks import MMBench


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
