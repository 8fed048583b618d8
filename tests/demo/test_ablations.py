"""The comparison's table, and its arms against the files in configs/ablations."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mstar.demo.ablations import ARMS, interval, main, write_tables
from mstar.demo.arm import DEMO, RESULT, SEED_SFT, START, run_arm
from mstar.demo.verdicts import CLAIMS
from mstar.storage import PromptResponses, read_json, write_json, write_responses
from mstar.types import Prompt, Response, ScoredResponse, Verdict, VerdictStatus

FILES = {path.stem for path in (Path(__file__).parents[2] / "configs" / "ablations").glob("*.yaml")}


def test_every_arm_has_a_file_and_every_file_is_an_arm_or_accounted_for() -> None:
    # seed_sft is a stage of the demo itself; answer_conditioned only shows that its path runs.
    assert set(ARMS) | {SEED_SFT, "answer_conditioned"} == FILES | {START, DEMO}


def test_claims_are_about_arms() -> None:
    assert {arm for claim in CLAIMS for arm in (claim.first, claim.second)} <= set(ARMS)


def test_interval_is_students_t() -> None:
    # Mean 0.8, standard deviation 0.1, three seeds: 4.303 * 0.1 / sqrt(3) = 0.2484.
    assert interval([0.7, 0.8, 0.9]) == "80.0 ± 24.8"
    assert interval([0.5]) == "50.0"
    # Twelve seeds take the last row of the table, which is a little wide for them: 2.262 * 0.1044 / sqrt(12).
    assert interval([0.7, 0.9] * 6) == "80.0 ± 6.8"


def done(root: Path, arm: str, seed: int, *right: bool) -> None:
    """An arm that is done, with these answers; all its chains are wrong."""
    folder = root / f"seed-{seed}" / arm
    groups = [
        PromptResponses(
            Prompt(f"p{place}", "?"),
            (
                ScoredResponse(
                    Response(f"p{place}", 0, "7", 1, True, 0.0, -1.0),
                    Verdict(correct, "7", VerdictStatus.GRADED),
                    chain_correct=False,
                ),
            ),
        )
        for place, correct in enumerate(right)
    ]
    write_responses(folder / "predictions.parquet", groups)
    write_json(folder / RESULT, {"accuracy": sum(right) / len(right), "chain_accuracy": 0.0, "cpu_seconds": 60.4})


def test_arms_that_are_done_are_taken_as_they_are_and_what_a_process_says_goes_to_a_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # and put back afterwards
    for arm in (START, "random_2", "rest_em"):
        done(tmp_path, arm, 0, True, False)
    options = ["--arms", "random_2", "rest_em", "--seeds", "0", "--jobs", "1", "--output", str(tmp_path)]
    assert main(options) == 0
    said = capfd.readouterr().out
    assert said.startswith("warm-up, seed 0: done\nrandom_2, seed 0: done\nrest_em, seed 0: done\n")
    assert "| random_2 | 50.0 / 0.0 | 50.0 | 0.0 | 60 | 1 |" in said
    logs = {"warm-up-0.txt", "random_2-0.txt", "rest_em-0.txt"}
    assert {path.name for path in (tmp_path / "logs").iterdir()} == logs


def test_an_arm_that_cannot_run_ends_the_comparison(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done(tmp_path, START, 0, True)
    write_json(tmp_path / "seed-0" / "demo" / "stages.json", {"seed": 1, "stages": {}})
    options = ["--arms", "random_2", "--seeds", "0", "--jobs", "1", "--output", str(tmp_path)]
    assert main(options) == 1
    log = tmp_path / "logs" / "random_2-0.txt"
    assert capfd.readouterr().err == f"ablations: error: the arm random_2 ended with exit status 1: see '{log}'.\n"
    assert "random_2: error: " in log.read_text()
    assert "holds a run with seed 1" in log.read_text()


def test_an_arm_counts_its_own_training_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mstar.demo.run.command", lambda *_: None)
    monkeypatch.setattr("mstar.demo.run.run_demo", lambda *_: None)
    seconds = {"warmup": 100, "annotate": 200, "mprm": 400, "evolve": 800, "seed_sft": 1600, "test": 3200}
    stages = {name: {"seconds": spent, "cpu_seconds": spent, "result": {}} for name, spent in seconds.items()}
    arms = (START, DEMO, SEED_SFT, "random_2")
    for arm in arms:
        done(tmp_path, arm, 0, True, False)
        (tmp_path / "seed-0" / arm / RESULT).unlink()
    write_json(tmp_path / "seed-0" / DEMO / "stages.json", {"seed": 0, "stages": stages})
    # It was stopped and goes on.
    stopped = {"fit": {"seconds": 50, "cpu_seconds": 50}}
    write_json(tmp_path / "seed-0" / "random_2" / "stages.json", {"seed": 0, "stages": {}, "stopped": stopped})
    for arm in (START, DEMO, "random_2"):
        run_arm(arm, 0, tmp_path)
    found = {arm: read_json(tmp_path / "seed-0" / arm / RESULT) for arm in arms}
    assert {arm: result["accuracy"] for arm, result in found.items()} == dict.fromkeys(arms, 0.5)
    for name in ("seconds", "cpu_seconds"):
        spent = {START: 700, DEMO: 800, SEED_SFT: 1600, "random_2": 50}
        assert {arm: result[name] for arm, result in found.items()} == pytest.approx(spent, abs=5)


def test_ctrl_c_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mstar.demo.ablations._run_all", stop)
    assert main(["--output", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "ablations: stopped by SIGINT; the same command goes on.\n"


def test_the_tables_are_of_all_that_is_measured_and_leave_missing_seeds_empty(tmp_path: Path) -> None:
    for seed in (0, 1):
        done(tmp_path, "mprm_top_2_fixed", seed, True, True, True, True)
    done(tmp_path, "mprm_top_1", 0, True, True, False, False)
    done(tmp_path, "mprm_top_1", 1, False, True, True, False)
    done(tmp_path, "rest_em", 1, True, False, False, False)
    text = write_tables(tmp_path, [0, 1])
    # Further seeds are beside those that are there, not in their place.
    assert write_tables(tmp_path, [1]) == text
    assert read_json(tmp_path / "verdicts.json")["seeds"] == [0, 1]
    assert (tmp_path / "table.md").read_text() == text
    lines = text.splitlines()
    assert lines[0] == "| arm | seed 0 | seed 1 | accuracy | whole chain | CPU-s | n |"
    assert lines[2] == "| mprm_top_2_fixed | 100.0 / 0.0 | 100.0 / 0.0 | 100.0 ± 0.0 | 0.0 ± 0.0 | 60 | 2 |"
    assert lines[4] == "| rest_em |  | 25.0 / 0.0 | 25.0 | 0.0 | 60 | 1 |"
    rows = read_json(tmp_path / "verdicts.json")["verdicts"]
    assert len(rows) == len(CLAIMS)
    [row] = [row for row in rows if row["accuracy"] is not None]
    assert (row["first"], row["second"], row["relation"]) == ("mprm_top_2_fixed", "mprm_top_1", "better")
    assert row["accuracy"]["by_seed"] == {"0": 0.5, "1": 0.5}
    assert {row["verdict"] for row in rows if row["accuracy"] is None} == {"not measured"}
    assert "| mprm_top_2_fixed better than mprm_top_1 | M-STaR, 2412.17451 | " in text


def test_a_worker_ends_with_the_comparison_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, signal\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from multiprocessing import get_context\n"
        "from mstar import process_start\n"
        "process_start._ORDERLY_END = 0.5\n"
        "if __name__ == '__main__':\n"
        "    pool = ProcessPoolExecutor(1, get_context('spawn'), process_start.end_with_parent, (os.getpid(),))\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # The worker has this end of the pipe, too: it closes when the last of both has ended.
    found = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, timeout=90, check=False)
    assert (found.returncode, found.stdout.strip().isdigit()) == (-signal.SIGKILL, True)
