"""Starts commands and scripts in processes of their own, without importing everything anew: that is what takes time.

``python forker.py`` is the process that has imported it once. It reads a job a line, forks itself for it, and answers
with the number of the new process, or with how one has ended. What it starts is a process like any other: with signals,
environment and process group of its own, and it ends as Python does.
"""

from __future__ import annotations

import ctypes
import gc
import io
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Forked:
    """A process that was started; what it says is in its log."""

    pid: int
    log: Path
    forker: Forker

    def poll(self) -> int | None:
        """How it has ended: its exit status, or less than 0 by a signal; None while it runs."""
        if self.pid not in self.forker.ended:
            status = self.forker.ask({"wait": self.pid})
            if status is None:
                return None
            self.forker.ended[self.pid] = status
        return self.forker.ended[self.pid]

    def wait(self, seconds: float = 240) -> int:
        """Waits for its end; one that takes longer is killed, with its group."""
        deadline = time.monotonic() + seconds
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                os.killpg(os.getpgid(self.pid), signal.SIGKILL)
                raise AssertionError(f"it did not end in {seconds} s:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.02)
        return status


@dataclass
class Forker:
    """Starts processes by one that has imported everything."""

    process: subprocess.Popen[str] = field(
        default_factory=lambda: subprocess.Popen(
            [sys.executable, __file__],
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
            | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    ended: dict[int, int] = field(default_factory=dict)

    def ask(self, job: Mapping[str, Any]) -> Any:
        """Sends one job, and returns the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(
        self,
        arguments: Sequence[str | Path],
        log: Path,
        *,
        script: Path | None = None,
        path: Sequence[Path] = (),
        group: int = 0,
        **environment: str,
    ) -> Forked:
        """Starts ``mstar`` with arguments, or a script, in a process group of its own or in a given one.

        The folders of ``path`` come first in its ``sys.path``; its environment is this process's with some values set.
        """
        job = {
            "arguments": [str(argument) for argument in arguments],
            "log": str(log),
            "script": None if script is None else str(script),
            "path": [str(folder) for folder in path],
            "group": group,
            "environment": environment,
        }
        return Forked(self.ask(job), log, self)

    def start_all(self, number: int, arguments: Sequence[str | Path], log: Path, **options: Any) -> list[Forked]:
        """Starts several processes that find each other, as ``torchrun`` does, in one process group."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        started: list[Forked] = []
        for rank in range(number):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(number)}
            group = started[0].pid if started else 0
            started.append(self.start(arguments, log, group=group, **meeting, **place, **options))
        return started

    def run(
        self, arguments: Sequence[str | Path], log: Path, *, number: int = 1, seconds: float = 240, **options: Any
    ) -> None:
        """Runs a command to its end, in one process or several; none outlives it."""
        started = (
            [self.start(arguments, log, **options)]
            if number == 1
            else self.start_all(number, arguments, log, **options)
        )
        statuses = [process.wait(seconds) for process in started]
        assert statuses == [0] * number, log.read_text()[-3000:]


def serve() -> None:
    """Forks for every job."""
    import datasets
    import pandas

    from mstar.annotation import command
    from mstar.cli.commands import run
    from mstar.models.backbone import EMBEDDED_MODEL, load_model, load_renderer

    # What the commands import when they are asked for, and what a model needs; pyarrow looks at pandas where it is
    # installed.
    assert command
    assert datasets, pandas
    load_renderer(EMBEDDED_MODEL, load_model(EMBEDDED_MODEL))
    # The parsers of the classes that a configuration names are made once. Nothing may be trained here: autograd's
    # threads would not be in the new processes.
    with suppress(SystemExit), redirect_stdout(io.StringIO()):
        run(["fit", "--config", str(ROOT / "configs" / "tiny" / "evolve.yaml"), "--print_config"])
    # A new process has no garbage to find in all of that, neither while it runs nor when it ends.
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            pid, status = os.waitpid(job["wait"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                become(job)
            os.setpgid(answer, job["group"] or answer)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def become(job: Mapping[str, Any]) -> None:
    """Turns into the process that is asked for, and ends with it."""
    from lightning.pytorch.utilities import rank_zero_only

    from mstar.__main__ import main

    os.setpgid(0, job["group"])
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number, target in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(target, number)
    os.environ |= job["environment"]
    if (threshold := os.environ.get("MALLOC_MMAP_THRESHOLD_")) is not None:
        ctypes.CDLL(None).mallopt(-3, int(threshold))  # M_MMAP_THRESHOLD; glibc looks when an interpreter starts
    rank_zero_only.rank = int(os.environ.get("LOCAL_RANK", "0"))  # which Lightning looks at when it is imported
    sys.path[:0] = job["path"]
    if job["script"] is None:
        sys.argv = ["mstar", *job["arguments"]]
        raise SystemExit(main())
    sys.argv = [job["script"], *job["arguments"]]
    runpy.run_path(job["script"], run_name="__main__")
    raise SystemExit(0)


if __name__ == "__main__":
    serve()
