"""When a run goes wrong: the rule by which a policy's responses are no longer those that it began with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from mstar.callbacks.peak import ERRORS, share_variance

# Shares of the first iteration's value that an iteration may fall to, and the multiple that a length may grow to.
_ENTROPY: Final = 0.1
_LENGTH: Final = (0.5, 2.0)
_RIGHT: Final = 0.8
# A policy that is right nearly always may be sure of itself.
_SOLVED: Final = 0.9


def find_collapse(first: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What of an iteration's responses has become unlike the first iteration's, in a sentence, and what to do.

    The entropy is below a tenth of the first iteration's (compared at equal temperatures, and where less than nine
    tenths of the responses are right), the mean length below half or above twice, or, where no prompts are voted on,
    the share of right answers below four fifths and by at least 5 standard errors of the difference (which are as
    large as they can be, see ``find_fall``).

    Returns:
        None if nothing has.
    """
    found = []
    known = [report.get("labelled", report) for report in (first, now)]
    shares = [report["funnel"]["correct"] / max(report["funnel"]["generated"], 1) for report in known]
    error = math.sqrt(sum(map(share_variance, shares, (max(report["prompts"], 1) for report in known))))
    # Not every engine gives log-probabilities.
    before, after = first["entropy"], now["entropy"]
    comparable = first["temperature"] == now["temperature"] and shares[1] < _SOLVED
    if comparable and before is not None and after is not None and after < _ENTROPY * before:
        found.append(f"the entropy is {after:.3f} nats a token, and was {before:.3f}")
    before, after = first["response_length"], now["response_length"]
    if not _LENGTH[0] * before <= after <= _LENGTH[1] * before:
        found.append(f"responses have {after:.0f} tokens, and had {before:.0f}")
    # Those that were not voted on may be few; find_fall follows their share, over blocks of iterations.
    if not now.get("pseudo_labels") and shares[1] < min(_RIGHT * shares[0], shares[0] - ERRORS * error):
        found.append(f"{shares[1]:.0%} of the responses are right, and {shares[0]:.0%} were")
    if not found:
        return None
    return (
        f"since the first iteration the policy has collapsed: {'; '.join(found)}. Start a new run, from an earlier "
        "checkpoint (mstar export) if there is one, with a lower model.lr, fewer passes through the samples, or a "
        "policy that is held (rollout.policy_gradient.kl_weight)"
    )
