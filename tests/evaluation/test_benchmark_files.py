"""The tables and the rows that a benchmark's scores are written as."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from mstar.evaluation.benchmark_files import render_scores, write_items
from mstar.prompts.benchmarks import BenchmarkItem
from mstar.types import Prompt
from tests.evaluation.benchmark_items import item, score


def test_the_table_has_a_row_a_group_and_a_column_a_metric() -> None:
    items = [item("a/0", True, [(True, "A", 0.5)]), item("a/1", False, [(True, "A", 0.5)])]
    facets = {"a/0": [("category", "odd | name")], "a/1": [("category", "odd | name")]}
    lines = render_scores(score(items, facets), ["A note."]).splitlines()
    assert lines[0] == "# X"
    assert lines[2] == "| group | questions | greedy | sampled | pass@1 | majority@1 | best_of_1 | weighted_vote@1 |"
    assert lines[4].startswith("| all | 1 | 0.0 | 100.0 |")
    assert lines[5].startswith("| category: odd \\| name | 1 |")
    assert "- 1 questions in 2 rows; a question counts only if all its rows are right." in lines
    assert lines[-1] == "- A note."


def test_every_response_is_written(tmp_path: Path) -> None:
    prompt = Prompt("a", "Which?", answer="y", choices=("x", "y"))
    one = item("a", False, [(False, "x", 0.2), (True, "y", 0.9)])
    path = tmp_path / "items.parquet"
    write_items(path, [one], {"a": BenchmarkItem(prompt, (("category", "c"),), "a")})
    [row] = pq.read_table(path).to_pylist()
    assert row["samples"] == ["x", "y"]
    assert row["sample_correct"] == [False, True]
    assert row["process_rewards"] == [0.2, 0.9]
    assert (row["majority_answer"], row["best_of_n_answer"], row["weighted_vote_answer"]) == ("x", "y", "y")
    assert row["facets"] == [{"dimension": "category", "value": "c"}]
    assert row["official_correct"] is None
