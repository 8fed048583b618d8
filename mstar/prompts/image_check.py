"""Which of many picture files cannot be used, found without decoding those that look whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Final, Literal

from PIL import Image

from mstar.errors import DataError
from mstar.prompts.images import decode_image
from mstar.prompts.quarantine import Reason, RowError

ImageCheck = Literal["none", "exists", "decode"]

_THREADS: Final = 8
_BATCH: Final = 256
# Folders in the image folder that are searched for a picture that is missing.
_LOOKED_AT: Final = 50
_PNG: Final = b"\x89PNG\r\n\x1a\n"


def check_files(
    paths: Iterable[str], root: str, check: ImageCheck, linked: Sequence[str] = ()
) -> Mapping[str, RowError]:
    """The picture files that cannot be used, with the reason.

    Args:
        paths: Distinct paths relative to ``root``.
        check: ``none`` looks at nothing; ``exists`` makes sure that a file is there, below the folder, not empty, and
            has the end that a whole PNG, JPEG, GIF or WebP file has (one without is decoded to be sure); ``decode``
            decodes every picture, which takes about 10 ms each.
        linked: Further folders that links may lead into.

    Raises:
        DataError: there is no such folder.
    """
    if check == "none":
        return {}
    for folder in (root, *linked):
        if not Path(folder).is_dir():
            raise DataError(f"the image folder '{folder}' does not exist; check image_root.")
    folders = [os.path.realpath(folder) for folder in (root, *linked)]
    # Most files of a data set are in a few folders, which are looked up once.
    real = cache(os.path.realpath)
    todo = list(paths)
    batches = [todo[start : start + _BATCH] for start in range(0, len(todo), _BATCH)]

    def find_faults(some: Sequence[str]) -> list[RowError | None]:
        return [_find_fault(path, folders, real, check == "decode") for path in some]

    # Threads hide the latency of a network file system.
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(chain.from_iterable(pool.map(find_faults, batches)))
    faults = {path: fault for path, fault in zip(todo, found, strict=True) if fault is not None}
    missing = next((path for path, fault in faults.items() if fault.reason is Reason.MISSING_IMAGE), None)
    if missing is not None and (found_in := _find_folder(missing, folders[0])) is not None:
        detail = f"'{missing}' is not in '{root}', but in '{found_in}'"
        faults[missing] = RowError(Reason.MISSING_IMAGE, detail)
    return faults


def _find_folder(path: str, root: str) -> Path | None:
    """A folder above the image folder or in it that a path starts from instead."""
    inside = sorted(entry.path for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False))[:_LOOKED_AT]
    folders = (*list(Path(root).parents)[:2], *map(Path, inside))
    return next((folder for folder in folders if os.path.isfile(folder / path)), None)


def _find_fault(path: str, folders: Sequence[str], real: Callable[[str], str], decode: bool) -> RowError | None:
    """What is wrong with a file in one of some folders, relative to the first of them; all these are real paths."""
    try:
        folder, name = os.path.split(os.path.join(folders[0], path))
        location = os.path.normpath(os.path.join(real(folder), name))
        if os.path.islink(location):
            location = os.path.realpath(location)
        if not any(location.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders):
            return RowError(Reason.IMAGE_OUTSIDE_ROOT, f"'{path}' leads out of the image folder, to '{location}'")
        if not stat.S_ISREG(os.stat(location).st_mode):
            return RowError(Reason.MISSING_IMAGE, f"'{path}' is not a file")
        with open(location, "rb") as file:
            head = file.read(32)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 64))
            tail = file.read()
    except PermissionError as error:
        return RowError(Reason.UNREADABLE_IMAGE, f"'{path}' cannot be read ({error.strerror})")
    except OSError as error:
        return RowError(Reason.MISSING_IMAGE, f"'{path}' is not at '{error.filename}' ({error.strerror})")
    except ValueError as error:  # ValueError: a zero byte in the path
        return RowError(Reason.MISSING_IMAGE, f"'{path}': {error}")
    if not head:
        return RowError(Reason.EMPTY_IMAGE, f"'{path}' is an empty file")
    if decode or not _looks_whole(head, tail, size):
        try:
            decode_image(Path(location), path)
        except DataError as error:
            return RowError(Reason.BROKEN_IMAGE, str(error))
    return None


def _looks_whole(head: bytes, tail: bytes, size: int) -> bool:
    if head.startswith(_PNG):
        pixels = int.from_bytes(head[16:20], "big") * int.from_bytes(head[20:24], "big")
        return b"IEND" in tail and pixels <= (Image.MAX_IMAGE_PIXELS or pixels)
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in tail
    if head.startswith(b"GIF8"):
        return tail.rstrip(b"\0").endswith(b";")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return int.from_bytes(head[4:8], "little") + 8 <= size
    return False
