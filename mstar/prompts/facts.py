"""What is known of a prompt source once it is open: its columns, its bad rows, its kinds of answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mstar.errors import DataError
from mstar.prompts.quarantine import BadRow, Reason

# What to change, and the role of the column that a reason is about.
_REMEDIES: Final[Mapping[Reason, tuple[str, str]]] = {
    Reason.MALFORMED: ("mend that line of the file", ""),
    Reason.WRONG_TYPE: ("name another column in 'fields', or mend the values", ""),
    Reason.BAD_TEXT: ("mend the text", ""),
    Reason.EMPTY_QUESTION: ("name the column of the questions in fields.question", "question"),
    Reason.NO_ANSWER: ("name the column of the answers in fields.answer", "answer"),
    Reason.CONFLICTING_ANSWERS: ("mend the answers", "answer"),
    Reason.NO_RATIONALE: ("name the column of the rationales in fields.rationale", "rationale"),
    Reason.DUPLICATE_ID: ("name a column of unique ids in fields.id, or give 'fields' without an id", "id"),
    Reason.MISSING_IMAGE: ("get the pictures, and set image_root to the folder that the paths start from", "images"),
    Reason.UNREADABLE_IMAGE: ("change the file's permissions", "images"),
    Reason.EMPTY_IMAGE: ("get the picture again", "images"),
    Reason.BROKEN_IMAGE: ("get the picture again, or replace it", "images"),
    Reason.IMAGE_OUTSIDE_ROOT: (
        "set image_root to a folder that holds all pictures, or to a list: that folder, and those that links in it "
        "lead into",
        "images",
    ),
    Reason.PICTURE_COUNT: ("name all columns of pictures in fields.images, or set placeholders to words", "images"),
    Reason.TOO_LONG: ("raise the limit, or show smaller pictures (pixels)", ""),
}


@dataclass(frozen=True, slots=True)
class ColumnChoice:
    """Which column holds what a role of ``FieldMap`` names, and why that one."""

    role: str
    column: str
    why: str


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What is known of a source without a look at its prompts.

    Attributes:
        repeated: Rows that say the same as an earlier one.
        columns: The columns that are read; empty where the format of the data fixes them.
        bad: Rows that were put aside, by reason.
        ignored: By role, how many values were not read because they make no sense, the first of their rows, and what is
            wrong there.
    """

    rows: int
    repeated: int
    columns: tuple[ColumnChoice, ...]
    unread: tuple[str, ...]
    bad: Mapping[Reason, int]
    examples: tuple[BadRow, ...]
    quarantine: Path
    answer_types: Mapping[str, int]
    pictures: Mapping[int, int]
    ignored: Mapping[str, tuple[int, int, str]] = field(default_factory=dict)


class UnusableSourceError(DataError):
    """Too many rows are bad, or all; what is known of the source is shown all the same."""

    def __init__(self, message: str, facts: SourceFacts) -> None:
        super().__init__(message)
        self.facts = facts


def first_of_each(rows: Iterable[BadRow]) -> tuple[BadRow, ...]:
    """The first row of each reason, the most frequent reason first."""
    found: dict[Reason, list[BadRow]] = {}
    for row in rows:
        found.setdefault(row.reason, []).append(row)
    return tuple(group[0] for group in sorted(found.values(), key=len, reverse=True))


def join_counts(counts: Mapping[str, int]) -> str:
    """Counts in words, the largest first: ``500 multi_choice, 300 integer``."""
    return ", ".join(f"{number:,} {name}" for name, number in sorted(counts.items(), key=lambda item: -item[1]))


def explain_bad_row(row: BadRow, columns: Sequence[ColumnChoice]) -> str:
    """Which row is bad, in which column, why, and what to change."""
    remedy, role = _REMEDIES.get(row.reason, ("", ""))
    names = [choice.column for choice in columns if choice.role == role]
    place = f"prompt '{row.content['id']}'" if row.row is None else f"row {row.row}"
    place += f", column {names[0]!r}" if names and f"'{names[0]}'" not in row.detail else ""
    # Where the format fixes the columns, there is no field map.
    remedy = "" if "fields" in remedy and not columns else remedy
    return f"{place}: {row.detail.rstrip('.')}" + (f" ({remedy})" if remedy else "")
