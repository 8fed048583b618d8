"""The folder of an export: which one may be replaced, and how, so that nothing else is ever lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from mstar import __version__
from mstar.atomic import require_writable, writing
from mstar.distributed import is_main
from mstar.errors import ConfigError, DataError
from mstar.storage import read_json, write_json

# Names what an export wrote: a model's folder alone does not say whose it is.
MANIFEST: Final = "mstar_export.json"
_UNFINISHED: Final = ".unfinished"
_NAMED: Final = 3


def check_replaceable(folder: Path) -> None:
    """Makes sure that an export can take the place of a folder, and nothing is lost: it is missing, empty or one.

    Raises:
        ConfigError: it is a file, or has a file in it that no export wrote.
        StorageError: it cannot be read or written.
    """
    place = _real(folder)
    if not os.path.lexists(place):
        require_writable(place)
        return
    if not place.is_dir():
        raise ConfigError(f"'{folder}' is not a folder, and an export is one: give another name.")
    require_writable(_unfinished(place).parent)
    with writing(place):
        known = _listed(place) | {MANIFEST}
        others = (name for name in _walk(place) if name not in known and not name.startswith(f"{_UNFINISHED}/"))
        strange = list(islice(others, _NAMED))
    if strange:
        kind = "is an export that files were added to" if (place / MANIFEST).is_file() else "is not an export"
        raise ConfigError(
            f"'{folder}' {kind} (it holds {', '.join(strange)}), and what it holds would be lost: an export may only "
            "take the place of an export or of an empty folder, so give another folder, or move what is in it."
        )


@contextmanager
def exporting(folder: Path) -> Iterator[Path]:
    """Where an export is to be made, in the block: it takes the place of ``folder`` once that is done, or is not there.

    Of several processes, all of which may come here, the main one moves it.

    Raises:
        ConfigError: the folder holds what would be lost.
        StorageError: it cannot be written.
    """
    place = _real(folder)
    unfinished = _unfinished(place)
    try:
        with writing(unfinished):
            if is_main():
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.parent.mkdir(parents=True, exist_ok=True)
            yield unfinished
            if is_main():
                check_replaceable(folder)
                write_json(unfinished / MANIFEST, {"mstar": __version__, "files": sorted(_files(unfinished))})
                _put_in_place(unfinished, place)
    finally:
        if is_main():
            shutil.rmtree(unfinished, ignore_errors=True)


def _unfinished(place: Path) -> Path:
    """Where an export is made: on the same file system."""
    return place / _UNFINISHED if _must_stay(place) else place.with_name(f".{place.name}.unfinished")


def _put_in_place(unfinished: Path, place: Path) -> None:
    if _must_stay(place):
        _fill(unfinished, place)
        return
    replaced = place.with_name(f".{place.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if place.exists():
        place.rename(replaced)
    unfinished.rename(place)
    shutil.rmtree(replaced, ignore_errors=True)


def _fill(unfinished: Path, place: Path) -> None:
    """Moves the files one by one; whenever this ends, each file in the folder is one that its manifest names."""
    written = _files(unfinished)
    for name in (_listed(place) & _files(place)) - written:
        (place / name).unlink(missing_ok=True)
    for name in [MANIFEST, *sorted(written)]:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (unfinished / name).replace(place / name)
    shutil.rmtree(unfinished)


def _must_stay(place: Path) -> bool:
    """Whether a folder cannot be renamed, or whoever calls would be left in the old one.

    It is a mount, a shell's folder, or in a folder of somebody else's.
    """
    return place.is_dir() and (
        os.path.ismount(place)
        or os.path.samefile(place, os.curdir)
        or not os.access(place.parent, os.W_OK | os.X_OK, effective_ids=True)
    )


def _listed(place: Path) -> set[str]:
    """The files that the export in a folder wrote; none if it is not one."""
    try:
        files = read_json(place / MANIFEST).get("files")
    except DataError:
        return set()
    return {name for name in files if isinstance(name, str)} if isinstance(files, list) else set()


def _files(folder: Path) -> set[str]:
    return set(_walk(folder)) - {MANIFEST}


def _walk(folder: Path) -> Iterator[str]:
    """The files and links below a folder, relative to it."""

    def fail(error: OSError) -> None:
        raise error

    for where, folders, names in os.walk(folder, onerror=fail):
        for name in [*names, *(name for name in folders if os.path.islink(os.path.join(where, name)))]:
            yield Path(where, name).relative_to(folder).as_posix()


def _real(folder: Path) -> Path:
    # Not Path.resolve: it fails for a loop of links.
    return Path(os.path.realpath(folder))
