"""Which of many picture files cannot be used, found without decoding those that look whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from PIL import Image

from mstar.errors import DataError
from mstar.prompts.images import decode_image
from mstar.prompts.quarantine import Reason, RowError

__all__ = ["ImageCheck", "check_files"]

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
        root: The folder of the pictures.
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
    checker = _Checker(os.path.realpath(root), check == "decode", tuple(map(os.path.realpath, linked)))
    todo = list(paths)
    batches = [todo[start : start + _BATCH] for start in range(0, len(todo), _BATCH)]
    # Threads hide the latency of a network file system.
    with ThreadPoolExecutor(_THREADS) as pool:
        found = [fault for batch in pool.map(checker.check_all, batches) for fault in batch]
    faults = {path: fault for path, fault in zip(todo, found, strict=True) if fault is not None}
    missing = next((path for path, fault in faults.items() if fault.reason is Reason.MISSING_IMAGE), None)
    if missing is not None and (found_in := _find_folder(missing, checker.root)) is not None:
        detail = f"'{missing}' is not in '{root}', but in '{found_in}'"
        faults[missing] = RowError(Reason.MISSING_IMAGE, detail)
    return faults


def _find_folder(path: str, root: str) -> Path | None:
    """A folder above the image folder or in it that a path starts from instead."""
    inside = sorted(entry.path for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False))[:_LOOKED_AT]
    folders = (*list(Path(root).parents)[:2], *map(Path, inside))
    return next((folder for folder in folders if os.path.isfile(folder / path)), None)


@dataclass(slots=True)
class _Checker:
    root: str
    decode: bool
    linked: tuple[str, ...]
    folders: dict[str, str] = field(default_factory=dict)

    def check_all(self, paths: list[str]) -> list[RowError | None]:
        return [self.check(path) for path in paths]

    def check(self, path: str) -> RowError | None:
        try:
            location = self._resolve(path)
            if not self._is_inside(location):
                return RowError(Reason.IMAGE_OUTSIDE_ROOT, f"'{path}' leads out of the image folder, to '{location}'")
            if not stat.S_ISREG(os.stat(location).st_mode):
                return RowError(Reason.MISSING_IMAGE, f"'{path}' is not a file")
            return self._look(path, location)
        except PermissionError as error:
            return RowError(Reason.UNREADABLE_IMAGE, f"'{path}': {error}")
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
            return RowError(Reason.MISSING_IMAGE, f"'{path}': {error}")

    def _resolve(self, path: str) -> str:
        """The real path; that of a folder is looked up once, because most files of a data set are in a few folders."""
        folder, name = os.path.split(os.path.join(self.root, path))
        if folder not in self.folders:
            self.folders[folder] = os.path.realpath(folder)
        location = os.path.normpath(os.path.join(self.folders[folder], name))
        if self._is_inside(location) and stat.S_ISLNK(os.lstat(location).st_mode):
            return os.path.realpath(location)
        return location

    def _is_inside(self, location: str) -> bool:
        return any(location.startswith(folder.rstrip(os.sep) + os.sep) for folder in (self.root, *self.linked))

    def _look(self, path: str, location: str) -> RowError | None:
        with open(location, "rb") as file:
            head = file.read(32)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 64))
            tail = file.read()
        if not head:
            return RowError(Reason.EMPTY_IMAGE, f"'{path}' is an empty file")
        if not self.decode and _looks_whole(head, tail, size):
            return None
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
