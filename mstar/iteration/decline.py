"""When a run goes wrong, told from its reports: it collapsed, is past its best, or kept nothing in any iteration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from mstar.errors import DataError, counted
from mstar.generation.base import explain_cut_off
from mstar.storage import RunDirectory, read_json

# Shares of the first iteration's value that an iteration may fall to, and the multiple that a length may grow to.
_ENTROPY: Final = 0.1
_LENGTH: Final = (0.5, 2.0)
_RIGHT: Final = 0.8
# A policy that is right nearly always may be sure of itself.
_SOLVED: Final = 0.9
# Prompts that are looked at together: a share of 90 % has a standard error of at most 1.3 points there.
_PROMPTS: Final = 500
# Standard errors, and the share itself, by which the best must be missed.
_ERRORS: Final = 5.0
_LEAST: Final = 0.05
# What is followed: its name in a sentence, what counts, of how many, and of how many prompts.
_SHARES: Final = (
    ("of the responses are right", "correct", "generated", "prompts"),
    ("of the right responses are right throughout", "chains", "correct", "answered"),
)


def find_collapse(first: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What of an iteration's responses has become unlike the first iteration's, in a sentence, and what to do.

    The entropy is below a tenth of the first iteration's (compared at equal temperatures, and where less than nine
    tenths of the responses are right), the mean length below half or above twice, or, where no prompts are voted on,
    the share of right answers below four fifths and by at least 5 standard errors of the difference (as large as they
    can be, see ``find_fall``; of the shares' arcsines, since the error of a share of none would be none).

    Returns:
        None if nothing has.
    """
    found = []
    known = [report.get("labelled", report) for report in (first, now)]
    shares = [report["funnel"]["correct"] / max(report["funnel"]["generated"], 1) for report in known]
    angles = [math.asin(math.sqrt(share)) for share in shares]
    error = 0.5 * math.sqrt(sum(1 / max(report["prompts"], 1) for report in known))
    # Not every engine gives log-probabilities.
    before, after = first["entropy"], now["entropy"]
    comparable = first["temperature"] == now["temperature"] and shares[1] < _SOLVED
    if comparable and before is not None and after is not None and after < _ENTROPY * before:
        found.append(f"the entropy is {after:.3f} nats a token, and was {before:.3f}")
    before, after = first["response_length"], now["response_length"]
    if not _LENGTH[0] * before <= after <= _LENGTH[1] * before:
        found.append(f"responses have {after:.0f} tokens, and had {before:.0f}")
    # Those that were not voted on may be few; find_fall follows their share, over blocks of iterations.
    fallen = shares[1] < _RIGHT * shares[0] and angles[1] < angles[0] - _ERRORS * error
    if fallen and not now.get("pseudo_labels"):
        found.append(f"{shares[1]:.0%} of the responses are right, and {shares[0]:.0%} were")
    if not found:
        return None
    return (
        f"since the first iteration the policy has collapsed: {'; '.join(found)}. Start a new run, from an earlier "
        "checkpoint (mstar export) if there is one, with a lower model.lr, fewer passes through the samples, or a "
        "policy that is held (rollout.policy_gradient.kl_weight)"
    )


def find_fall(reports: Iterable[Mapping[str, Any]]) -> str | None:
    """What of a run has fallen from its best by its last full block, in a sentence, and what to do; None if nothing.

    Two shares are followed, of right responses and of those of them that are right throughout, over blocks of
    iterations with 500 prompts or more at one temperature. A full block has fallen where it is below the best block so
    far by at least 5 points and by at least 5 standard errors of the difference. The standard error takes a prompt's
    responses for copies of each other (variance p(1 - p) / prompts), which is the most that it can be. The best of many
    blocks is high by chance; of 200 blocks of a share that stays where it is, two differ by 5 standard errors in fewer
    than one of a hundred runs. Entropy and length are not followed: they have no best, and a policy that learns grows
    surer.

    Args:
        reports: Those of a run's iterations, in order.
    """
    # A share's highest value, its variance, and when it was.
    best: dict[str, tuple[float, float, str]] = {}
    block: dict[str, float] = {}
    iterations: list[int] = []
    found: list[str] = []
    temperature = None
    for report in reports:
        if report["temperature"] != temperature:
            # At another temperature other shares are to be expected: a peak begins anew.
            temperature, best, found, block, iterations = report["temperature"], {}, [], {}, []
        block = {name: block.get(name, 0.0) + value for name, value in _count(report).items()}
        iterations.append(report["iteration"])
        if block["prompts"] < _PROMPTS:
            continue
        first, last = iterations[0], iterations[-1]
        when = f"iteration {first}" if first == last else f"iterations {first} to {last}"
        found = []
        for said, right, of, prompts in _SHARES:
            if right == "chains" and block["unknown"]:
                continue
            share, variance = _share(block[right], block[of], block[prompts])
            highest, error, then = best.setdefault(said, (share, variance, when))
            if highest - share >= max(_LEAST, _ERRORS * math.sqrt(error + variance)):
                found.append(f"{share:.1%} {said}, and {highest:.1%} were in {then}")
            if share > highest:
                best[said] = share, variance, when
        block, iterations = {}, []
    if not found:
        return None
    return (
        f"the policy is past its best: {'; '.join(found)}. Export a checkpoint of that time, if there is one "
        "(mstar export), or start a new run from it, with a lower model.lr or a policy that is held "
        "(rollout.policy_gradient.kl_weight)"
    )


def _count(report: Mapping[str, Any]) -> dict[str, float]:
    """One iteration: of prompts that were voted on it is not known which responses are right."""
    known = report.get("labelled", report)
    share, correct = known["right_chain_accuracy"], known["funnel"]["correct"]
    return {
        "prompts": known["prompts"],
        "answered": known["prompts"] * (1 - known["all_wrong_fraction"]),
        "generated": known["funnel"]["generated"],
        "correct": correct,
        "chains": (share or 0.0) * correct,
        "unknown": share is None and correct > 0,
    }


def _share(right: float, of: float, prompts: float) -> tuple[float, float]:
    if not of:
        return 0.0, math.inf
    share = right / of
    return share, share * (1 - share) / prompts


def check_something_kept(run: RunDirectory, iterations: int, max_new_tokens: int) -> None:
    """Makes sure that a run had something to train on (else ``DataError``)."""
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
    timeouts = sum(r.get("grading_timeouts", 0) for r in reports)
    if generated == 0:
        return "no response was generated; see the quarantine files of the iterations for what was put aside"
    total = f"of {generated:,} responses"
    explained = explain_cut_off(cut_off, generated, max_new_tokens, "rollout.engine.max_new_tokens")
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
