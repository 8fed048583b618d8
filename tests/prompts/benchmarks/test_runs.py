"""``mstar test`` with the shipped benchmark configurations, on miniature files and the embedded model."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch  # noqa: F401 - its log keeps the stderr that there is at its import, which a test would close
import pyarrow.parquet as pq
import pytest
import yaml
from jsonargparse import ArgumentParser

from mstar.__main__ import main
from mstar.evaluation.leakage import check_leakage
from mstar.generation import Request, TransformersEngine
from mstar.rewards import MPRM
from mstar.types import Response

CONFIGS = Path(__file__).parents[3] / "configs/benchmarks"
SMALL = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
POLICY = [
    "--model.model_name",
    "mstar/tiny-idefics3",
    "--model.engine.max_new_tokens",
    "6",
    "--benchmark.resamples",
    "20",
]


def run(name: str, path: Path, root: Path, *flags: str) -> int:
    config = str(CONFIGS / f"{name}.yaml")
    return main(
        [
            "test",
            "--config",
            config,
            "--data.test.path",
            str(path),
            "--trainer.default_root_dir",
            str(root),
            *SMALL,
            *flags,
        ]
    )


@pytest.mark.parametrize(
    ("name", "file", "stem", "rows", "questions"),
    [
        ("mathvista", "mathvista_parquet", "mathvista", 7, 7),
        ("m3cot", "m3cot_parquet", "m3cot", 3, 3),
        ("mmstar", "mmstar_parquet", "mmstar", 4, 4),
        ("mmstar_r", "mmstar_tsv", "mmstar-r", 3, 3),
        ("mmbench", "mmbench_tsv", "mmbench", 6, 3),
        ("mmbench_r", "mmbench_tsv", "mmbench-r", 5, 2),
        ("ai2d", "ai2d_parquet", "ai2d", 2, 2),
    ],
)
def test_a_benchmark_runs_from_its_config(
    files: Any, tmp_path: Path, name: str, file: str, stem: str, rows: int, questions: int
) -> None:
    assert run(name, getattr(files, file)(), tmp_path, *POLICY) == 0
    summary = json.loads((tmp_path / f"{stem}.json").read_text())
    assert (summary["rows"], summary["questions"]) == (rows, questions)
    assert pq.read_table(tmp_path / f"{stem}.parquet").num_rows == rows
    page = (tmp_path / f"{stem}.md").read_text()
    assert "Licence of" in page
    assert "Answers are read where they are given in a form or in a sentence" in page
    scorings = {score["scoring"] for score in summary["scores"]}
    assert scorings == ({"ours", "official"} if name == "mathvista" else {"ours"})
    averaged = [score for score in summary["scores"] if score["dimension"] == "mean of category"]
    assert len(averaged) == (1 if name.startswith("mmstar") else 0)


def test_samples_are_voted_on_with_an_mprm(
    files: Any, tmp_path: Path, warm_policy: Path, warm_mprm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [
        "--model.model_name", str(warm_policy), "--benchmark.num_samples", "3", "--benchmark.resamples", "20",
        "--model.engine.max_new_tokens", "12", "--data.eval_batch_size", "4",
    ]  # fmt: skip
    attempts = {
        "first": ["--benchmark.reward_model", str(warm_mprm)],
        # As any other reward is given.
        "second": ["--benchmark.reward", "mstar.rewards.MPRM", "--benchmark.reward.folder", str(warm_mprm)],
    }
    for attempt, reward in attempts.items():
        assert run("mmbench", files.mmbench_tsv(), tmp_path / attempt, *flags, *reward) == 0
        page = (tmp_path / attempt / "mmbench.md").read_text()
        assert (f"MPRM: {warm_mprm}, by the min" in page) == (attempt == "first")
        assert ("Reward: MPRM" in page) == (attempt == "second")
    rows = pq.read_table(tmp_path / "first/mmbench.parquet").to_pylist()
    assert [len(row["samples"]) for row in rows] == [3] * 6
    assert all(len(row["process_rewards"]) == 3 for row in rows)
    assert rows == pq.read_table(tmp_path / "second/mmbench.parquet").to_pylist()
    summary = json.loads((tmp_path / "first/mmbench.json").read_text())
    metrics = {score["metric"] for score in summary["scores"]}
    assert metrics == {"greedy", "sampled", "pass@3", "majority@3", "best_of_3", "weighted_vote@3"}
    assert "3 questions in 6 rows; a question counts only if all its rows are right." in capsys.readouterr().out


def test_an_interrupted_benchmark_goes_on_where_it_stopped(
    files: Any, tmp_path: Path, warm_policy: Path, warm_mprm: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked: list[str] = []
    generate = TransformersEngine.generate

    def watched(engine: TransformersEngine, requests: Sequence[Request]) -> list[list[Response]]:
        if len(asked) >= 4 and interrupt:
            raise KeyboardInterrupt
        asked.extend(request.prompt.id for request in requests)
        return generate(engine, requests)

    monkeypatch.setattr(TransformersEngine, "generate", watched)
    flags = ["--model.model_name", str(warm_policy), "--benchmark.num_samples", "2",
             "--model.engine.max_new_tokens", "12",
             "--benchmark.resamples", "20", "--data.eval_batch_size", "2"]  # fmt: skip
    interrupt = False
    assert run("mmbench", files.mmbench_tsv(), tmp_path / "whole", *flags) == 0
    everything, asked = asked, []
    interrupt = True
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        run("mmbench", files.mmbench_tsv(), tmp_path / "run", *flags)
    assert asked == everything[:4]
    assert not (tmp_path / "run/mmbench.md").exists()
    interrupt = False
    # Another batch size: what is there is found by its prompt.
    assert run("mmbench", files.mmbench_tsv(), tmp_path / "run", *flags, "--data.eval_batch_size", "3") == 0
    assert asked == everything
    assert "the responses of an earlier run to 4 rows are used again" in capsys.readouterr().err
    rows = [pq.read_table(tmp_path / name / "mmbench.parquet").to_pylist() for name in ("whole", "run")]
    assert rows[0] == rows[1]
    # The votes of an MPRM need no new responses; another temperature does.
    assert (
        run("mmbench", files.mmbench_tsv(), tmp_path / "run", *flags, "--benchmark.reward_model", str(warm_mprm)) == 0
    )
    assert asked == everything
    again = pq.read_table(tmp_path / "run/mmbench.parquet").to_pylist()
    assert [row["samples"] for row in again] == [row["samples"] for row in rows[0]]
    assert all(len(row["process_rewards"]) == 2 for row in again)
    assert run("mmbench", files.mmbench_tsv(), tmp_path / "run", *flags, "--benchmark.temperature", "0.7") == 0
    assert asked == [*everything, *everything]


def test_any_prompt_source_can_be_scored(tmp_path: Path, warm_policy: Path) -> None:
    settings = yaml.safe_load((CONFIGS / "ai2d.yaml").read_text())
    settings["data"]["init_args"]["test"] = {
        "class_path": "mstar.prompts.TinyDice",
        "init_args": {"split": "test", "size": 40},
    }
    settings["trainer"]["default_root_dir"] = str(tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    flags = ["--model.model_name", str(warm_policy), "--model.engine.max_new_tokens", "26"]
    assert main(["test", "--config", str(config), *SMALL, *flags]) == 0
    rows = pq.read_table(tmp_path / "tinydice.parquet").to_pylist()
    right = sum(row["correct"] for row in rows)
    assert 0 < right < 40
    summary = json.loads((tmp_path / "tinydice.json").read_text())
    assert summary["scores"][0]["score"] == pytest.approx(right / 40)
    assert {s["dimension"] for s in summary["scores"]} == {"all", "category"}


def test_two_files_of_records_are_scored_side_by_side(tmp_path: Path) -> None:
    """They went by the name of their class, so that the second took the place of the first."""
    settings = yaml.safe_load((CONFIGS / "ai2d.yaml").read_text())
    settings["trainer"]["default_root_dir"] = str(tmp_path / "run")
    stems = []
    for name in ("one", "other"):
        path = tmp_path / name / "rows.jsonl"
        path.parent.mkdir()
        path.write_text(json.dumps({"id": name, "question": f"{name}?", "answer": "3"}) + "\n")
        settings["data"]["init_args"]["test"] = {
            "class_path": "mstar.prompts.RecordPrompts",
            "init_args": {"path": str(path)},
        }
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(settings))
        assert main(["test", "--config", str(config), *SMALL, *POLICY]) == 0
        stems.append(str(path.with_suffix("")).lower().replace("/", "-").strip("-")[-120:])
    for name, stem in zip(("one", "other"), stems, strict=True):
        [row] = pq.read_table(tmp_path / f"run/{stem}.parquet").to_pylist()
        assert row["prompt_id"] == name
        assert (tmp_path / f"run/{stem}.md").read_text().startswith(f"# {tmp_path / name / 'rows.jsonl'}\n")


def test_an_mprm_is_judged_on_human_labels(files: Any, tmp_path: Path, warm_mprm: Path) -> None:
    flags = ["--model.reward_model", str(warm_mprm), "--model.resamples", "20"]
    assert run("visualprocessbench", files.visual_process_bench(), tmp_path, *flags) == 0
    rows = pq.read_table(tmp_path / "visualprocessbench.parquet").to_pylist()
    assert [len(row["scores"]) for row in rows] == [3] * 12
    assert len({score for row in rows for score in row["scores"]}) > 12
    summary = json.loads((tmp_path / "visualprocessbench.json").read_text())
    assert summary["thresholds_chosen_on_held_out_labels"] is True
    groups = [(score["dimension"], score["group"], score["responses"]) for score in summary["scores"]]
    assert groups == [
        ("all", "", 12), ("data_source", "MathVision", 6), ("data_source", "WeMath", 6), ("policy_model", "a", 6),
        ("policy_model", "b", 6),
    ]  # fmt: skip
    # Of the 36 steps with text, the second is neutral in two responses of three.
    assert summary["scores"][0]["steps"] == 36 - summary["neutral_steps"]
    assert summary["neutral_steps"] == 8
    assert "chosen on the labels of the other half" in (tmp_path / "visualprocessbench.md").read_text()
    # Given as any other reward it is judged alike.
    other = ["--model.reward_model", "null", "--model.reward", "mstar.rewards.MPRM"]
    flags = [*other, "--model.reward.folder", str(warm_mprm), "--model.resamples", "20"]
    assert run("visualprocessbench", files.visual_process_bench(), tmp_path, *flags) == 0
    assert pq.read_table(tmp_path / "visualprocessbench.parquet").to_pylist() == rows


def test_process_bench_is_judged_by_the_first_wrong_step(
    tmp_path: Path, warm_mprm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = [
        {
            "id": f"{part}-{n}",
            "generator": "g",
            "problem": f"{n} + 1?",
            "steps": ["a", f"b\n\n{n}", "c"],
            "label": label,
        }
        for part in ("gsm8k", "math")
        for n, label in enumerate((-1, 0, 2))
    ]
    (tmp_path / "data.json").write_text(json.dumps(source))
    other = ["--model.reward", "mstar.rewards.MPRM", "--model.reward.folder", str(warm_mprm)]
    assert run("processbench", tmp_path / "data.json", tmp_path, *other, "--model.threshold=0.5") == 0
    rows = pq.read_table(tmp_path / "processbench.parquet").to_pylist()
    assert [row["labels"] for row in rows] == [[1, 1, 1], [-1, 0, 0], [1, 1, -1]] * 2
    assert [len(row["scores"]) for row in rows] == [3] * 6
    summary = json.loads((tmp_path / "processbench.json").read_text())
    groups = [(score["dimension"], score["group"], score["responses"]) for score in summary["scores"]]
    assert groups == [("all", "", 6), ("part", "gsm8k", 3), ("part", "math", 3), ("generator", "g", 6)]
    assert (tmp_path / "processbench.md").read_text().startswith("# ProcessBench\n")
    monkeypatch.setattr(MPRM, "score_steps", lambda self, groups: [[(0.5, float("nan"), 0.5)] for _ in groups])
    assert run("processbench", tmp_path / "data.json", tmp_path / "nan", *other) == 1
    assert "MPRM's scores are not finite numbers (prompt '" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "file", "flags", "message"),
    [
        ("ai2d", "ai2d_parquet", ["--benchmark.scoring", "official"], "AI2D has no published rules"),
        ("ai2d", "ai2d_parquet", ["--benchmark.reward_model", "x"], "benchmark.num_samples is 0"),
        ("ai2d", "ai2d_parquet", ["--benchmark.reward", "mstar.rewards.Oracle"], "benchmark.num_samples is 0"),
        (
            "ai2d",
            "ai2d_parquet",
            ["--benchmark.reward", "mstar.rewards.Oracle", "--benchmark.reward_model", "x"],
            "set one of the two",
        ),
        ("ai2d", "mmbench_tsv", ["--benchmark.num_samples", "-1"], "num_samples is -1, but it must be at least 0"),
        ("mathvista", "ai2d_tsv", [], "MathVista: "),
    ],
)
def test_mistakes_are_one_sentence(
    files: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, file: str, flags: list[str], message: str
) -> None:
    try:
        status = run(name, getattr(files, file)(), tmp_path, *POLICY, *flags)
    except SystemExit as end:
        status = int(end.code or 0)
    said = capsys.readouterr().err
    assert status in (1, 2)
    assert message in said
    assert "Traceback" not in said


def test_a_benchmark_without_golds_that_can_be_graded_is_not_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would answer everything, and report 0 % of it right."""
    monkeypatch.setattr(TransformersEngine, "generate", lambda *_: pytest.fail("it was answered"))
    rows = [{"question": f"Not {said}?", "answer": said, "answer_type": "integer"} for said in ("many", "few", "3")]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"class_path": "mstar.prompts.RecordPrompts", "init_args": {"path": str(tmp_path / "rows.jsonl")}}
    data = {"class_path": "BenchmarkDataModule", "init_args": {"test": source}}
    flags = [f"--data={json.dumps(data)}", "--trainer.default_root_dir", str(tmp_path), *SMALL, *POLICY]
    assert main(["test", "--config", str(CONFIGS / "mmstar.yaml"), *flags]) == 1
    assert "(ours): 2 of 3 gold answers cannot be graded (all 2)" in capsys.readouterr().err


