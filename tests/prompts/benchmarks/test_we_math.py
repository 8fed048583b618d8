"""We-Math: options, and the four-dimensional metrics."""

from __future__ import annotations

import pytest

from mstar.evaluation.benchmark import ItemResult, score_benchmark
from mstar.evaluation.benchmark_files import render_scores
from mstar.prompts.benchmarks import WeMath
from mstar.types import Response, ScoredResponse, Verdict, VerdictStatus
from tests.prompts.benchmarks.conftest import Write, cell, right


def wemath(parquet: Write) -> WeMath:
    steps = {"2steps": ("1", "2", "multi"), "3steps": ("1", "2", "3", "multi")}
    rows = [
        {"ID": f"{kind}_{number}", "split": "testmini", "knowledge concept": "Area of Circles", "question": "Area?",
         "option": "A. 200.96;B. 3215.36;C. 6280;D. 32; E. No correct answer", "answer": "B", "image_path": cell(1),
         "key": f"{kind}_{step}", "question number": 1, "knowledge concept description": "d"}
        for kind, number in (("2steps", 1), ("2steps", 2), ("2steps", 3), ("3steps", 1), ("3steps", 2))
        for step in steps[kind]
    ]  # fmt: skip
    return WeMath(str(parquet("testmini-0.parquet", rows, ("image_path",))))


# Problem by problem: mastered; the whole alone wrong; rote by either rule; by the strict one alone; ignorance.
RIGHT = {
    "2steps_1": "1 2 multi", "2steps_2": "1 2", "2steps_3": "multi", "3steps_1": "1 3 multi", "3steps_2": "1",
}  # fmt: skip


@pytest.mark.parametrize(
    ("option", "answer", "expected"),
    [
        ("A. right to get Shape ;C.; B. down to get Shape ;C.; C. up to get Shape ;C.; D. No correct answer", "C",
         ("right to get Shape ;C.", "down to get Shape ;C.", "up to get Shape ;C.", "No correct answer")),
        ("A. an angle AB;E.; B. an angle AB;C.; C. none.; D. No correct answer", "B",
         ("an angle AB;E.", "an angle AB;C.", "none.", "No correct answer")),
        ("A. 4 B. 3 C. 2 ;D. 1; E. No correct answer", "A", ("4", "3", "2", "1", "No correct answer")),
    ],
)  # fmt: skip
def test_odd_options_of_we_math(parquet: Write, option: str, answer: str, expected: tuple[str, ...]) -> None:
    row = {
        "ID": "2steps_102", "knowledge concept": "x", "question": "?", "option": option, "answer": answer,
        "image_path": cell(1), "key": "2steps_1",
    }  # fmt: skip
    source = WeMath(str(parquet("testmini-0.parquet", [row], ("image_path",))))
    assert source[0].choices == expected
    assert source[0].answer == expected[ord(answer) - ord("A")]
    assert right(source, 0, f"Answer: {answer}")


def test_we_math_has_the_official_figures(parquet: Write) -> None:
    source = wemath(parquet)
    assert source[0].choices == ("200.96", "3215.36", "6280", "32", "No correct answer")
    assert right(source, 0, "Answer: B")
    problems = {prompt.id: prompt.id.removeprefix("wemath-").rpartition("-") for prompt in source}
    correct = {name: step in RIGHT[problem].split() for name, (problem, _, step) in problems.items()}
    found = {name: sum(values) / len(values) for name, values in source.figures(correct).items()}
    assert found == pytest.approx({
        "insufficient knowledge": 0.2, "inadequate generalization": 0.2,
        "complete mastery (strict)": 0.2, "score (strict)": 0.3, "rote memorization (strict)": 2 / 3,
        "complete mastery (loose)": 0.4, "score (loose)": 0.5, "rote memorization (loose)": 1 / 3,
    })  # fmt: skip


def test_figures_stand_in_the_table(parquet: Write) -> None:
    source = wemath(parquet)
    item = [
        ItemResult(prompt.id, _scored(prompt.id, correct=True), (_scored(prompt.id, correct=True),), {})
        for prompt in source
    ]
    rows = {row.prompt.id: row for row in source.items}
    result = score_benchmark(source.name, item, rows, figures=source.figures, resamples=10)
    assert {s.dimension: (s.score, s.questions) for s in result.scores}["score (strict)"] == (1.0, 5)
    assert "| score (strict) | 5 | 100.0 |  |  |  |" in render_scores(result)
    assert result.value("greedy") == 1.0


def _scored(prompt_id: str, correct: bool) -> ScoredResponse:
    return ScoredResponse(Response(prompt_id, 0, "B", 1, True, 0.0, 0.0), Verdict(correct, "B", VerdictStatus.GRADED))
