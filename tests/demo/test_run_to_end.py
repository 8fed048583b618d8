"""How a command of several stages ends."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from mstar.demo.run_to_end import run_to_end
from mstar.errors import ConfigError
from mstar.interruption import stop_if_asked


def _mistake() -> None:
    raise ConfigError("the folder is another seed's: choose another.")


def _unwritable() -> None:
    raise PermissionError(errno.EACCES, "Permission denied", "/else/runs")


def _broken() -> None:
    raise OSError(errno.EBADF, "Bad file descriptor")


def _stopped() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    stop_if_asked()


def test_it_ends_with_a_status_and_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    done: list[int] = []
    assert run_to_end("demo", lambda: done.append(1)) == 0
    assert done == [1]
    assert run_to_end("demo", _mistake) == 1
    assert run_to_end("small", _unwritable) == 1
    assert run_to_end("small", _stopped) == 143
    assert capsys.readouterr().err == (
        "demo: error: the folder is another seed's: choose another.\n"
        "small: error: /else/runs cannot be read or written (Permission denied): mend its path or permissions, then "
        "run the same command again; it goes on from what is there.\n"
        "small: stopped by SIGTERM; the same command goes on.\n"
    )


def test_an_error_of_another_kind_keeps_its_traceback() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        run_to_end("small", _broken)
