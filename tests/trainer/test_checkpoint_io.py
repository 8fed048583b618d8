"""Files of checkpoints: mapped into the memory, checked, and whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mstar.errors import DataError
from mstar.trainer import checkpoint_io
from mstar.trainer.checkpoint_io import AtomicCheckpointIO, find_damage


def test_a_file_of_weights_is_no_checkpoint_of_a_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "weights.ckpt")
    with pytest.raises(DataError, match=r"weights.ckpt' is no checkpoint of a run: give one that a fit wrote"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "weights.ckpt")


def test_a_checkpoint_is_mapped_into_memory_and_checked_by_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ckpt"
    weights = torch.randn(64, 64)
    AtomicCheckpointIO().save_checkpoint({"pytorch-lightning_version": "2", "state_dict": {"w": weights}}, path)
    checked: list[Path] = []
    monkeypatch.setattr(checkpoint_io, "find_damage", checked.append)
    content = AtomicCheckpointIO().load_checkpoint(path)
    assert torch.equal(content["state_dict"]["w"], weights)
    assert str(path) in Path("/proc/self/maps").read_text()
    assert checked == [path]
    monkeypatch.setattr(checkpoint_io, "is_main", lambda: False)
    monkeypatch.setattr(checkpoint_io, "from_main", lambda own: (path, "") if own[0] is None else own)
    assert torch.equal(AtomicCheckpointIO().load_checkpoint(path)["state_dict"]["w"], weights)
    assert checked == [path]


def test_every_flipped_byte_of_the_weights_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"w": torch.randn(4, 4)}}, path)
    assert find_damage(path) is None
    content = path.read_bytes()
    start = content.index(torch.load(path)["state_dict"]["w"].numpy().tobytes())
    for place in range(start, start + 64):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert "checksum" in str(find_damage(path))


def test_what_stands_for_a_checkpoint_or_is_a_part_of_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n")
    assert "it is a Git LFS pointer" in str(find_damage(path))
    AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(4)}, path)
    path.write_bytes(path.read_bytes()[:-30])
    assert find_damage(path) == "it is damaged: File is not a zip file"


def test_a_file_that_cannot_be_written_leaves_the_last_checkpoint_whole(forker: Any, tmp_path: Path) -> None:
    """A process that may not write files beyond some size; a full disk is in tests/integration/test_faults.py."""
    path = tmp_path / "checkpoints/last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(4)}, path)
    before = path.read_bytes()
    script, log = tmp_path / "limited.py", tmp_path / "log"
    script.write_text(
        "import resource, sys, torch; from mstar.trainer.checkpoint_io import AtomicCheckpointIO;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000));"
        "AtomicCheckpointIO().save_checkpoint({'weights': torch.randn(100, 100)}, sys.argv[1])"
    )
    assert forker.start([path], log, script=script).wait() == 1
    assert "StorageError: " in log.read_text()
    assert "last.ckpt cannot be written (File too large)" in log.read_text().splitlines()[-1]
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
