"""A stopped fit ends with its own status, whatever the processes that Lightning started end with."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from mstar.callbacks.signals import StopOnSignal
from mstar.interruption import Interrupted


@pytest.mark.parametrize(("exception", "ends"), [(Interrupted(signal.SIGTERM), True), (RuntimeError(), False)])
def test_the_other_processes_are_stopped_too_and_their_status_kills_nobody(
    monkeypatch: pytest.MonkeyPatch, exception: BaseException, ends: bool
) -> None:
    killed: list[bool] = []
    monkeypatch.setattr(_ChildProcessObserver, "_terminate_all", lambda self: killed.append(True))
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    launcher = _SubprocessScriptLauncher(LightningEnvironment(), num_processes=2, num_nodes=1)
    launcher.procs.append(child)
    observer = _ChildProcessObserver(main_pid=0, child_processes=launcher.procs)
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(launcher=launcher), is_global_zero=True)
    try:
        StopOnSignal().on_exception(trainer, trainer, exception)
        if not ends:
            # After an error, Lightning still looks after it.
            child.terminate()
        assert child.wait(30) == -signal.SIGTERM
    finally:
        child.kill()
        child.wait()
    assert observer._run()
    assert killed == ([] if ends else [True])


@pytest.mark.parametrize(("code", "status"), [("143", 143), ("138", 138), ("1", -9)])
def test_a_process_ends_with_the_status_of_a_child_that_was_asked_to_stop(
    code: str, status: int, forker: Any, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, subprocess, sys; from mstar.callbacks.signals import _ChildProcessObserver, end_with_the_others;"
        "end_with_the_others(); child = subprocess.Popen([sys.executable, '-c', f'raise SystemExit({sys.argv[1]})']);"
        "child.wait(); _ChildProcessObserver(os.getpid(), [child])._run()"
    )
    log = tmp_path / "log"
    assert forker.start([code], log, script=script).wait() == status
    assert ("mstar: stopped by SIG" in log.read_text()) == (status > 0)
