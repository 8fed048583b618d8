"""Rationales that cannot be imitated are known before the first step."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from mstar.datamodules.rationales import Rationales
from mstar.errors import DataError
from mstar.prompts import RecordPrompts, TinyDice
from mstar.prompts.quarantine import QuarantineFile

pytestmark = pytest.mark.usefixtures("own_cache")

END = "<end_of_utterance>"


def read(folder: Path, rationales: list[str | None], thought: str = "") -> Rationales:
    """The rationales of a file of questions."""
    path = folder / "data.jsonl"
    lines = [json.dumps({"question": f"What is {i}?", "rationale": text}) for i, text in enumerate(rationales)]
    path.write_text("\n".join(lines))
    source = RecordPrompts(str(path))
    return Rationales(source, [END], QuarantineFile(folder / "train.jsonl", "data.train", len(source), None), thought)


def test_rows_without_a_rationale_are_put_aside_with_their_numbers(tmp_path: Path) -> None:
    """One ended a fit in the step that it came to, on every try."""
    empty = {3: "", 5: None, 7: END, 8: f" {END}</s>"}
    found = read(tmp_path, [empty.get(i, f"It is {i}.") for i in range(40)])
    assert [found[i][1].response for i in range(len(found))] == [f"It is {i}." for i in range(40) if i not in empty]
    assert [found[i][0].question for i in (0, 3)] == ["What is 0?", "What is 4?"]
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [(row["row"], row["reason"]) for row in rows] == [(i, "no_rationale") for i in empty]


def test_the_text_of_an_end_token_is_not_learned(tmp_path: Path) -> None:
    texts = [f"It is {i}." for i in range(40)]
    given = [texts[0] + END, texts[1] + f"{END}\n", texts[2] + "</s>", texts[3] + "<|im_end|>", *texts[4:]]
    given[9] = f"It is{END} 9."
    found = read(tmp_path, [*given])
    assert [found[i][1].response for i in range(len(found))] == [text for i, text in enumerate(texts) if i != 9]
    [row] = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert (row["row"], row["reason"]) == (9, "bad_text")
    assert f"goes on behind the end token '{END}'" in row["detail"]


def test_rationales_that_never_close_the_thought_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They taught the policy to end its turn within the thought that the template opens."""
    plain, thought = "It is so.", "<think>\nOne.\n</think>\n\nIt is so."
    for rationales, num_open in (([plain, plain, thought], 2), ([plain, thought, thought], 0)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            read(tmp_path, [*rationales], thought="<think>\n")
        said = f"begins an answer with '<think>', and {num_open} of 3 rationales have no '</think>'"
        assert (said in caplog.text) == (num_open > 0), caplog.text
    caplog.clear()
    read(tmp_path, [plain] * 3)
    assert not caplog.messages


def test_too_many_are_an_error_and_so_is_a_source_without_any(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.train: 20 of 40 rows are bad \(50.0%: 20 no_rationale\)"):
        read(tmp_path, ["It is so.", ""] * 20)
    with pytest.raises(DataError, match=r"prompt 'pool-0-0' \(row 0\) has no rationale to imitate: train on data"):
        Rationales(TinyDice("pool", 3), [END], QuarantineFile(tmp_path / "pool.jsonl", "data.train", 3, None))
    assert not (tmp_path / "pool.jsonl").exists()
