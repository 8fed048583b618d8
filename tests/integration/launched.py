"""``mstar`` as Lightning's own launcher starts it on several devices, with processes that need not import all anew.

Run by the fixture ``forker``. The process that Lightning starts beside this one, by a new interpreter, is forked before
anything else happens here, and waits for the environment that Lightning gives it. For Lightning, and for mstar, it is a
child process like any other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.strategies.launchers import subprocess_script
from lightning.pytorch.utilities import rank_zero_only

from mstar.__main__ import main


class Second(subprocess.Popen[bytes]):
    """The process that waits, as what ``subprocess.Popen`` gives."""

    waiting: int
    environment: int

    def __init__(self, args: Sequence[str], env: dict[str, str], cwd: str | None) -> None:
        # What Popen's own methods look at once a process has been started.
        self.args = args
        self.pid = self.waiting
        self.returncode: Any = None
        self.stdin = self.stdout = self.stderr = None
        self._waitpid_lock = threading.Lock()
        self._child_created = True
        with os.fdopen(self.environment, "w") as given:
            json.dump(env, given)


if __name__ == "__main__":
    reading, writing = os.pipe()
    second = os.fork()
    if second == 0:
        os.close(writing)
        with os.fdopen(reading) as given:
            environment = given.read()
        if not environment:  # the first one has ended before it started another
            os._exit(0)
        os.environ |= json.loads(environment)
        rank_zero_only.rank = int(os.environ["LOCAL_RANK"])  # which Lightning looks at when it is imported
    else:
        os.close(reading)
        Second.waiting, Second.environment = second, writing
        subprocess_script.subprocess = type("Started", (), {"Popen": Second})  # type: ignore[assignment]
    raise SystemExit(main(sys.argv[1:]))
