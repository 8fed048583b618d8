"""Answers on disk, by what was asked: what was answered once is not asked again."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mstar.atomic import writing
from mstar.errors import StorageError

_NAME: Final = "answers.sqlite"
# Seconds that another process may be writing.
_PATIENCE: Final = 60


class AnswerCache:
    """Answers in a file of SQLite, which several threads and processes share and which a kill leaves whole.

    Raises:
        StorageError: the file cannot be written, or is no such file.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / _NAME
        self._lock = threading.Lock()
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # Whoever may write in the folder may go on in it: SQLite would make it the owner's alone to write.
            if not self.path.exists():
                self.path.touch()
                with suppress(OSError):
                    self.path.chmod(folder.stat().st_mode & 0o666)
        with self._explained():
            # Every statement is a transaction.
            self._file = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            self._file.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)")

    def find(self, key: str) -> str | None:
        """The answer that was kept under a key, or None if it is to be asked for."""
        with self._lock, self._explained():
            row = self._file.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def keep(self, key: str, answer: str) -> str:
        """Keeps an answer, and returns what is kept: of two under one key the first stays."""
        with self._lock, self._explained():
            self._file.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, answer))
        return self.find(key) or answer

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._file.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise StorageError(
                f"the answers in '{self.path}' cannot be read or written ({error}): make room, mend its permissions or "
                "choose another folder, then run the same command again."
            ) from error
