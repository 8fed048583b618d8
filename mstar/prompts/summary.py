"""A prompt source in one line."""

from __future__ import annotations

from collections.abc import Mapping

from mstar.prompts.base import PromptSource

__all__ = ["join_counts", "summarise"]


def join_counts(counts: Mapping[str, int]) -> str:
    """Counts in words, the largest first: ``500 multi_choice, 300 integer``."""
    return ", ".join(f"{number:,} {name}" for name, number in sorted(counts.items(), key=lambda item: -item[1]))


def summarise(key: str, source: PromptSource) -> str:
    """One line on a source, from what is known without reading its prompts.

    Args:
        key: The key of the configuration that names the source.
        source: The source.
    """
    facts = source.facts()
    if facts is None:
        return f"{key}: {len(source):,} prompts of {source.title}\n"
    chosen = ", ".join(f"{choice.role} = {choice.column}" for choice in facts.columns)
    parts = [
        f"{len(source):,} prompts from {facts.rows:,} rows",
        chosen,
        join_counts(facts.answer_types),
        f"{facts.pictures[0]:,} without a picture" if facts.pictures.get(0) else "",
    ]
    return f"{key}: {'; '.join(part for part in parts if part)}\n"
