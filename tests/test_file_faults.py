"""A file that cannot be read as what it should be is called what it is."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mstar.errors import ConfigError, StorageError
from mstar.file_faults import find_fault, find_folder_fault
from mstar.models.backbone import load_model
from mstar.prompts.image_check import check_files
from mstar.prompts.quarantine import Reason
from mstar.storage import read_or_put_aside, read_step_labels, write_step_labels

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user may enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def no_rights(*paths: Path) -> Iterator[None]:
    """Within the block these cannot be read, by root's tests either."""
    for path in paths:
        path.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path in paths:
            path.chmod(0o755)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is an empty file"),
        (b" \n\r\n\t", "is a file of nothing but white space"),
        (bytes(64), "is a file of nothing but zero bytes"),
        (LFS, "is a Git LFS pointer"),
        (b"/annex/objects/SHA256E-s12--ab.png\n", "is a git-annex pointer"),
        (b"\n<!DOCTYPE html>\n<html>", "is a web page"),
        (gzip.compress(b"{}", mtime=0), r"is packed \(gzip\)"),
        ('{"a": 1}'.encode("utf-16"), "is UTF-16 text"),
    ],
)
def test_what_a_file_is_is_said(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    fault = find_fault(path)
    assert fault is not None
    assert fault.startswith(said.replace("\\", ""))


@pytest.mark.parametrize("content", [b"{}", b"\xef\xbb\xbf{}", b"PAR1", b"\x89PNG\r\n\x1a\n", b"\x00\x00\x01"])
def test_of_any_other_file_nothing_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data"
    path.write_bytes(content)
    assert find_fault(path) is None


def test_a_models_file_that_may_not_be_read_is_not_called_missing(warm_policy: Path, open_folder: Path) -> None:
    """Transformers says "No such file or directory" of it."""
    model = open_folder / "model"
    shutil.copytree(warm_policy, model)
    for path in model.iterdir():
        path.chmod(0o644)
    model.chmod(0o755)
    load_model(str(model))
    weights = model / "model.safetensors"
    with no_rights(weights), pytest.raises(ConfigError, match=r"model\.safetensors' cannot be read \(Permission"):
        load_model(str(model))
    with no_rights(model):
        assert find_folder_fault(model) == f"'{model}' cannot be read (Permission denied)"
    weights.write_bytes(LFS)
    with pytest.raises(ConfigError, match=r"model\.safetensors' is a Git LFS pointer"):
        load_model(str(model))


def test_a_picture_and_a_shard_that_may_not_be_read_are_not_called_missing_or_damaged(open_folder: Path) -> None:
    picture, shard = open_folder / "a.png", open_folder / "labels.parquet"
    picture.write_bytes(b"any")
    write_step_labels(shard, [])
    with no_rights(picture, shard):
        assert check_files(["a.png"], str(open_folder), "exists")["a.png"].reason is Reason.UNREADABLE_IMAGE
        with pytest.raises(StorageError, match="cannot be read"):
            read_or_put_aside(shard, read_step_labels)
    assert read_or_put_aside(shard, read_step_labels) == []
