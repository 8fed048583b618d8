"""Responses that were cut off at the length limit: what to tell the user where most were."""

from __future__ import annotations


def explain_cut_off(cut_off: int, drawn: int, max_new_tokens: int, option: str) -> str | None:
    """What was the matter and what to change, if most responses were cut off; else None."""
    if 2 * cut_off <= drawn:
        return None
    return f"{cut_off:,} of {drawn:,} responses were cut off at {max_new_tokens} tokens: raise {option}"
