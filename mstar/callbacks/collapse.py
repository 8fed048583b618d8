"""When a run goes wrong: the rule by which a policy's responses are no longer those that it began with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["find_collapse"]

# Shares of the first iteration's value that an iteration may fall to, and the multiple that a length may grow to.
_ENTROPY: Final = 0.1
_LENGTH: Final = (0.5, 2.0)
_RIGHT: Final = 0.8


def find_collapse(first: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What of an iteration's responses has become unlike the first iteration's, in a sentence, and what to do.

    The entropy has collapsed below a tenth of the first iteration's (compared at equal temperatures), the mean length
    below half or above twice, the share of right answers below four fifths.

    Args:
        first: The report of the first iteration.
        now: That of a later one.

    Returns:
        None if nothing has.
    """
    found = []
    entropies = first.get("entropy"), now.get("entropy")
    if None not in entropies and first["temperature"] == now["temperature"] and entropies[1] < _ENTROPY * entropies[0]:
        found.append(f"the entropy is {entropies[1]:.3f} nats a token, and was {entropies[0]:.3f}")
    lengths = first.get("response_length"), now.get("response_length")
    if None not in lengths and not _LENGTH[0] * lengths[0] <= lengths[1] <= _LENGTH[1] * lengths[0]:
        found.append(f"responses have {lengths[1]:.0f} tokens, and had {lengths[0]:.0f}")
    shares = [report["funnel"]["correct"] / max(report["funnel"]["generated"], 1) for report in (first, now)]
    if shares[1] < _RIGHT * shares[0]:
        found.append(f"{shares[1]:.0%} of the responses are right, and {shares[0]:.0%} were")
    if not found:
        return None
    return (
        f"since the first iteration the policy has collapsed: {'; '.join(found)}. Lower model.lr, go through the "
        "samples fewer times, hold the policy (rollout.policy_gradient.kl_weight), or go on from an earlier checkpoint"
    )
