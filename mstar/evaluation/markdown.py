"""Pages and tables of Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def percent_between(value: float, low: float, high: float) -> str:
    """A share with its interval, in per cent; without one where it has no width, which says nothing of its error."""
    return f"{100 * value:.1f}" + (f" ({100 * low:.1f}-{100 * high:.1f})" if low < high else "")


def points_between(value: float, low: float, high: float) -> str:
    """The same of a difference of shares, in percentage points."""
    return f"{100 * value:+.1f}" + (f" ({100 * low:+.1f} to {100 * high:+.1f})" if low < high else "")


def markdown_page(title: str, blocks: Sequence[Sequence[str]], facts: Sequence[str]) -> str:
    """A page of blocks of lines, and below them a list of what a reader must know."""
    blocks = [[f"# {title}"], *blocks, [f"- {fact}" for fact in facts]]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table: the first column left, the others right."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" + " ---: |" * (len(head) - 1)]
    # A bar or a line break in a group's name would break the table.
    return lines + ["| " + " | ".join(" ".join(c.split()).replace("|", "\\|") for c in row) + " |" for row in rows]
