"""A run that trained on nothing does not end like a success."""

from __future__ import annotations

from typing import Any

import pytest

from mstar.__main__ import main
from mstar.callbacks.nothing_kept import check_something_kept, find_cause
from mstar.storage import RunDirectory, read_json, write_json


def report(generated: int, parsed: int, correct: int, kept: int, cut_off: int = 0, timeouts: int = 0) -> dict[str, Any]:
    funnel = {"generated": generated, "parsed": parsed, "correct": correct, "unique": correct, "kept": kept}
    return {"funnel": funnel, "truncated_fraction": cut_off / max(generated, 1), "grading_timeouts": timeouts}


@pytest.mark.parametrize(
    ("reports", "cause"),
    [
        ([report(600, 1, 0, 0, 599), report(600, 0, 0, 0, 600)],
         "1,199 of 1,200 responses were cut off at 40 tokens: raise rollout.engine.max_new_tokens"),
        ([report(10, 10, 0, 0, 0, 9)], "9 of 10 responses took too long to compare with the gold answer"),
        ([report(10, 2, 0, 0, 4)], "an answer was found in 2 of 10 responses: have the prompts say how to give one"),
        ([report(10, 9, 0, 0, 1)], "none of 10 responses has the right answer"),
        ([report(10, 9, 3, 0)], "3 of 10 responses have the right answer, but rollout.selection kept none of them"),
        ([report(10, 9, 5, 0) | {"no_gradient": 10}], "5 of 10 responses have the right answer, but no prompt has"),
        ([report(0, 0, 0, 0)], "no response was generated"),
    ],
)  # fmt: skip
def test_the_cause_is_what_befell_most_responses(reports: list[dict[str, Any]], cause: str) -> None:
    assert find_cause(reports, 40).startswith(cause)


def test_one_kept_response_in_one_iteration_is_enough(tmp_path: Any) -> None:
    run = RunDirectory(tmp_path)
    for number, kept in enumerate((0, 1, 0), start=1):
        write_json(run.report(number), report(10, 9, 3, kept))
    check_something_kept(run, 3, 40)
    check_something_kept(RunDirectory(tmp_path / "none"), 0, 40)


def test_a_run_whose_responses_are_all_cut_off_ends_with_an_error(
    evolve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = evolve.settings(dynamics=False)
    settings["rollout"]["engine"]["init_args"]["max_new_tokens"] = 3
    config, root = str(evolve.write(settings)), evolve.folder / "run"
    written = []
    # The same command again finds the same.
    for _ in range(2):
        assert main(["fit", "--config", config]) == 1
        assert capsys.readouterr().err.strip().splitlines()[-1] == (
            "mstar fit: error: nothing was kept in the whole run (2 iterations), so that the policy is as it was and "
            "is not exported: 128 of 128 responses were cut off at 3 tokens: raise rollout.engine.max_new_tokens, or "
            "warm the policy up on responses that end."
        )
        assert not (root / "policy").exists()
        assert not (root / "finished.json").exists()
        assert read_json(RunDirectory(root).report(2))["skipped"]
        written.append([shard.stat().st_mtime_ns for shard in RunDirectory(root).response_shards(2)])
    assert written[0] == written[1]
