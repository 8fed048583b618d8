"""Files that are whole or not there, and whose errors are told for what they are."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from mstar.atomic import atomic_path, require_writable, write_text, writing
from mstar.errors import ConfigError, StorageError
from mstar.locking import hold_folder

FULL = "Error while serializing: I/O error: No space left on device (os error 28)"


def test_a_file_is_replaced_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    for text in ("first", "second"):
        with atomic_path(path) as temporary:
            temporary.write_text(text)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
    with pytest.raises(TypeError), atomic_path(path) as temporary:
        temporary.write_text(3)  # type: ignore[arg-type]
    assert path.read_text() == "second"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_a_write_that_is_interrupted_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old", encoding="utf-8")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_write_is_invisible_until_it_is_whole_and_then_as_readable_as_the_umask_says(
    tmp_path: Path, umask: int, mode: int
) -> None:
    path = tmp_path / "file"
    before = os.umask(umask)
    try:
        with atomic_path(path) as temporary:
            # Safetensors puts a file of its own there, which its owner alone can read.
            save_file({"a": np.zeros(1)}, temporary)
            assert not path.exists()
            assert temporary.parent == path.parent
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_what_another_file_lacks_is_not_said_of_the_one_that_is_written(tmp_path: Path) -> None:
    """Examples, for one, are written while shards are read."""
    read = tmp_path / "shard.parquet"
    with pytest.raises(PermissionError), atomic_path(tmp_path / "a.txt"):
        raise PermissionError(errno.EACCES, "Permission denied", str(read))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["", ".a.txt.x1", "a.txt", "a.txt/part", "."])
def test_what_keeps_a_file_from_being_written_is_said_of_it(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = [str(tmp_path / where)] if where else []
    with pytest.raises(StorageError, match=r"^a\.txt cannot be written \(Permission denied\)"), writing(Path("a.txt")):
        raise OSError(errno.EACCES, "Permission denied", *named)


def test_a_file_in_the_place_of_a_folder_is_said(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.write_text("")
    with pytest.raises(StorageError, match=r"run cannot be written \(File exists\)"), hold_folder(place):
        pytest.fail("a file was taken for a folder")


def test_a_lock_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("something")
    (tmp_path / "run.lock").symlink_to("other")
    with pytest.raises(ConfigError, match="is a link"), hold_folder(tmp_path):
        pytest.fail("it was held")
    assert (tmp_path / "other").read_text() == "something"


def test_who_may_write_in_a_folder_may_hold_it(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        tmp_path.chmod(0o2775)
        with hold_folder(tmp_path):
            assert stat.S_IMODE((tmp_path / "run.lock").stat().st_mode) == 0o664
    finally:
        os.umask(before)


def test_a_full_disk_is_one_whoever_says_it(tmp_path: Path) -> None:
    model = tmp_path / "model"
    with pytest.raises(StorageError, match=r"model cannot be written \(No space left on device\)"), writing(model):
        raise SafetensorError(FULL)
    # A full disk is never another file's fault that is read.
    with pytest.raises(StorageError, match=r"model cannot be written \(No space left on device\)"), writing(model):
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere")
    with pytest.raises(SafetensorError, match="header"), writing(model):
        raise SafetensorError("Error while deserializing header: header too large")


def test_a_folder_that_cannot_be_synced_keeps_no_file_from_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_devices_stay_and_folders_are_named(tmp_path: Path) -> None:
    """A file in the place of /dev/stdout, a link, would be the end of it."""
    device = tmp_path / "device"
    os.mkfifo(device)
    (tmp_path / "folder").mkdir()
    for path in (device, Path("/dev/stdout"), Path("/dev/null")):
        with atomic_path(path) as temporary:
            assert temporary == path
    with pytest.raises(StorageError, match="folder is a folder, and a file"), atomic_path(tmp_path / "folder"):
        pytest.fail("a folder was taken for a file")


def test_a_folder_that_can_be_made_is_not_made_and_one_that_cannot_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_writable(tmp_path / "deep" / "run")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(StorageError, match=r"cannot be written \(Not a directory\): make room, or mend the path"):
            require_writable(path)
    # Of root, whom permissions do not stop.
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    with pytest.raises(StorageError, match=r"cannot be written \(Permission denied\)"):
        require_writable(tmp_path / "run")
