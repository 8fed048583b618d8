"""Files that are whole or not there, and what a user is told if one cannot be written."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mstar.errors import StorageError

__all__ = ["atomic_path", "explain_write_error", "sync_folder"]

_UNWRITABLE: Final = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR
)  # fmt: skip


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it, synced to disk, if the block succeeds.

    The temporary file is in the same directory, so that the replacement is atomic whatever ``TMPDIR`` is.

    Raises:
        StorageError: the disk is full, or the directory cannot be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        explained = explain_write_error(error, path)
        if explained is None:
            raise
        raise explained from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Has the names in a folder reach the disk; until then, a crash of the machine may undo a renaming."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def explain_write_error(error: OSError, path: Path | None = None) -> StorageError | None:
    """What a user is told if a file cannot be written; None if the error is of another kind.

    Args:
        error: The error.
        path: The file; by default the one that the error names.
    """
    if error.errno not in _UNWRITABLE:
        return None
    where = path or error.filename or "a file"
    return StorageError(
        f"{where} cannot be written ({os.strerror(error.errno)}): make room or mend the permissions, then run the same "
        "command, which goes on from what is there."
    )
