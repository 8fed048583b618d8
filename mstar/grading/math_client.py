"""math-verify in a process of its own, asked over a pipe: slow or greedy input costs that process, never the caller."""

from __future__ import annotations

import atexit
import json
import os
import selectors
import subprocess
import sys
import threading
from enum import Enum
from typing import IO, Final, Literal

__all__ = ["MathOutcome", "ask", "start"]

# A comparison may compute for WORKER_SECONDS and last for _PATIENCE_SECONDS, as on a busy machine it will; the client
# waits a little longer before it kills the worker.
WORKER_SECONDS: Final = 0.8
_PATIENCE_SECONDS: Final = 1.3
_CLIENT_SECONDS: Final = 1.5
_START_SECONDS: Final = 60.0


class MathOutcome(Enum):
    """What came of comparing two formulas."""

    EQUAL = "equal"
    DIFFERENT = "different"
    STOPPED = "stopped"


class _Worker:
    """One worker process; it is started by the first question, and again after it was killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def start(self) -> None:
        """Starts the process, unless it runs."""
        with self._lock:
            self._ensure_running()

    def ask(self, gold: str, answer: str) -> MathOutcome:
        """Compares two formulas; may be called from any thread, one question at a time."""
        with self._lock:
            self._ensure_running()
            reply = self._exchange(json.dumps([gold, answer]), _CLIENT_SECONDS)
            if reply is None:
                self.stop()
                return MathOutcome.STOPPED
            return MathOutcome(reply)

    def renew_lock(self) -> None:
        """Makes the worker usable in a forked process, which starts one of its own."""
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Kills the worker, if this process started it."""
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        self._process = None

    def _ensure_running(self) -> None:
        # After a fork the pipe would be shared with the parent.
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._start()

    def _start(self) -> None:
        self.stop()
        self._process = subprocess.Popen(  # noqa: S603 - this package in this interpreter
            [sys.executable, "-m", "mstar.grading.math_worker", str(WORKER_SECONDS), str(_PATIENCE_SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._owner = os.getpid()
        if self._read(_START_SECONDS) != "ready":
            self.stop()
            raise RuntimeError(
                f"The math-verify worker did not start within {_START_SECONDS:.0f} s; "
                "run 'python -m mstar.grading.math_worker 1 1' to see why."
            )

    def _pipe(self, name: Literal["stdin", "stdout"]) -> IO[bytes]:
        pipe: IO[bytes] | None = getattr(self._process, name)
        if pipe is None:
            raise RuntimeError("The math-verify worker is not running.")
        return pipe

    def _exchange(self, question: str, seconds: float) -> str | None:
        pipe = self._pipe("stdin")
        try:
            pipe.write(question.encode() + b"\n")
        except BrokenPipeError:
            return None
        return self._read(seconds)

    def _read(self, seconds: float) -> str | None:
        """One line of the worker, or None if it does not come in time. A line is short, so it comes in one piece."""
        pipe = self._pipe("stdout")
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            if not selector.select(seconds):
                return None
            return os.read(pipe.fileno(), 100).decode().strip() or None


_WORKER: Final = _Worker()
atexit.register(_WORKER.stop)
# A lock that another thread holds at the time of a fork stays locked in the child.
os.register_at_fork(after_in_child=_WORKER.renew_lock)


def start() -> None:
    """Starts the worker, which takes seconds, if it does not run yet.

    Raises:
        RuntimeError: it cannot be started.
    """
    _WORKER.start()


def ask(gold: str, answer: str) -> MathOutcome:
    """Whether math-verify finds two formulas equal; at most two seconds, apart from the start of the worker.

    Raises:
        RuntimeError: the worker cannot be started.
    """
    return _WORKER.ask(gold, answer)
