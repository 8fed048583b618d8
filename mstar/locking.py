"""One process at a time in a folder, and work that one process does for others.

``filelock`` would take the place of one call, ``fcntl.lockf``, and not of what is around it: who holds the folder, and
file systems without locks. On some of those it makes a lock of a file that is left behind when its process is killed,
and on others it fails; here such a folder goes without. It locks with ``flock``, too, whose locks a process that is
forked has its part in, unless it lets go of them.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from mstar.atomic import writing
from mstar.errors import ConfigError
from mstar.interruption import stop_if_asked

_NAME: Final = "run.lock"
# Of a file system without locks.
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
# Seconds for which others' work is waited for, and between two looks at it.
_PATIENCE: Final = 1800.0
_PAUSE: Final = 0.2


@contextmanager
def hold_run(folder: Path) -> Iterator[None]:
    """Keeps every other process out of a run's folder, as ``hold_folder``.

    Raises:
        ConfigError: another process holds it, or a link in it leads out of it.
        StorageError: it cannot be made or written.
    """
    with hold_folder(folder, "trainer.default_root_dir"):
        _refuse_links_out(folder)
        yield


@contextmanager
def hold_folder(folder: Path, option: str = "output") -> Iterator[None]:
    """Keeps every other process out of a folder, which is made if need be, within the block.

    The lock is the operating system's: it ends with the process, however that ends, so a file that was left behind
    means nothing. It is not handed on to child processes. Of a machine that crashed, a server of NFS 3 never hears that
    it is gone: its lock stays until the file is deleted.

    Args:
        option: The one that names the folder.

    Raises:
        ConfigError: another process holds it, or the lock is a link.
        StorageError: it cannot be made or written.
    """
    lock = folder / _NAME
    if os.path.islink(lock):
        raise ConfigError(f"'{lock}' is a link, and what it leads to would be overwritten: remove it.")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        opened = lock.open("a+", encoding="utf-8")
    with opened as file:
        # Whoever may write in the folder may go on in it.
        with suppress(OSError):
            os.fchmod(file.fileno(), folder.stat().st_mode & 0o666)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            raise ConfigError(
                f"'{folder}' is in use by {file.read().strip() or 'another process'}: wait for it or end it (if its "
                f"machine is gone, delete '{lock}'), or choose another folder ({option})."
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            # A file system without locks: no protection, but no reason to refuse either.
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def do_once(path: Path, work: Callable[[], list[Any]]) -> list[Any]:
    """Does some work once for all processes that come for it while it is done; who comes later does it again.

    Who must wait takes what the one before has found. Where the file cannot be written or locked, each does the work.

    Args:
        path: A file for the lock and what was found.
        work: Gives what JSON can hold.

    Raises:
        Interrupted: the process was asked to stop while it waited.
    """
    try:
        opened = path.open("a+b", buffering=0)
    except OSError:
        return work()
    with opened as file:
        waited = _lock(file.fileno())
        if waited is None:
            return work()
        if waited:
            # Whoever held it may have been killed before all was written.
            with suppress(OSError, ValueError):
                file.seek(0)
                there: list[Any] = json.loads(file.read())
                return there
        with suppress(OSError):
            file.truncate(0)
        found = work()
        with suppress(OSError):
            file.write(json.dumps(found).encode())
        return found


def _lock(file: int) -> bool | None:
    """Locks a file; whether it had to wait for that, or None if it cannot be locked."""
    until, waited = time.monotonic() + _PATIENCE, False
    while time.monotonic() < until:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            waited = True
            stop_if_asked()
            time.sleep(_PAUSE)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            break
        else:
            return waited
    return None


def _refuse_links_out(folder: Path) -> None:
    """A run writes and deletes by name in its folder, so a link in there could lead it to anybody's files."""
    root = folder.resolve()
    for path in (*folder.glob("*"), *folder.glob("*/*"), *folder.glob("*/*/*")):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise ConfigError(
                f"'{path}' is a link that leads out of the run's folder '{folder}', in which a run deletes by name: "
                "remove it. A run that wants another disk has all of its folder there (trainer.default_root_dir, which "
                "may itself be a link)."
            )
