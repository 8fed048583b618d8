"""The ``grade`` command: rows in, the same rows with verdicts out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mstar.cli.grade_command import grade_file
from mstar.errors import ConfigError
from mstar.grading import AnswerGrader, MathVistaGrader
from mstar.storage import PromptResponses, write_responses
from mstar.types import AnswerIs, AnswerType, Prompt, Response, ScoredResponse, Tolerance


def run(folder: Path, lines: list[str], **options: Any) -> tuple[int, list[dict[str, Any]]]:
    source, output = folder / "in.jsonl", folder / "out.jsonl"
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    status = grade_file(str(source), str(output), **options)
    return status, [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def test_rows_keep_their_order_and_their_fields(tmp_path: Path) -> None:
    rows = [
        {"response": "The answer is 5 cm.", "answer": "5", "answer_type": "integer", "unit": "cm", "id": "é", "n": 1},
        {"response": "(B) 140", "answer": "140°", "answer_type": "multi_choice", "choices": ["135°", "140°"]},
        {"response": "1.24", "answer": 1.2, "answer_type": "float", "precision": 1.0},
        {"response": "I don't know", "answer": "5", "answer_type": "integer"},
        {"response": "5", "answer": None, "answer_type": "integer"},
        {"response": "[1, 2]", "answer": [1, 2], "answer_type": "list"},
        {"response": "B", "answer": "x", "choices": ["y", "x"], "precision": None, "unit": None, "question": None},
        {"response": "red", "answer": "Red", "correct": False},
    ]
    status, graded = run(tmp_path, [json.dumps(row) for row in rows])
    assert status == 0
    assert [{**row, **out} for row, out in zip(rows, graded, strict=True)] == graded
    assert [row["correct"] for row in graded] == [True, True, True, False, False, True, True, True]
    assert [row["predicted"] for row in graded] == ["5", "B", "1.2", None, "5", "[1, 2]", "B", "red"]
    statuses = ["graded", "graded", "graded", "no_answer", "ungradeable_gold", "graded", "graded", "graded"]
    assert [row["status"] for row in graded] == statuses


def test_a_run_s_responses_are_graded_as_in_the_run(tmp_path: Path) -> None:
    asked = [
        (Prompt("a", "Which?", answer="1", answer_type=AnswerType.MULTI_CHOICE, choices=("red", "blue"),
                answer_is=AnswerIs.INDEX0), "Answer: blue"),
        (Prompt("b", "How long?", answer="100", answer_type=AnswerType.FLOAT, unit="cm",
                tolerance=Tolerance(relative=0.05)), "Answer: 1.04 m"),
        (Prompt("c", "Who?", answer="Ann", answers=("Bob",)), "Answer: Bob"),
    ]  # fmt: skip
    groups = []
    for prompt, text in asked:
        verdict = AnswerGrader().grade(prompt, text)
        assert verdict.correct
        response = Response(prompt.id, 0, text, num_tokens=4, finished=True, temperature=1.0, logprob=None)
        groups.append(PromptResponses(prompt, (ScoredResponse(response, verdict),)))
    write_responses(tmp_path / "responses-00000.parquet", groups)
    assert grade_file(str(tmp_path), str(tmp_path / "out.jsonl")) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["correct"], row["predicted"]) for row in rows] == [
        (True, group.responses[0].verdict.predicted) for group in groups
    ]


def test_a_malformed_line_is_told_and_the_rest_graded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = '{"response": "5", "answer": "5"}'
    bad = [
        "{",
        "[1]",
        '{"answer": "5"}',
        '{"response": "5"}',
        '{"response": 5, "answer": "5"}',
        '{"response": "5", "answer": "5", "answer_type": "number"}',
        '{"response": "5", "answer": "5", "choices": "A"}',
        '{"response": "5", "answer": "5", "precision": "two"}',
        "[" * 100_000,
        '{"response": "5", "answer": ' + "1" * 5000 + "}",
    ]
    status, graded = run(tmp_path, [good, *bad, "", good])
    assert status == 1
    assert [row["correct"] for row in graded] == [True, True]
    errors = capsys.readouterr().err
    for number in range(2, 2 + len(bad)):
        assert f"line {number}: " in errors


def test_another_grader_judges_by_its_own_rules(tmp_path: Path) -> None:
    line = json.dumps({"response": "7.9", "answer": "7", "answer_type": "integer"})
    assert run(tmp_path, [line])[1][0]["correct"] is False
    assert run(tmp_path, [line], grader=MathVistaGrader())[1][0]["correct"] is True


@pytest.mark.parametrize("answer", ["null", "NaN", "Infinity", '{"value": 5}'])
def test_what_cannot_be_an_answer_is_reported_as_such(tmp_path: Path, answer: str) -> None:
    status, graded = run(tmp_path, [f'{{"response": "5", "answer": {answer}}}'])
    assert status == 0
    assert graded[0]["status"] == "ungradeable_gold"


def test_a_lone_surrogate_passes_through(tmp_path: Path) -> None:
    row = {"response": "The answer is 5 \ud83d", "answer": "5", "id": "é\\ \udc00"}
    status, graded = run(tmp_path, [json.dumps(row)])
    assert status == 0
    assert graded[0]["correct"]
    assert {**graded[0], **row} == graded[0]
    assert "é" in (tmp_path / "out.jsonl").read_text(encoding="utf-8")


def test_mistakes_of_the_caller_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a file"):
        grade_file(str(tmp_path / "missing"), str(tmp_path / "out"))
    source = tmp_path / "in"
    source.write_text("{}")
    with pytest.raises(ConfigError, match="is the input"):
        grade_file(str(source), str(source))


@pytest.mark.parametrize(
    ("row", "response", "correct"),
    [
        ({"answer": ["7", "seven"]}, "Answer: seven", True),
        ({"answer": ["7", "seven"]}, "Answer: 8", False),
        ({"answer": [7, 8], "answer_type": "integer"}, "Answer: 8", True),
        ({"answer": [7, 8]}, "Answer: [7, 8]", True),
        ({"answer": "['7', 'seven']"}, "Answer: seven", True),
        ({"answer": "[7, 8]"}, "Answer: 8", False),
        ({"answer": [7, 8], "answer_type": "list"}, "Answer: 8", False),
        ({"answer": ["A", "C"], "choices": ["x", "y", "z"]}, "Answer: C", False),
        ({"answer": ["A", "C"], "choices": ["x", "y", "z"]}, "Answer: A, C", True),
    ],
)  # fmt: skip
def test_of_a_list_of_golds_each_is_right(tmp_path: Path, row: dict[str, Any], response: str, correct: bool) -> None:
    assert run(tmp_path, [json.dumps({**row, "response": response})])[1][0]["correct"] is correct


@pytest.mark.parametrize(("answer", "correct"), [("Answer: 1.24", True), ("Answer: 1.26", False)])
def test_decimals_that_count_need_no_type(tmp_path: Path, answer: str, correct: bool) -> None:
    row = json.dumps({"response": answer, "answer": "1.2", "precision": 1})
    assert run(tmp_path, [row])[1][0]["correct"] is correct


def test_an_unknown_number_is_null(tmp_path: Path) -> None:
    table = pa.table({"response": ["4"], "answer": ["4"], "logprob": [math.nan]})
    pq.write_table(table, tmp_path / "in.parquet")
    assert grade_file(str(tmp_path / "in.parquet"), str(tmp_path / "out.jsonl")) == 0
    assert '"logprob": null' in (tmp_path / "out.jsonl").read_text()


def test_shards_of_which_one_alone_was_voted_on_are_graded(tmp_path: Path) -> None:
    for number, voted in enumerate((False, True)):
        prompt = Prompt(f"p{number}", "?", answer="1")
        response = Response(prompt.id, 0, "Answer: 1", 3, True, 1.0, -1.0)
        scored = ScoredResponse(response, AnswerGrader().grade(prompt, response.text))
        write_responses(tmp_path / f"responses-{number:05d}.parquet", [PromptResponses(prompt, (scored,), voted=voted)])
    assert grade_file(str(tmp_path), str(tmp_path / "out.jsonl")) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["graded", "ungradeable_gold"]
