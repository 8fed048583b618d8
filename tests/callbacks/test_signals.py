"""A stopped fit ends with its own status, whatever the processes that Lightning started end with."""

from __future__ import annotations

import signal
import subprocess
import sys
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
