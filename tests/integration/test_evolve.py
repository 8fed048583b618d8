"""What a run leaves behind, and what its stages did to the responses."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
import torch

from mstar.__main__ import main
from mstar.models.backbone import load_model, load_renderer
from mstar.prompts import TinyDice
from mstar.storage import ExampleFile, RunDirectory, read_responses
from mstar.types import Fate
from tests.integration.results import report_of, rows_of


@pytest.fixture(scope="module")
def run(evolve_once: Any, warm_mprm: Path) -> Path:
    """Two iterations with an MPRM, in shards of 8 prompts."""
    root: Path = evolve_once(name="top", selection="top_k", top_k=1, reward_model=str(warm_mprm), shard_size=8)
    return root


def test_the_run_directory_has_the_files_of_the_contract(run: Path) -> None:
    for iteration in (1, 2):
        names = sorted(path.name for path in RunDirectory(run).iteration(iteration).iterdir())
        assert names == [
            "examples.parquet", "plan.json", "report.json", "responses-00000.parquet", "responses-00001.parquet",
        ]  # fmt: skip
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == ["iteration-0002.ckpt", "last.ckpt", "previous.ckpt"]
    assert [path.name for path in run.rglob(".*")] == []


def test_the_shards_open_with_datasets(run: Path, tmp_path: Path) -> None:
    pattern = str(RunDirectory(run).iteration(1) / "responses-*.parquet")
    table = datasets.load_dataset("parquet", data_files=pattern, split="train", cache_dir=str(tmp_path))
    assert table.num_rows == 16 * 4
    row = table[0]
    assert row["temperature"] == 1.0
    assert row["images"][0].startswith("tiny-dice:pool/0/")
    assert row["answer"] == TinyDice("pool", 32)[TinyDice("pool", 32).index_of(row["prompt_id"])].answer


def test_every_prompt_is_sampled_once_in_a_pass(run: Path) -> None:
    ids = [{row.response.prompt_id for row in rows_of(run, iteration)} for iteration in (1, 2)]
    assert [len(part) for part in ids] == [16, 16]
    assert ids[0] | ids[1] == {prompt.id for prompt in TinyDice("pool", 32)}


def test_what_is_kept_is_what_is_trained_on(run: Path) -> None:
    for iteration in (1, 2):
        kept = [(s.response.prompt_id, s.response.text) for s in rows_of(run, iteration) if s.fate is Fate.KEPT]
        examples = [(e.prompt_id, e.response) for e in ExampleFile(RunDirectory(run).examples(iteration))]
        assert sorted(kept) == sorted(examples)
        assert len(examples) > 3
        assert examples != sorted(examples)


def test_the_fates_follow_from_verdicts_and_rewards(run: Path) -> None:
    rows = rows_of(run, 1) + rows_of(run, 2)
    fates = Counter(row.fate for row in rows)
    assert fates[Fate.KEPT] > 5
    assert fates[Fate.NOT_SELECTED] > 0
    for row in rows:
        assert (row.fate is Fate.WRONG) == (row.verdict.predicted is not None and not row.verdict.correct)
        assert (row.process_reward is not None) == row.verdict.correct
        if row.process_reward is not None:
            assert row.process_reward == min(row.step_scores)
    for prompt_id in {row.response.prompt_id for row in rows}:
        right = [row for row in rows if row.response.prompt_id == prompt_id and row.verdict.correct]
        kept = [row.process_reward for row in right if row.fate is Fate.KEPT]
        if right:
            assert kept == [max(row.process_reward or 0.0 for row in right)]


def test_the_funnel_adds_up(run: Path) -> None:
    rows = rows_of(run, 1)
    found = report_of(run, 1)
    assert found["funnel"] == {
        "generated": len(rows),
        "parsed": sum(row.verdict.predicted is not None for row in rows),
        "correct": sum(row.verdict.correct for row in rows),
        "unique": len({(row.response.prompt_id, row.response.text) for row in rows if row.verdict.correct}),
        "kept": sum(row.fate is Fate.KEPT for row in rows),
    }
    assert found["tokens"] == sum(row.response.num_tokens for row in rows)
    assert found["tokens_per_second"] == pytest.approx(found["tokens"] / found["seconds"]["generate"])
    assert set(found["seconds"]) == {"generate", "grade", "score", "train", "dynamics"}
    assert set(report_of(run, 0)["seconds"]) == {"dynamics"}
    assert found["skipped"] is False


def test_the_dynamics_are_measured_before_and_after_every_iteration(run: Path) -> None:
    for iteration in (0, 1, 2):
        found = report_of(run, iteration)
        dynamics = found["dynamics"]
        assert dynamics["k"] == 4
        assert dynamics["pass_at_k_gap"] == pytest.approx(dynamics["pass_at_k"] - dynamics["greedy_accuracy"])
        assert dynamics["reward_pass_at_k"] <= dynamics["pass_at_k"]
        assert 0 <= found["mprm"]["best_of_n"] <= dynamics["pass_at_k"]


def test_the_exported_policy_has_the_weights_of_the_last_checkpoint(run: Path, warm_policy: Path) -> None:
    policy = load_model(str(run / "policy"))
    state = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    for name, value in policy.state_dict().items():
        assert torch.equal(value, state[f"model.{name}"]), name
    assert not torch.equal(policy.lm_head.weight, load_model(str(warm_policy)).lm_head.weight)
    assert load_renderer(str(run / "policy"), policy).end_id == load_renderer(str(warm_policy)).end_id


def test_another_choice_draws_grades_and_scores_nothing_again(run: Path, evolve: Any, warm_mprm: Path) -> None:
    """In the first iteration, whose policy is the same."""
    settings = {"selection": "threshold", "threshold": 0.4, "reward_model": str(warm_mprm), "shard_size": 8}
    root = evolve(name="other", reuse=str(run), **settings)
    fresh = evolve(name="fresh", **settings)
    assert [report_of(root, iteration)["reused"] for iteration in (1, 2)] == [16, 0]
    assert report_of(root, 1)["seconds"]["generate"] == report_of(root, 1)["seconds"]["score"] == 0
    for iteration in (1, 2):
        assert rows_of(root, iteration) == rows_of(fresh, iteration)
        assert report_of(root, iteration)["funnel"] == report_of(fresh, iteration)["funnel"]


def test_test_and_predict_use_the_policy(evolve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    root = evolve(command="predict")
    rows = read_responses(root / "predictions.parquet")
    assert [row.response.prompt_id for row in rows] == [f"test-0-{i}" for i in range(8)]
    assert all(row.response.temperature == 0 for row in rows)
    [made_by] = {(row["model"], row["weights"]) for row in pq.read_table(root / "predictions.parquet").to_pylist()}
    assert made_by[0].endswith("policy")
    assert len(made_by[1]) == 16
    assert str(root / "predictions.parquet") in capsys.readouterr().out
    evolve(command="test")
    accuracy = sum(row.verdict.correct for row in rows) / 8
    printed = capsys.readouterr().out
    assert "test/accuracy" in printed
    assert f"{accuracy:g}" in printed


def test_score_gives_a_run_its_own_scores_again(run: Path, warm_mprm: Path, tmp_path: Path) -> None:
    source = run / "iterations/0001"
    arguments = ["--reward", str(warm_mprm), "--input", str(source), "--output", str(tmp_path), "--device", "cpu"]
    assert main(["score", *arguments]) == 0
    own = [row for path in sorted(source.glob("responses-*")) for row in read_responses(path)]
    again = [row for path in sorted(tmp_path.glob("scores-*")) for row in read_responses(path)]
    assert [(row.response, row.verdict) for row in again] == [(row.response, row.verdict) for row in own]
    scored = [(a, b) for a, b in zip(own, again, strict=True) if a.step_scores]
    assert scored
    for before, after in scored:
        # Equal up to rounding: other responses are in the batch.
        assert after.step_scores == pytest.approx(before.step_scores, abs=1e-6)
        assert after.process_reward == pytest.approx(before.process_reward, abs=1e-6)
