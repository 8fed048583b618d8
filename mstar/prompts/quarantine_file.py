"""The quarantine of data in use: several processes add to it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mstar.prompts.quarantine import BadRow, Reason, announce, check_share

__all__ = ["QuarantineFile"]


class QuarantineFile:
    """What is put aside while data is in use: every row once, too many are an error.

    The worker processes of a loader share the file: each adds to it, and reads what the others added.

    Args:
        path: The file.
        name: What the data is called in messages.
        total: Rows of the data that this process goes through.
        max_bad_share: Largest share of them that is accepted; see ``has_too_many``.
        key: What that setting is called in the configuration.
    """

    def __init__(
        self, path: Path, name: str, total: int, max_bad_share: float | None, key: str = "max_bad_share"
    ) -> None:
        self.path = path
        self.name = name
        self.total = total
        self.max_bad_share = max_bad_share
        self.key = key
        self._offset = 0
        self._reasons: dict[int, Reason] = {}

    def clear(self) -> None:
        """Forgets what an earlier run put aside."""
        self.path.unlink(missing_ok=True)
        self._offset, self._reasons = 0, {}

    def add(self, rows: Iterable[BadRow]) -> None:
        """Adds the rows that are not in it.

        Raises:
            DataError: too many rows are bad.
        """
        self._read()
        new = [row for row in rows if row.row is not None and row.row not in self._reasons]
        if not new:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One write, so that what two processes add does not mix.
        with self.path.open("ab", buffering=0) as file:
            file.write("".join(row.as_json() + "\n" for row in new).encode())
        self._read()
        counts = self._counts()
        check_share(self.name, counts, self.total, self.max_bad_share, self.path, self.key, new[0].detail)

    def announce(self) -> None:
        """Says on the terminal what was put aside, if anything was."""
        self._read()
        announce(self.name, self._counts(), self.total, 0, self.path)

    def _counts(self) -> Counter[Reason]:
        return Counter(self._reasons.values())

    def _read(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                value = json.loads(line)
                self._reasons[value["row"]] = Reason(value["reason"])
