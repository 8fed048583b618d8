"""Signals: noted, acted on where the code says so, and a second Ctrl-C at once."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from mstar.interruption import Interrupted, requested, stop_if_asked, stopping_on_signals

SCRIPT = """
import os, signal, sys, time
from mstar.interruption import stop_if_asked, stopping_on_signals
with stopping_on_signals():
    for number in map(int, sys.argv[1:]):
        signal.raise_signal(number)
        time.sleep(0.01)
    print("went on", flush=True)
    stop_if_asked()
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_noted_and_acted_on_where_that_is_safe(number: signal.Signals, status: int) -> None:
    before = signal.getsignal(number)
    with stopping_on_signals():
        stop_if_asked()
        signal.raise_signal(number)
        assert requested() == number
        with pytest.raises(Interrupted) as end:
            stop_if_asked()
    assert end.value.code == status
    assert signal.getsignal(number) is before
    stop_if_asked()


@pytest.mark.parametrize(
    ("numbers", "status", "goes_on"),
    [
        ([signal.SIGTERM], 143, True),
        ([signal.SIGINT], 130, True),
        ([signal.SIGINT, signal.SIGINT], 130, False),
        # As a batch system does: a warning, and once more at the end.
        ([signal.SIGTERM, signal.SIGTERM], 143, True),
    ],
)
def test_the_status_of_a_process(numbers: list[int], status: int, goes_on: bool) -> None:
    command = [sys.executable, "-c", SCRIPT, *(str(int(number)) for number in numbers)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == status
    assert ("went on" in ended.stdout) == goes_on
    assert f"mstar: {signal.Signals(numbers[0]).name}: stopping after this batch" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_outside_a_slurm_job_its_warning_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with stopping_on_signals():
        assert signal.getsignal(signal.SIGUSR1) is before
