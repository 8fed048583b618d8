"""Checkpoints on the disk, which are files, or folders where they are distributed: linked, copied, renamed, deleted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def named_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder that are called by their iteration alone, as a run calls its own, in their order."""
    return sorted(path for path in folder.glob("iteration-*.ckpt") if path.stem.removeprefix("iteration-").isdecimal())


def link(source: Path, target: Path) -> bool:
    """Gives a checkpoint a second name, for the same content; whether the file system can."""
    try:
        if source.is_dir():
            shutil.copytree(source, target, copy_function=os.link)
        else:
            os.link(source, target)
    except (OSError, shutil.Error):
        remove(target)
        return False
    return True


def copy(source: Path, target: Path) -> None:
    """Copies a checkpoint."""
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)


def replace(source: Path, target: Path) -> None:
    """Gives a checkpoint the name of another one, which is gone then."""
    # A folder (distributed checkpoints) cannot be renamed over another one.
    if target.is_dir() or source.is_dir():
        remove(target)
    os.replace(source, target)


def remove(path: Path) -> None:
    """Deletes a checkpoint, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
