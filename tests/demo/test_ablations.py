"""The comparison's table, and its arms against the files in configs/ablations."""

from __future__ import annotations

from pathlib import Path

from mstar.demo.ablations import ARMS, interval, table

FILES = {path.stem for path in (Path(__file__).parents[2] / "configs" / "ablations").glob("*.yaml")}


def test_every_arm_has_a_file_and_every_file_is_an_arm_or_accounted_for() -> None:
    # seed_sft is a stage of the demo itself; answer_conditioned only shows that its path runs.
    assert set(ARMS) | {"seed_sft", "answer_conditioned"} == FILES


def test_interval_is_students_t() -> None:
    # Mean 0.8, standard deviation 0.1, three seeds: 4.303 * 0.1 / sqrt(3) = 0.2484.
    assert interval([0.7, 0.8, 0.9]) == "80.0 ± 24.8"
    assert interval([0.5]) == "50.0"


def test_the_table_leaves_missing_seeds_empty() -> None:
    row = {"accuracy": 0.5, "chain_accuracy": 0.25}
    lines = table({"random_2": {0: row, 1: row}, "rest_em": {1: row}}, [0, 1]).splitlines()
    assert lines[0] == "| arm | seed 0 | seed 1 | accuracy | whole chain | n |"
    assert lines[2] == "| random_2 | 50.0 / 25.0 | 50.0 / 25.0 | 50.0 ± 0.0 | 25.0 ± 0.0 | 2 |"
    assert lines[3] == "| rest_em |  | 50.0 / 25.0 | 50.0 | 25.0 | 1 |"
