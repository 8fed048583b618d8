"""Checkpoint files that are whole or not there, and are checked when they are read."""

from __future__ import annotations

import logging
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH

from mstar.atomic import atomic_path
from mstar.distributed import from_main, is_main, require_shared
from mstar.errors import DataError
from mstar.file_faults import find_fault
from mstar.trainer.checkpoint_files import named_checkpoints

_log = logging.getLogger(__name__)

LAST: Final = "last.ckpt"
PREVIOUS: Final = "previous.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written beside their place, synced to disk and renamed; checked when read.

    A damaged ``last.ckpt`` is put aside and the newest whole checkpoint beside it is read instead. Folders (distributed
    checkpoints) do not pass through here: their strategies write and read them.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Writes a checkpoint.

        Raises:
            StorageError: the disk is full, or the folder cannot be written.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # Torch hides what went wrong with the file behind an error of its own.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from error
                raise

    def load_checkpoint(
        self, path: _PATH, map_location: Any = lambda storage, loc: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a checkpoint.

        Raises:
            DataError: it is damaged, and so is what could take its place; or it is a distributed checkpoint, or none.
        """
        safe = weights_only is not False  # which Lightning would make of None for an address
        given = Path(path)
        if given.is_dir():
            raise DataError(
                f"the checkpoint '{given}' is a folder, written by FSDP: go on with configs/overlays/fsdp2.yaml, which "
                "also runs one process (--trainer.devices 1)."
            )
        if "://" in str(path):
            return super().load_checkpoint(path, map_location, safe)
        # It is read to its end for that, which one process does for all.
        whole, damage = from_main(_find_whole(given) if is_main() else (None, ""))
        if whole is None:
            raise DataError(
                f"the checkpoint '{given}' cannot be used ({damage}), and there is no whole one beside it: name "
                "another one by ckpt_path, or move the run's folder away to start over."
            )
        require_shared([whole])
        # Mapped into memory: the processes of a machine share it.
        content = torch.load(whole, map_location, weights_only=safe, mmap=True)
        if not isinstance(content, dict) or "pytorch-lightning_version" not in content:
            raise DataError(f"'{whole}' is no checkpoint of a run: give one that a fit wrote.")
        return content


def _find_whole(given: Path) -> tuple[Path | None, str]:
    """The checkpoint to use in the place of a given one, which others may take; else what is wrong with it.

    Damaged ones are put aside where another is used.
    """
    candidates = [given]
    if given.name == LAST:
        others = (given.with_name(PREVIOUS), *reversed(named_checkpoints(given.parent)))
        candidates += [other for other in others if other.is_file()]
    damages: dict[Path, str] = {}
    for candidate in candidates:
        damage = find_damage(candidate)
        if damage is None:
            _put_aside(damages, candidate)
            return candidate, ""
        damages[candidate] = damage
    return None, damages[given]


def find_damage(path: Path) -> str | None:
    """Reads a checkpoint file to its end and compares its checksums.

    Returns:
        What is wrong with it; None if nothing is.
    """
    try:
        # Torch writes a zip file with the checksum of every tensor, but does not look at them when it reads it.
        with zipfile.ZipFile(path) as file:
            wrong = file.testzip()
    except FileNotFoundError:
        return "it does not exist"
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        fault = find_fault(path)
        return f"it is damaged: {error if fault is None else f'it {fault}'}"
    return None if wrong is None else f"it is damaged: the checksum of {wrong} is wrong"


def _put_aside(damages: dict[Path, str], used: Path) -> None:
    for path, damage in damages.items():
        _log.warning("the checkpoint '%s' cannot be used (%s); going on from '%s'", path, damage, used)
        if path.exists():
            # Otherwise the next checkpoint would make it the previous one, in place of the whole one.
            os.replace(path, path.with_name(f"{path.name}.damaged"))
