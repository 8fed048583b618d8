"""Parts of a prompt source, prompts by their numbers, and ids that repeat."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mstar.errors import ConfigError, DataError
from mstar.prompts import PromptPart, RecordPrompts, TinyDice
from mstar.prompts.part import PromptSubset, find_repetition
from mstar.types import Prompt

Make = Callable[..., RecordPrompts]


@pytest.fixture
def records(tmp_path: Path) -> Make:
    def make(ids: list[int]) -> RecordPrompts:
        path = tmp_path / f"{len(ids)}-{ids[0]}.jsonl"
        rows = [{"id": f"q{number}", "question": f"{number}?", "answer": str(number)} for number in ids]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return RecordPrompts(str(path))

    return make


def ids(source: Any) -> list[str]:
    return [prompt.id for prompt in source]


def test_a_range_is_of_the_rows(records: Make) -> None:
    source = records(list(range(10)))
    part = PromptPart(source, start=3, stop=5)
    assert ids(part) == ["q3", "q4"]
    assert (len(part), part[1].id, part.index_of("q4")) == (2, "q4", 1)
    assert ids(PromptPart(source, start=8)) == ["q8", "q9"]
    assert part.index_of("q5") is part.index_of("other") is None


def test_a_part_knows_what_its_source_knows(records: Make) -> None:
    facts = PromptPart(PromptPart(records(list(range(10))), start=2), stop=5).facts()
    assert facts is not None
    assert (facts.rows, facts.answer_types, facts.pictures) == (10, {"integer": 5}, {0: 5})
    assert ("question", "question") in [(choice.role, choice.column) for choice in facts.columns]
    assert PromptPart(TinyDice("seed", 4), stop=2).facts() is None


def test_shares_do_not_overlap_and_do_not_depend_on_order_or_size(records: Make) -> None:
    bounds = [(0.0, 0.25), (0.25, 0.5), (0.5, 1.0)]
    parts = [ids(PromptPart(records(list(range(200))), share=share)) for share in bounds]
    assert sorted(name for part in parts for name in part) == sorted(f"q{number}" for number in range(200))
    assert 30 < len(parts[0]) < 70
    turned = records(list(range(199, -1, -1)))
    assert ids(PromptPart(turned, share=bounds[0])) == parts[0][::-1]
    fewer = records(list(range(100)))
    assert ids(PromptPart(fewer, share=bounds[0])) == [name for name in parts[0] if int(name[1:]) < 100]
    assert ids(PromptPart(turned, share=bounds[0], seed=1)) != parts[0][::-1]


@pytest.mark.parametrize("extra", [{}, {"id": "p{}"}])
def test_a_question_with_several_rationales_is_in_one_share(tmp_path: Path, extra: dict[str, str]) -> None:
    """OpenMathReasoning has ten solutions a problem, MMPR up to 15 pairs a question, and neither has ids."""
    rows = [
        {name: form.format(number) for name, form in extra.items()}
        | {"question": f"{number}?", "answer": str(number), "solution": f"Way {way}."}
        for way in range(4)
        for number in range(50)
    ]
    path = tmp_path / "rationales.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = RecordPrompts(str(path))
    assert len(set(ids(source))) == len(source) == 200
    parts = [PromptPart(source, share=share) for share in ((0.0, 0.5), (0.5, 1.0))]
    asked = [{prompt.question for prompt in part} for part in parts]
    assert len(asked[0]) + len(asked[1]) == 50
    assert 10 < len(asked[0]) < 40


def test_a_list_of_ids_keeps_the_order_of_the_data(records: Make, tmp_path: Path) -> None:
    listed = tmp_path / "ids.txt"
    listed.write_text("q7\n\nq2\n")
    source = records(list(range(10)))
    assert ids(PromptPart(source, ids=str(listed))) == ["q2", "q7"]
    assert ids(PromptPart(source, stop=5, ids=str(listed))) == ["q2"]
    listed.write_text("q7\nnone\n")
    with pytest.raises(DataError, match=r"lists 1 prompts that .* does not have, such as 'none'"):
        PromptPart(source, ids=str(listed))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"start": 5, "stop": 5}, ConfigError, "from row 5 to 5 has no rows"),
        ({"share": (0.5, 0.5)}, ConfigError, "share is"),
        ({"share": (0.0, 1.5)}, ConfigError, "share is"),
        ({"start": 50}, DataError, "has none of the 6 prompts"),
        ({"ids": "nowhere.txt"}, DataError, "does not exist"),
    ],
)
def test_mistakes(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        PromptPart(TinyDice("pool", 6), **arguments)


class Counting(TinyDice):
    """Counts how many prompts it built."""

    built = 0

    def __getitem__(self, index: int) -> Prompt:
        self.built += 1
        return super().__getitem__(index)


def test_prompts_are_built_when_they_are_asked_for() -> None:
    source = Counting("pool", 50)
    subset = PromptSubset(source, np.array([40, 3, 7, 21]))
    part = subset[1:3]
    assert (len(subset), len(part), source.built) == (4, 2, 0)
    assert [prompt.id for prompt in part] == ["pool-0-3", "pool-0-7"]
    # Two, and none for the end of the sequence.
    assert source.built == 2
    assert subset[-1].id == "pool-0-21"
    assert [prompt.id for prompt in subset[3:9]] == ["pool-0-21"]
    with pytest.raises(IndexError):
        subset[4]


@pytest.mark.parametrize(
    ("ids", "place"), [("", None), ("a", None), ("abc", None), ("abca", 3), ("abbaa", 2), ("cbab", 3), ("aa", 1)]
)
def test_the_first_id_that_was_there_before(ids: str, place: int | None) -> None:
    assert find_repetition(iter(ids)) == place
