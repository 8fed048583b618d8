"""Gold answers: their cells, the numbers of options, and their types."""

from __future__ import annotations

import pytest

from mstar.prompts.golds import find_numbering, read_gold


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


def test_an_option_that_reads_like_an_announcement_stays_whole() -> None:
    choices = ("the answer is 4", "the answer is 5")
    assert read_gold("the answer is 4", "answer", None, choices) == (("the answer is 4",), None)
    assert read_gold("The answer is B", "answer", None, choices) == (("B",), None)
    assert read_gold(None, "answer", None, ()) == ((), None)
