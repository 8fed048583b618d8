"""Rows that cannot be used: put aside in a file with the reason, counted, and the rest goes on."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from mstar.errors import DataError
from mstar.storage import atomic_path
from mstar.types import Prompt

__all__ = ["BadRow", "Reason", "RowError", "announce", "check_share", "drop_unreadable", "write_quarantine"]

_LONGEST: Final = 2000


class Reason(StrEnum):
    """Why a row is put aside."""

    MALFORMED = "malformed"
    WRONG_TYPE = "wrong_type"
    BAD_TEXT = "bad_text"
    EMPTY_QUESTION = "empty_question"
    NO_ANSWER = "no_answer"
    DUPLICATE_ID = "duplicate_id"
    CONFLICTING_ANSWERS = "conflicting_answers"
    MISSING_IMAGE = "missing_image"
    EMPTY_IMAGE = "empty_image"
    BROKEN_IMAGE = "broken_image"
    IMAGE_OUTSIDE_ROOT = "image_outside_root"
    BAD_STEPS = "bad_steps"


class RowError(Exception):
    """What a reader raises for a row that it cannot use; it never reaches the user as an error.

    Args:
        reason: The kind of fault.
        detail: What exactly is wrong.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class BadRow:
    """One row that was put aside.

    Attributes:
        row: Its number in the file, from 0; of conflicting answers, the first of the rows.
        reason: The kind of fault.
        detail: What exactly is wrong.
        content: The row as far as it could be read.
    """

    row: int
    reason: Reason
    detail: str
    content: Any = None

    def as_json(self) -> str:
        """One line of the quarantine file; long values are cut, bytes are named by their number."""
        value = {"row": self.row, "reason": self.reason.value, "detail": self.detail, "content": _shorten(self.content)}
        return json.dumps(value, ensure_ascii=True)


def write_quarantine(path: Path, rows: Iterable[BadRow]) -> None:
    """Writes a quarantine file, one JSON object a line."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(row.as_json() + "\n" for row in rows)


def check_share(name: str, counts: Mapping[Reason, int], total: int, max_bad_share: float, path: Path) -> None:
    """Fails if too many rows were put aside; conflicting answers are no damage, and are not counted.

    Args:
        name: What the data is called in the message.
        counts: Bad rows by reason.
        total: All rows of the data.
        max_bad_share: Largest share that is accepted.
        path: The quarantine file.

    Raises:
        DataError: the share of bad rows is above ``max_bad_share``.
    """
    faults = _faults(counts)
    bad = sum(faults.values())
    if bad > max_bad_share * total:
        raise DataError(
            f"{name}: {bad} of {total} rows are bad ({bad / total:.1%}: {_list(faults)}), which is more than "
            f"max_bad_share {max_bad_share:g}; see {path}, and mend them, check the image folder, or raise "
            "max_bad_share."
        )


def announce(name: str, counts: Mapping[Reason, int], total: int, repeated: int, path: Path) -> None:
    """Says on the terminal what was put aside; once, on the main process.

    Args:
        name: What the data is called.
        counts: Bad rows by reason.
        total: All rows of the data.
        repeated: Rows that say the same as an earlier one, and were merged with it.
        path: The quarantine file.
    """
    # Not mstar.distributed: torch must not be imported for reading data.
    if os.environ.get("LOCAL_RANK", "0") != "0" or os.environ.get("RANK", "0") != "0":
        return
    faults, conflicts = _faults(counts), counts.get(Reason.CONFLICTING_ANSWERS, 0)
    if faults:
        bad = sum(faults.values())
        sys.stderr.write(f"{name}: {bad} of {total} rows are put aside ({_list(faults)}); see {path}\n")
    if conflicts:
        sys.stderr.write(f"{name}: {conflicts} questions with contradictory answers are left out; see {path}\n")
    if repeated:
        sys.stderr.write(f"{name}: {repeated} of {total} rows repeat another one, and count once\n")


def drop_unreadable(prompts: Sequence[Prompt], quarantine: Path) -> list[Prompt]:
    """The prompts whose pictures can all be decoded; the others are added to a quarantine file and counted.

    Decoding every picture of a large data set when it is loaded takes too long; this does it for the prompts that are
    about to be used.

    Args:
        prompts: Some prompts.
        quarantine: The file that the others are added to.
    """
    good: list[Prompt] = []
    bad: list[BadRow] = []
    for index, prompt in enumerate(prompts):
        try:
            for image in prompt.images:
                image.load()
        except DataError as error:
            content = {"id": prompt.id, "question": prompt.question, "images": [image.uri for image in prompt.images]}
            bad.append(BadRow(index, Reason.BROKEN_IMAGE, str(error), content))
        else:
            good.append(prompt)
    if bad:
        quarantine.parent.mkdir(parents=True, exist_ok=True)
        with quarantine.open("a", encoding="utf-8") as file:
            file.writelines(row.as_json() + "\n" for row in bad)
        announce("pictures", Counter(row.reason for row in bad), len(prompts), 0, quarantine)
    return good


def _faults(counts: Mapping[Reason, int]) -> dict[Reason, int]:
    conflicting = Reason.CONFLICTING_ANSWERS
    return {reason: number for reason, number in counts.items() if reason != conflicting}


def _list(counts: Mapping[Reason, int]) -> str:
    return ", ".join(f"{number} {reason.value}" for reason, number in sorted(counts.items(), key=lambda c: -c[1]))


def _shorten(value: Any) -> Any:
    match value:
        case str():
            return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}... ({len(value)} characters)"
        case bytes():
            return f"({len(value)} bytes)"
        case Mapping():
            return {str(key): _shorten(item) for key, item in value.items()}
        case list() | tuple():
            return [_shorten(item) for item in value[:100]]
        case int() | float() | bool() | None:
            return value
        case _:
            return _shorten(str(value))
