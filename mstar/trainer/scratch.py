"""Where a ``fast_dev_run`` writes, whose purpose is to try everything and to leave nothing."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from mstar.distributed import is_main

_SCRATCH: Final = "MSTAR_SCRATCH_FOLDER"
# What launchers other than Lightning's tell the processes that they start: how many there are.
_NUMBERS: Final = ("WORLD_SIZE", "SLURM_NTASKS")


def make_scratch_folder(root: Path) -> str:
    """A folder that is gone when the first process ends.

    Processes that torchrun or SLURM started, maybe on several machines, find each other's files in one within the
    run's, which all of them see; elsewhere it is a temporary one.
    """
    # The processes that a strategy starts write where the first one does.
    started = os.environ.get(_SCRATCH) if "LOCAL_RANK" in os.environ else None
    if started is not None:
        return started
    if "NODE_RANK" not in os.environ and all(os.environ.get(name, "1") == "1" for name in _NUMBERS):
        folder = Path(tempfile.mkdtemp(prefix="mstar-fast-dev-run-"))
    else:
        folder = root.absolute() / "fast-dev-run"
        if not is_main() or os.environ.get("SLURM_PROCID", "0") != "0":
            return str(folder)
        # Of one that was killed; the others write nothing before this process has joined them.
        shutil.rmtree(folder, ignore_errors=True)
    atexit.register(_remove, folder, [parent for parent in folder.parents if not parent.exists()])
    os.environ[_SCRATCH] = str(folder)
    return str(folder)


def _remove(folder: Path, made: list[Path]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        for parent in made:
            parent.rmdir()
