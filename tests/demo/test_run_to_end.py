"""How a command of several stages ends."""

from __future__ import annotations

import os
import signal

import pytest

from mstar.demo.run_to_end import run_to_end
from mstar.errors import ConfigError
from mstar.interruption import stop_if_asked


def _mistake() -> None:
    raise ConfigError("the folder is another seed's: choose another.")


def _stopped() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    stop_if_asked()


def test_it_ends_with_a_status_and_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    done: list[int] = []
    assert run_to_end("demo", lambda: done.append(1)) == 0
    assert done == [1]
    assert run_to_end("demo", _mistake) == 1
    assert run_to_end("small", _stopped) == 143
    assert capsys.readouterr().err == (
        "demo: error: the folder is another seed's: choose another.\n"
        "small: stopped by SIGTERM; the same command goes on.\n"
    )
