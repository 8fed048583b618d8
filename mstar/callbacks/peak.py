"""When a run is past its best: the rule by which a share has fallen below the highest that it had."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

# Prompts that are looked at together: a share of 90 % has a standard error of at most 1.3 points there.
_PROMPTS: Final = 500
# Standard errors, and the share itself, by which the best must be missed.
ERRORS: Final = 5.0
_LEAST: Final = 0.05
# What is followed: its name in a sentence, what counts, of how many, and of how many prompts.
_SHARES: Final = (
    ("of the responses are right", "correct", "generated", "prompts"),
    ("of the right responses are right throughout", "chains", "correct", "answered"),
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
            if highest - share >= max(_LEAST, ERRORS * math.sqrt(error + variance)):
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
    return share, share_variance(share, prompts)


def share_variance(share: float, prompts: float) -> float:
    """The variance of a share of responses, if a prompt's are copies of each other: the most that it can be."""
    return share * (1 - share) / prompts
