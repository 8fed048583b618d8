"""``make gpu-report``, rehearsed on a CPU with tiny models: every part runs, and its figures are in both files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu_report.__main__ import DEFAULT, main
from benchmarks.gpu_report.bench import Bench
from benchmarks.gpu_report.catalogue import PARTS, Part, run_part
from benchmarks.gpu_report.flops import Work, flops_of
from benchmarks.gpu_report.machine import file_name, peak_flops
from benchmarks.gpu_report.markdown import as_markdown
from benchmarks.gpu_report.models import build_policy, small_config
from benchmarks.gpu_report.record import PartResult, Report, Row, read_rows

# Figures that every device has; memory and MFU are those of GPUs.
FIGURES = {
    "equality": "equal greedy texts",
    "rollouts": "tokens/s",
    "score": "responses/s",
    "sft": "tokens/s",
    "lora": "tokens/s",
    "kernels": "s",
    "checkpoint": "s",
    "sharded": "tokens/s",
    "drift": "bf16-mixed policy, present engine",
    "demo": "accuracy",
}


@pytest.fixture
def summary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo itself runs in its own test; here it says what a demo says."""

    def run_demo(seed: int, folder: Path, overrides: dict[str, list[str]]) -> dict[str, Any]:
        assert overrides.keys() >= {"warmup", "annotate", "mprm", "evolve", "seed_sft", "test"}
        names = ("final_accuracy", "final_chain_accuracy", "mprm_within_prompt_auc")
        return dict.fromkeys(names, 0.5) | {"stage_seconds": {"warmup": 1.0}}

    monkeypatch.setattr("mstar.demo.run.run_demo", run_demo)


