"""Files that are whole or not there, and what a user is told if one cannot be written or read."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from safetensors import SafetensorError

from mstar.errors import StorageError

# What comes of writing alone, and what comes of reading too.
_WRITING: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_ACCESS: Final = (errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR, errno.EEXIST)
_AGAIN: Final = "then run the same command again; it goes on from what is there."


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it, synced to disk, if the block succeeds.

    The temporary file is in the same directory, so that the replacement is atomic whatever ``TMPDIR`` is. A device or a
    pipe (``/dev/stdout``) is written to as it is: a file in its place would be the end of it.

    Raises:
        StorageError: the disk is full, the directory cannot be written, or the path is a folder.
    """
    if path.is_dir():
        raise StorageError(f"{path} is a folder, and a file is to be written there: name a file in it.")
    if path.exists() and (not path.is_file() or Path("/dev") in path.absolute().parents):
        with writing(path):
            yield path
        return
    temporary: Path | None = None
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            name = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            # Not tempfile: its files are the owner's alone, and the mode of this one is what the umask gives.
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            temporary = name
            mode = stat.S_IMODE(temporary.stat().st_mode)
            yield temporary
            sync(temporary)
            # Whoever wrote it may have put another file in its place (safetensors does).
            os.chmod(temporary, mode)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Makes sure that a folder can be written, or made, before anything is computed for it; makes nothing.

    Raises:
        StorageError: it cannot be, or it is a file.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise _unwritable(OSError(errno.ENOTDIR, ""), folder)
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=True):
        raise _unwritable(OSError(errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES, ""), folder)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, which is whole or not there; raises as ``atomic_path``."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def copy_file(source: Path, target: Path) -> None:
    """Copies a file, which is then whole or not there; raises as ``atomic_path``."""
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within the block, what keeps a file or a folder from being written is told in one sentence.

    Args:
        path: The file or folder; errors that name another one pass.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        explained = _explain_write_error(error, path)
        if explained is None:
            raise
        raise explained from error


def sync(path: Path) -> None:
    """Has a file reach the disk, or of a folder the names in it.

    Until then a crash of the machine may leave a file with another end, and undo a renaming.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Not every network file system can do that with a folder; its names are then as safe as it makes them.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(handle)


def _explain_write_error(error: OSError | SafetensorError, path: Path) -> StorageError | None:
    """What a user is told if a file or folder cannot be written; None if the error is of another kind."""
    if isinstance(error, SafetensorError):
        # It has the file's error in its text alone.
        number = re.search(r"\(os error (\d+)\)", str(error))
        error = OSError(int(number[1]) if number else 0, str(error))
    if error.errno not in (*_WRITING, *_ACCESS) or not (error.errno in _WRITING or _concerns(error, path)):
        return None
    return _unwritable(error, path)


def explain_file_error(error: OSError) -> StorageError | None:
    """What a user is told of a file's error of which nobody knows whether it came of reading or of writing.

    None if the error is of another kind, or says it of no file.
    """
    if error.errno in _WRITING:
        return _unwritable(error, error.filename or "a file")
    if error.errno not in (*_ACCESS, errno.ENOENT, errno.EISDIR) or error.filename is None:
        return None
    return StorageError(
        f"{error.filename} cannot be read or written ({os.strerror(error.errno)}): mend its path or permissions, "
        f"{_AGAIN}"
    )


def _unwritable(error: OSError, where: object) -> StorageError:
    reason = os.strerror(error.errno or 0)
    return StorageError(
        f"{where} cannot be written ({reason}): make room, or mend the path or its permissions, {_AGAIN}"
    )


def _concerns(error: OSError, path: Path) -> bool:
    if error.filename is None:
        return True
    own, named = (Path(os.path.abspath(str(name))) for name in (path, error.filename))
    temporary = named.parent == own.parent and named.name.startswith(f".{own.name}.")
    return temporary or named == own or named in own.parents or own in named.parents
