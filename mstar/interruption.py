"""Signals that ask the process to stop: noted when they come, acted on where nothing is lost.

Long loops call ``stop_if_asked`` once a batch. In training, and in the validation within it, the checkpoint callback
looks at ``requested`` instead, so that a checkpoint is written first.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_received: signal.Signals | None = None
_held_back = False
_own = threading.local()


class GivenUpError(Exception):
    """What a thread does is no longer wanted."""


class Interrupted(SystemExit):
    """The process was asked to stop, and has come to a place where it can; its exit status is 128 + the signal."""

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(128 + received)
        self.received = received


def requested() -> signal.Signals | None:
    """The signal by which the process was asked to stop; None if it was not."""
    return _received


def stop_if_asked() -> None:
    """Returns unless the process was asked to stop, and ``hold_back`` is off.

    Raises:
        Interrupted: it was.
        GivenUpError: what this thread does is given up (``stopping_when``).
    """
    given_up: threading.Event | None = getattr(_own, "given_up", None)
    if given_up is not None and given_up.is_set():
        raise GivenUpError
    if _received is not None and not _held_back:
        raise Interrupted(_received)


def hold_back(on: bool) -> None:
    """Has ``stop_if_asked`` always return, or not; whoever switches it on looks at ``requested``."""
    global _held_back
    _held_back = on


@contextmanager
def stopping_when(given_up: threading.Event) -> Iterator[None]:
    """Within the block, in this thread alone, ``stop_if_asked`` also stops once an event is set."""
    _own.given_up = given_up
    try:
        yield
    finally:
        del _own.given_up


def listen() -> None:
    """Has SIGTERM, SIGINT and, in a SLURM job, SIGUSR1 noted from now on."""
    # SLURM warns of the end of a job's time by the signal of --signal, and the job is then put in the queue again.
    signals = [signal.SIGTERM, signal.SIGINT, *([signal.SIGUSR1] if "SLURM_JOB_ID" in os.environ else [])]
    for number in signals:
        signal.signal(number, _note)


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Within the block, the first signal is noted and a second Ctrl-C ends the process at once."""
    global _received, _held_back
    if threading.current_thread() is not threading.main_thread():
        # Python lets only the main thread handle signals.
        yield
        return
    _received, _held_back = None, False
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    listen()
    try:
        yield
    finally:
        _received, _held_back = None, False
        for number, handler in before.items():
            signal.signal(number, handler)


def _note(number: int, frame: FrameType | None) -> None:
    global _received
    if _received is not None:
        if number == signal.SIGINT:
            os._exit(128 + number)
        return
    _received = signal.Signals(number)
    # Not sys.stderr: the process may be in the middle of writing to it.
    again = "; Ctrl-C again ends at once, and saves nothing more" if number == signal.SIGINT else ""
    os.write(2, f"\nmstar: {_received.name}: stopping after this batch{again}\n".encode())
