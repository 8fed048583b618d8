"""math-verify in a process of its own, asked over a pipe: slow or greedy input costs that process, never the caller.

No clock takes part: a comparison has a limit of computing time, so a busy machine makes it late and never different.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from enum import Enum
from typing import Final

__all__ = ["WORKER_SECONDS", "MathOutcome", "ask"]

# Most computing time of a comparison. Real ones take milliseconds, so between them and the limit there is room for what
# a full cache or a shared core costs.
WORKER_SECONDS: Final = 1.0


class MathOutcome(Enum):
    """What came of comparing two formulas."""

    EQUAL = "equal"
    DIFFERENT = "different"
    STOPPED = "stopped"


class _Worker:
    """One worker process; it is started by the first question, and again after it was lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def ask(self, gold: str, answer: str) -> MathOutcome:
        """Compares two formulas; may be called from any thread, one question at a time."""
        with self._lock:
            # What ran out is tried once more, when nothing else of this process computes, with room for a bad moment.
            for seconds in (WORKER_SECONDS, 2 * WORKER_SECONDS):
                reply = self._exchange(json.dumps([gold, answer, seconds]))
                if reply != MathOutcome.STOPPED.value:
                    break
            if not reply:
                self.stop()
            return MathOutcome(reply or MathOutcome.STOPPED.value)

    def renew_lock(self) -> None:
        """Makes the worker usable in a forked process, which starts one of its own."""
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Ends the worker, if this process started it."""
        if self._process is not None and self._owner == os.getpid():
            with self._process:  # closes the pipes and waits
                self._process.kill()
        self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        self.stop()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mstar.grading.math_worker"],
            bufsize=0,  # what a broken pipe did not take is not written again when it is closed
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._owner = os.getpid()
        if _read_line(self._process) != "ready":
            self.stop()
            raise RuntimeError(
                "The math-verify worker did not start; run 'python -m mstar.grading.math_worker' to see why."
            )
        return self._process

    def _exchange(self, question: str) -> str:
        """The worker's line, empty if it is gone."""
        process = self._process
        # After a fork the pipe would be shared with the parent.
        if process is None or self._owner != os.getpid() or process.poll() is not None:
            process = self._start()
        assert process.stdin is not None  # noqa: S101 - it was asked for
        try:
            process.stdin.write(question.encode() + b"\n")
        except BrokenPipeError:
            return ""
        return _read_line(process)


def _read_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None  # noqa: S101 - it was asked for
    return process.stdout.readline().decode().strip()


_WORKER: Final = _Worker()
atexit.register(_WORKER.stop)
# A lock that another thread holds at the time of a fork stays locked in the child.
os.register_at_fork(after_in_child=_WORKER.renew_lock)


def ask(gold: str, answer: str) -> MathOutcome:
    """Whether math-verify finds two formulas equal; at most three seconds of computing.

    Raises:
        RuntimeError: the worker cannot be started.
    """
    return _WORKER.ask(gold, answer)
