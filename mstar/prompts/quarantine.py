"""Rows that cannot be used: put aside in a file with the reason, counted, and the rest goes on.

What is wrong with a row itself is known when it is read; whether its picture can be decoded, and how long it is, only
when it is used.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from mstar.atomic import atomic_path
from mstar.errors import DataError

_log: Final = logging.getLogger(__name__)

_LONGEST: Final = 2000
# What max_bad_share is where it is not set, and what it is of few rows, where one row is a large share.
_USUAL_SHARE: Final = 0.05
_FEW: Final = 10
_LARGEST_SHARE_OF_FEW: Final = 0.25


class Reason(StrEnum):
    """Why a row is put aside."""

    MALFORMED = "malformed"
    WRONG_TYPE = "wrong_type"
    BAD_TEXT = "bad_text"
    EMPTY_QUESTION = "empty_question"
    NO_ANSWER = "no_answer"
    NO_RATIONALE = "no_rationale"
    DUPLICATE_ID = "duplicate_id"
    CONFLICTING_ANSWERS = "conflicting_answers"
    MISSING_IMAGE = "missing_image"
    UNREADABLE_IMAGE = "unreadable_image"
    EMPTY_IMAGE = "empty_image"
    BROKEN_IMAGE = "broken_image"
    IMAGE_OUTSIDE_ROOT = "image_outside_root"
    PICTURE_COUNT = "picture_count"
    BAD_STEPS = "bad_steps"
    TOO_LONG = "too_long"


class RowError(Exception):
    """What a reader raises for a row that it cannot use; it never reaches the user as an error.

    Args:
        content: What stands there, where it has no columns.
    """

    def __init__(self, reason: Reason, detail: str, content: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.content = content


@dataclass(frozen=True, slots=True)
class BadRow:
    """One row that was put aside.

    Attributes:
        row: Its number in the file, from 0; of conflicting answers, the first of the rows. None where the prompt's id
            alone is known.
        content: The row as far as it could be read.
    """

    row: int | None
    reason: Reason
    detail: str
    content: Any = None

    def as_json(self) -> str:
        """One line of the quarantine file; long values are cut, bytes are named by their number."""
        value = {"row": self.row, "reason": self.reason.value, "detail": self.detail, "content": _shorten(self.content)}
        return json.dumps(value, ensure_ascii=True)

    @classmethod
    def from_json(cls, line: str | bytes) -> BadRow:
        """What a line of the quarantine file says."""
        value = json.loads(line)
        return cls(value["row"], Reason(value["reason"]), value["detail"], value["content"])


def write_quarantine(path: Path, rows: Iterable[BadRow]) -> None:
    """Writes a quarantine file, one JSON object a line."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(row.as_json() + "\n" for row in rows)


def read_quarantine(path: Path) -> Iterator[BadRow]:
    """The rows of a quarantine file."""
    with path.open(encoding="utf-8") as file:
        yield from (BadRow.from_json(line) for line in file)


def count_reasons(paths: Iterable[Path]) -> Counter[Reason]:
    """What the rows of some quarantine files were put aside for."""
    return Counter(row.reason for path in paths for row in read_quarantine(path))


