"""Work that one process does for others; folders that one process holds are in test_atomic.py."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mstar import locking
from mstar.locking import do_once

# Says that it is at work, works until its input ends, and finds something.
WORK = """
import sys
from pathlib import Path
from mstar.locking import do_once

def work():
    print("at work", flush=True)
    sys.stdin.read()
    return eval(sys.argv[2])

do_once(Path(sys.argv[1]), work)
"""


@contextmanager
def working(path: Path, finds: str) -> Iterator[subprocess.Popen[str]]:
    """Another process at work, which ends after a moment."""
    command = [sys.executable, "-c", WORK, str(path), finds]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "at work\n"
        ends = threading.Timer(0.5, other.stdin.close)
        ends.start()
        yield other
        ends.join()


def never() -> list[Any]:
    pytest.fail("it was done again")


def test_who_waits_takes_what_was_found(tmp_path: Path) -> None:
    with working(tmp_path / "found.json", "[[3, 'é\\ud800']]"):
        assert do_once(tmp_path / "found.json", never) == [[3, "é\ud800"]]


def test_who_comes_later_does_it_again(tmp_path: Path) -> None:
    assert do_once(tmp_path / "found.json", lambda: [1]) == [1]
    assert do_once(tmp_path / "found.json", lambda: [2]) == [2]


@pytest.mark.parametrize("finds", ["1 / 0", "print(flush=True) or __import__('os')._exit(1)"])
def test_what_another_process_did_not_find_is_found_here(tmp_path: Path, finds: str) -> None:
    (tmp_path / "found.json").write_text("[0]")
    with working(tmp_path / "found.json", finds):
        assert do_once(tmp_path / "found.json", lambda: [1]) == [1]


def test_without_locks_or_a_file_each_does_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert do_once(tmp_path / "gone/found.json", lambda: [1]) == [1]
    with working(tmp_path / "found.json", "[0]"):
        monkeypatch.setattr(locking, "_PATIENCE", 0.0)
        assert do_once(tmp_path / "found.json", lambda: [1]) == [1]

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(locking.fcntl, "lockf", refuse)
    assert do_once(tmp_path / "found.json", lambda: [1]) == [1]
