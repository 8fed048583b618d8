"""A run that kept nothing in any of its iterations has trained nothing: what was the matter, and what to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mstar.errors import DataError, counted
from mstar.generation.base import explain_cut_off
from mstar.storage import RunDirectory, read_json


def check_something_kept(run: RunDirectory, iterations: int, max_new_tokens: int) -> None:
    """Makes sure that a run had something to train on.

    Raises:
        DataError: no iteration kept a response.
    """
    reports = [read_json(run.report(number)) for number in range(1, iterations + 1) if run.report(number).exists()]
    # The report of an iteration that was interrupted has no counts yet.
    reported = [report for report in reports if "funnel" in report]
    if not reported or any(report["funnel"]["kept"] for report in reported):
        return
    raise DataError(
        f"nothing was kept in the whole run ({counted(len(reported), 'iteration')}), so that the policy is as it "
        f"was and is not exported: {find_cause(reported, max_new_tokens)}."
    )


def find_cause(reports: Sequence[Mapping[str, Any]], max_new_tokens: int) -> str:
    """Why nothing was kept, in words, with the option to change."""
    generated, parsed, correct = (
        sum(r["funnel"][name] for r in reports) for name in ("generated", "parsed", "correct")
    )
    cut_off = sum(round(r["truncated_fraction"] * r["funnel"]["generated"]) for r in reports)
    tokens = sum(r.get("tokens", 0) for r in reports)
    timeouts = sum(r.get("grading_timeouts", 0) for r in reports)
    if generated == 0:
        return "no response was generated; see the quarantine files of the iterations for what was put aside"
    total = f"of {generated:,} responses"
    explained = explain_cut_off(cut_off, generated, tokens, max_new_tokens, "rollout.engine.max_new_tokens")
    if explained is not None:
        return f"{explained}, or warm the policy up on responses that end"
    if 2 * timeouts > generated:
        return f"{timeouts:,} {total} took too long to compare with the gold answer: mend the column of the answers"
    if 2 * parsed < generated:
        return (
            f"an answer was found in {parsed:,} {total}: have the prompts say how to give one "
            "(data.train.instruction), choose a rollout.grader that reads them, or warm the policy up"
        )
    if correct == 0:
        return (
            f"none {total} has the right answer: compare some with the gold answers (python -m mstar report), and mend "
            "the columns of the data, or warm the policy up"
        )
    if any(r.get("no_gradient") for r in reports):
        return (
            f"{correct:,} {total} have the right answer, but no prompt has right and wrong ones to compare: raise "
            "rollout.num_samples or rollout.temperature, or choose other prompts"
        )
    return (
        f"{correct:,} {total} have the right answer, but rollout.selection kept none of them: lower "
        "rollout.threshold, or choose another selection"
    )