@dataclass(frozen=True, slots=True)
class PutAside:
    """What was put aside of some data. Conflicting answers are no damage, and are told apart.

    Attributes:
        path: The quarantine file, or the folder of several.
    """

    name: str
    counts: Mapping[Reason, int]
    total: int
    path: Path
    example: str = ""

    def check(self, max_bad_share: float | None, key: str = "max_bad_share") -> None:
        """Fails if too many rows were put aside.

        Args:
            max_bad_share: Largest share that is accepted. None accepts 5 %, and of fewer than 200 rows up to 10, but
                not more than a quarter.
            key: What the setting is called in the message.

        Raises:
            DataError: the share of bad rows is above ``max_bad_share``.
        """
        bad, share = sum(self._faults().values()), _USUAL_SHARE if max_bad_share is None else max_bad_share
        few = min(_FEW, _LARGEST_SHARE_OF_FEW * self.total) if max_bad_share is None else 0
        if bad > max(share * self.total, few):
            such_as = f" One: {self.example.rstrip('.')}." if self.example else ""
            raise DataError(
                f"{self.name}: {bad} of {self.total} rows are bad ({bad / self.total:.1%}: {self._list()}), which is "
                f"more than {key} {share:g}.{such_as} See {self.path}, and mend them, check the image folder, or raise "
                f"{key}."
            )

    def announce(self, repeated: int = 0) -> None:
        """Says on the terminal what was put aside, and how many rows repeat another one; on the main process alone."""
        # Not mstar.distributed: torch must not be imported for reading data.
        if os.environ.get("LOCAL_RANK", "0") != "0" or os.environ.get("RANK", "0") != "0":
            return
        name, total, conflicts = self.name, self.total, self.counts.get(Reason.CONFLICTING_ANSWERS, 0)
        if bad := sum(self._faults().values()):
            such_as = f", such as {self.example}" if self.example else ""
            said, where = self._list(), self.path
            _log.warning("%s: %d of %d rows are put aside (%s)%s; see %s", name, bad, total, said, such_as, where)
        if conflicts:
            _log.warning("%s: %d questions with contradictory answers are left out; see %s", name, conflicts, self.path)
        if repeated:
            _log.warning("%s: %d of %d rows repeat another one, and count once", name, repeated, total)

    def _faults(self) -> dict[Reason, int]:
        return {reason: n for reason, n in self.counts.items() if reason is not Reason.CONFLICTING_ANSWERS}

    def _list(self) -> str:
        ordered = sorted(self._faults().items(), key=lambda item: -item[1])
        return ", ".join(f"{number} {reason.value}" for reason, number in ordered)


def quarantine_shard(
    path: Path, rows: Sequence[BadRow], name: str, total: int, max_bad_share: float | None, key: str = "max_bad_share"
) -> None:
    """Writes the quarantine file of one shard, if there is anything to write.

    Those of all shards are in one folder, as ``quarantine-*.jsonl``, and are counted together; see ``PutAside``.
    """
    if not rows:
        path.unlink(missing_ok=True)
    else:
        write_quarantine(path, rows)
        counts = count_reasons(path.parent.glob("quarantine-*.jsonl"))
        PutAside(name, counts, total, path.parent, rows[0].detail).check(max_bad_share, key)


@dataclass(eq=False, slots=True)
class QuarantineFile:
    """What is put aside while data is in use: every row once, too many are an error.

    The worker processes of a loader share the file: each adds to it, and reads what the others added. ``total`` are the
    rows of the data that this process goes through; for the other arguments see ``PutAside``.
    """

    path: Path
    name: str
    total: int
    max_bad_share: float | None
    key: str = "max_bad_share"
    _offset: int = field(default=0, init=False)
    _reasons: dict[int, Reason] = field(default_factory=dict, init=False)

    def clear(self) -> None:
        """Forgets what an earlier run put aside."""
        self.path.unlink(missing_ok=True)
        self._offset, self._reasons = 0, {}

    def add(self, rows: Iterable[BadRow]) -> None:
        """Adds the rows that are not in it."""
        self._read()
        new = [row for row in rows if row.row is not None and row.row not in self._reasons]
        if not new:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One write, so that what two processes add does not mix.
        with self.path.open("ab", buffering=0) as file:
            file.write("".join(row.as_json() + "\n" for row in new).encode())
        self._read()
        self._counted(new[0].detail).check(self.max_bad_share, self.key)

    def announce(self) -> None:
        """Says on the terminal what was put aside, if anything was."""
        self._read()
        self._counted().announce()

    def _counted(self, example: str = "") -> PutAside:
        return PutAside(self.name, Counter(self._reasons.values()), self.total, self.path, example)

    def _read(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                row = BadRow.from_json(line)
                if row.row is not None:
                    self._reasons[row.row] = row.reason


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
