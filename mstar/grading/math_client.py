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
from typing import IO, Final, Literal

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
            # After a fork the pipe would be shared with the parent.
            if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
                self._start()
            reply = self._exchange(json.dumps([gold, answer, WORKER_SECONDS]))
            if reply == MathOutcome.STOPPED.value:
                # Once more, when nothing else of this process computes, and with room for a bad moment.
                reply = self._exchange(json.dumps([gold, answer, 2 * WORKER_SECONDS]))
            if not reply:
                self.stop()
                return MathOutcome.STOPPED
            return MathOutcome(reply)

    def renew_lock(self) -> None:
        """Makes the worker usable in a forked process, which starts one of its own."""
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Ends the worker, if this process started it."""
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            self._process.wait()
            self._pipe("stdin").close()
            self._pipe("stdout").close()
        self._process = None

    def _start(self) -> None:
        self.stop()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mstar.grading.math_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._owner = os.getpid()
        if self._pipe("stdout").readline() != b"ready\n":
            self.stop()
            raise RuntimeError(
                "The math-verify worker did not start; run 'python -m mstar.grading.math_worker' to see why."
            )

    def _pipe(self, name: Literal["stdin", "stdout"]) -> IO[bytes]:
        pipe: IO[bytes] | None = getattr(self._process, name)
        if pipe is None:
            raise RuntimeError("The math-verify worker is not running.")
        return pipe

    def _exchange(self, question: str) -> str:
        """The worker's line, empty if it is gone."""
        pipe = self._pipe("stdin")
        try:
            pipe.write(question.encode() + b"\n")
            pipe.flush()
        except BrokenPipeError:
            return ""
        return self._pipe("stdout").readline().decode().strip()


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