# "sharded" makes a process group, which must not stay in this process: the command runs it.
@pytest.mark.usefixtures("summary")
@pytest.mark.parametrize("part", [part for part in PARTS if part.name != "sharded"], ids=lambda part: part.name)
def test_a_part_has_figures_and_does_not_fail(part: Part, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    run_part(part.name, Bench("cpu", True, rows, tmp_path))
    found = read_rows(rows)
    assert any(FIGURES[part.name] in row.figures for row in found)
    for row in found:
        assert row.problem is None
        assert row.figures or row.left_out
        numbers = [value for value in row.figures.values() if isinstance(value, float | int)]
        assert all(math.isfinite(value) for value in numbers), row
    if part.name == "equality":
        assert [row.figures["equal greedy texts"] for row in found] == ["8 of 8"] * 3


def test_the_command_writes_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sharded", "--small", "--device", "cpu", "--output", str(tmp_path)]) == 0, capsys.readouterr()
    found = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert {"card", "date", "machine", "packages", "commit", "command"} <= found["environment"].keys()
    [part] = found["parts"]
    assert (part["name"], part["problem"]) == ("sharded", None)
    assert part["seconds"] > 0
    assert any(FIGURES["sharded"] in row["figures"] for row in part["rows"])
    page = next(tmp_path.glob("*.md")).read_text()
    assert page.startswith("# mstar on CPU, ")
    assert "**A rehearsal with tiny models" in page
    assert "**failed**" not in page
    assert all(row["what"] in page for row in part["rows"])
    # The measured reports are left alone.
    assert not list(DEFAULT.glob("cpu-*"))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--small", "--device", "cpu"], "add --output DIR"),
        (["--small", "--device", "cpu", "--output", str(DEFAULT / "mine")], "add --output DIR"),
        (["--device", "cpu", "--output", "out"], "add --small"),
        (["rollout", "--small", "--device", "cpu", "--output", "out"], "there is no part 'rollout'"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["rollouts"])
    assert "there is no CUDA device" in capsys.readouterr().err


def test_a_part_that_is_stopped_fails_and_says_why(tmp_path: Path) -> None:
    given = ["kernels", "demo", "--small", "--device", "cpu", "--output", str(tmp_path), "--minutes", "0.02"]
    assert main(given) == 1
    parts = Report(next(tmp_path.glob("*.json"))).parts
    assert parts["kernels"].problem == "it was stopped after 1 s."
    assert "the minutes of all parts were over" in str(parts["demo"].problem)
    page = next(tmp_path.glob("*.md")).read_text()
    assert "**failed**: it was stopped after 1 s." in page
    assert "Not run: equality" in page


@pytest.mark.parametrize(("missing", "reported"), [("tensorboard", "left_out"), ("mstar.none", "problem")])
def test_a_part_without_its_packages_is_left_out(
    missing: str, reported: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def import_module(name: str) -> None:
        raise ModuleNotFoundError(f"No module named '{missing}'", name=missing)

    monkeypatch.setattr("benchmarks.gpu_report.catalogue.import_module", import_module)
    run_part("checkpoint", Bench("cpu", True, tmp_path / "rows.jsonl", tmp_path))
    [row] = read_rows(tmp_path / "rows.jsonl")
    assert missing in str(getattr(row, reported))
    assert (row.problem is None) == (reported == "left_out")


def test_parts_of_several_calls_come_together_and_a_new_result_takes_the_old_ones_place(tmp_path: Path) -> None:
    def result(name: str, value: float) -> PartResult:
        return PartResult(name, (Row("a row", {"tokens/s": value}),), 3.0, None, "abc", "2026-11-28T00:00:00Z")

    environment = {"card": "NVIDIA X", "date": "2026-11-28", "command": "this"}
    for name, value in (("rollouts", 1.0), ("score", 2.0), ("rollouts", 3.0)):
        Report(tmp_path / "x.json").add(result(name, value), environment)
    parts = Report(tmp_path / "x.json").parts
    assert {name: part.rows[0].figures["tokens/s"] for name, part in parts.items()} == {"rollouts": 3.0, "score": 2.0}
    assert parts["score"] == result("score", 2.0)
    page = as_markdown(environment, parts, rehearsal=False)
    assert "rehearsal" not in page
    assert "| a row | 3 |" in page


def test_what_failed_and_what_was_left_out_stand_below_the_table() -> None:
    rows = (
        Row("measured", {"s": 0.5, "peak GB": None}),
        Row("wrong", problem="out of memory"),
        Row("none", left_out="bitsandbytes is not installed."),
    )
    part = PartResult("lora", rows, 3.0, "1 of its rows (wrong)", "abc", "2026-11-28T00:00:00Z")
    page = as_markdown({"card": "X", "date": "2026-11-28"}, {"lora": part}, rehearsal=False)
    assert "| measured | 0.5 | – |" in page
    assert "- **wrong: out of memory**" in page
    assert "- none: not measured; bitsandbytes is not installed." in page
    assert "**failed**: 1 of its rows (wrong)" in page


def test_a_line_that_was_cut_off_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"what": "one", "figures": {}, "problem": null, "left_out": null}\n{"what": "tw')
    assert [row.what for row in read_rows(path)] == ["one"]
    assert read_rows(tmp_path / "none.jsonl") == ()


@pytest.mark.parametrize(
    ("card", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H200 NVL", 835e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("Tesla T4", None),
    ],
)
def test_the_peak_of_a_card(card: str, peak: float | None) -> None:
    assert peak_flops(card) == peak


def test_a_card_makes_a_file_name() -> None:
    assert file_name("NVIDIA H100 80GB HBM3", "2026-11-28") == "h100-80gb-hbm3-2026-11-28"
    assert file_name("../../Odd (card)/0", "2026-11-28") == "odd-card-0-2026-11-28"


def test_the_operations_of_a_step() -> None:
    model: Any = build_policy(small_config("qwen2_5_vl"), torch.float32, "cpu").model
    work = Work(tokens=100, padded=128, response_tokens=10, patches=0, squares=5000)
    # A layer: queries and output 64 x 64, keys and values 64 x 32 each, three matrices of 64 x 96; two layers.
    language = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96)
    head = 8256 * 64
    attention = 6 * 2 * 64 * 5000
    assert flops_of(model, work) == 6 * (100 * language + 10 * head) + attention
    # Frozen weights have no gradient of their own, and nothing trained lies before them in a tower that is frozen.
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert flops_of(model, work) == 2 * 100 * language + 4 * 10 * head + attention
