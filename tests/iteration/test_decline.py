"""When a run says that its policy has collapsed or is past its best; and one that trained on nothing is no success."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

from mstar.__main__ import main
from mstar.iteration.decline import check_something_kept, find_cause, find_collapse, find_fall
from mstar.storage import RunDirectory, read_json, write_json

FIRST = {
    "entropy": 0.5, "response_length": 20.0, "temperature": 1.0, "prompts": 2000,
    "funnel": {"generated": 2000, "correct": 1000},
}  # fmt: skip


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({}, None),
        ({"entropy": 0.06, "response_length": 11.0, "funnel": {"generated": 500, "correct": 200}}, None),
        ({"entropy": 0.04}, "entropy is 0.040 nats a token, and was 0.500"),
        ({"entropy": 0.04, "temperature": 0.5}, None),
        ({"entropy": 0.04, "funnel": {"generated": 100, "correct": 95}}, None),
        ({"entropy": None}, None),
        ({"response_length": 9.0}, "responses have 9 tokens, and had 20"),
        ({"response_length": 41.0}, "responses have 41 tokens"),
        ({"funnel": {"generated": 2000, "correct": 780}}, "39% of the responses are right, and 50% were"),
        # Of as few prompts that is no sure fall.
        ({"prompts": 90, "funnel": {"generated": 100, "correct": 39}}, None),
        ({"labelled": FIRST | {"funnel": {"generated": 2000, "correct": 780}}, "pseudo_labels": {"voted": 50}}, None),
    ],
)
def test_the_rule_of_a_collapse(now: dict[str, Any], said: str | None) -> None:
    found = find_collapse(FIRST, {**FIRST, **now})
    if said is None:
        assert found is None
    else:
        assert found is not None
        assert said in found


@pytest.mark.parametrize(
    ("prompts", "right", "collapsed"), [(64, 0.2, True), (100, 0.2, True), (250, 0.08, True), (64, 0.05, False)]
)
def test_a_fall_to_nothing_is_a_collapse_where_it_is_no_chance(prompts: int, right: float, collapsed: bool) -> None:
    generated = 8 * prompts
    first = FIRST | {"prompts": prompts, "funnel": {"generated": generated, "correct": int(right * generated)}}
    found = find_collapse(first, first | {"funnel": {"generated": generated, "correct": 0}})
    assert bool(found) is collapsed


def test_a_share_that_only_varies_is_no_collapse() -> None:
    """64 prompts with 8 responses, of which a twentieth is right: shares of such iterations differ by a fifth often."""
    rng = np.random.default_rng(0)
    ease = rng.beta(0.2, 3.8, size=64)
    reports = [
        FIRST | {"prompts": 64, "funnel": {"generated": 512, "correct": int(rng.binomial(8, ease).sum())}}
        for _ in range(400)
    ]
    assert sum(now["funnel"]["correct"] < 0.8 * reports[0]["funnel"]["correct"] for now in reports) > 20
    assert not any(find_collapse(reports[0], now) for now in reports)


def measured(iteration: int, accuracy: float, chains: float | None, **more: Any) -> dict[str, Any]:
    """What an iteration of 125 prompts, each with 8 responses, says."""
    return {
        "iteration": iteration, "temperature": 1.0, "prompts": 125, "all_wrong_fraction": 0.0,
        "funnel": {"generated": 1000, "correct": round(1000 * accuracy)}, "right_chain_accuracy": chains,
    } | more  # fmt: skip


def follow(reports: Iterable[dict[str, Any]]) -> Iterator[str | None]:
    """What is said after each of them."""
    all_reports = list(reports)
    return (find_fall(all_reports[:number]) for number in range(1, len(all_reports) + 1))


def test_chains_that_rise_and_then_fall_are_told() -> None:
    series = [0.68] * 4 + [0.97] * 4 + [0.88] * 8
    found = list(follow(measured(i, 0.98, chains) for i, chains in enumerate(series, 1)))
    # Four iterations are the 500 prompts of a block; what a full block says holds until the next one is full.
    assert found[:11] == [None] * 11
    assert found[11] is not None
    assert "88.0% of the right responses are right throughout, and 97.0% were in iterations 5 to 8" in found[11]
    assert "of the responses are right," not in found[11]
    assert found[11] == found[15]


def test_a_recovered_run_is_no_longer_fallen() -> None:
    series = [0.9] * 4 + [0.6] * 4 + [0.9] * 4
    found = list(follow(measured(i, accuracy, None) for i, accuracy in enumerate(series, 1)))
    assert found[7] is not None
    assert "60.0% of the responses are right, and 90.0% were in iterations 1 to 4" in found[7]
    assert found[11] is None


@pytest.mark.parametrize(
    ("series", "prompts"),
    [
        ([0.97, 0.93], 100_000),  # 40 standard errors, but less than 5 points
        ([0.97, 0.91], 500),  # 6 points, but 4.04 standard errors
        ([0.97, 0.5], 249),  # not yet 500 prompts
        ([0.0, 0.0], 500),
    ],
)
def test_little_is_no_fall(series: list[float], prompts: int) -> None:
    assert set(follow(measured(i, share, None, prompts=prompts) for i, share in enumerate(series, 1))) == {None}


def test_another_temperature_begins_anew() -> None:
    series = [(0.9, 1.0)] * 4 + [(0.5, 1.3)] * 4
    found = follow(measured(i, share, None, temperature=t) for i, (share, t) in enumerate(series, 1))
    assert set(found) == {None}


def test_noise_is_no_fall() -> None:
    """Prompts whose eight responses are all alike, which makes the most noise: 5 runs of 200 full blocks."""
    random = np.random.default_rng(0)
    for share in np.linspace(0.05, 0.95, 5):
        drawn = random.binomial(500, share, 200) / 500
        assert set(follow(measured(i, s, s, prompts=500) for i, s in enumerate(drawn.tolist(), 1))) == {None}


def test_iterations_without_right_answers_leave_chains_known() -> None:
    series = [(0.9, 0.95)] * 4 + [(0.0, None)] + [(0.9, 0.6)] * 3
    found = list(follow(measured(i, share, chains) for i, (share, chains) in enumerate(series, 1)))
    assert found[7] is not None
    assert "60.0% of the right responses are right throughout, and 95.0% were" in found[7]


def tally(generated: int, parsed: int, correct: int, kept: int, cut_off: int = 0, timeouts: int = 0) -> dict[str, Any]:
    funnel = {"generated": generated, "parsed": parsed, "correct": correct, "unique": correct, "kept": kept}
    return {"funnel": funnel, "truncated_fraction": cut_off / max(generated, 1), "grading_timeouts": timeouts}


@pytest.mark.parametrize(
    ("reports", "cause"),
    [
        ([tally(600, 1, 0, 0, 599), tally(600, 0, 0, 0, 600)],
         "1,199 of 1,200 responses were cut off at 40 tokens: raise rollout.engine.max_new_tokens"),
        ([tally(10, 10, 0, 0, 0, 9)], "9 of 10 responses took too long to compare with the gold answer"),
        ([tally(10, 2, 0, 0, 4)], "an answer was found in 2 of 10 responses: have the prompts say how to give one"),
        ([tally(10, 9, 0, 0, 1)], "none of 10 responses has the right answer"),
        ([tally(10, 9, 3, 0)], "3 of 10 responses have the right answer, but rollout.selection kept none of them"),
        ([tally(10, 9, 5, 0) | {"no_gradient": 10}], "5 of 10 responses have the right answer, but no prompt has"),
        ([tally(0, 0, 0, 0)], "no response was generated"),
    ],
)  # fmt: skip
def test_the_cause_is_what_befell_most_responses(reports: list[dict[str, Any]], cause: str) -> None:
    assert find_cause(reports, 40).startswith(cause)


def test_one_kept_response_in_one_iteration_is_enough(tmp_path: Any) -> None:
    run = RunDirectory(tmp_path)
    for number, kept in enumerate((0, 1, 0), start=1):
        write_json(run.report(number), tally(10, 9, 3, kept))
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
            "is not exported: 128 of 128 responses were cut off at 3 tokens: raise rollout.engine.max_new_tokens (or "
            "max_model_len, where the engine's context ends before), or warm the policy up on responses that end."
        )
        assert not (root / "policy").exists()
        assert not (root / "finished.json").exists()
        assert read_json(RunDirectory(root).report(2))["skipped"]
        written.append([shard.stat().st_mtime_ns for shard in RunDirectory(root).response_shards(2)])
    assert written[0] == written[1]