def test_a_benchmark_is_no_training_data(files: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(CONFIGS / "ai2d.yaml")
    flags = ["--data.test.path", str(files.ai2d_parquet()), "--trainer.default_root_dir", str(tmp_path)]
    assert main(["fit", "--config", config, *flags, *SMALL, *POLICY]) == 1
    assert "BenchmarkDataModule does not have: choose test or predict or another" in capsys.readouterr().err


def test_leakage_is_found_between_data_sets(files: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser()
    parser.add_function_arguments(check_leakage, as_group=False)
    settings = {
        "train": {"class_path": "mstar.prompts.benchmarks.MMStar", "init_args": {"path": str(files.mmstar_parquet())}},
        "benchmarks": [
            {"class_path": "mstar.prompts.benchmarks.MMStar", "init_args": {"path": str(files.mmstar_tsv())}},
            {"class_path": "mstar.prompts.benchmarks.AI2D", "init_args": {"path": str(files.ai2d_parquet())}},
        ],
        "output": str(tmp_path / "pairs.jsonl"),
    }
    check_leakage(**parser.instantiate_classes(parser.parse_object(settings)).as_dict())
    pairs = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    same = [pair for pair in pairs if pair["kind"] == "same_image_and_question"]
    assert [(pair["train_id"], pair["benchmark_id"]) for pair in same] == [
        (f"mmstar-{n}", f"mmstar-{n}") for n in (0, 900, 1200, 1499)
    ]
    assert {pair["kind"] for pair in pairs if pair["benchmark"] == "AI2D"} == {"same_image"}
    assert "MMStar: 4 of 4 prompts met (100.0 %)" in capsys.readouterr().out
