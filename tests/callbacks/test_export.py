"""A folder of the exported model's name is always a whole model."""

from __future__ import annotations

from pathlib import Path

import pytest

from mstar.callbacks.export import export_atomically
from mstar.modules import PolicyModule


class Exported(PolicyModule):
    """Writes one file; fails after it if told so."""

    def __init__(self, text: str, fails: bool = False) -> None:
        super().__init__("mstar/tiny-idefics3")
        self.text = text
        self.fails = fails

    def export(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "model.txt").write_text(self.text)
        if self.fails:
            raise OSError("no space left")


def test_a_folder_is_written_and_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "policy"
    for text in ("first", "second"):
        export_atomically(Exported(text), folder)
        assert [path.name for path in folder.parent.iterdir()] == ["policy"]
        assert (folder / "model.txt").read_text() == text


def test_a_failed_export_leaves_the_old_folder(tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    export_atomically(Exported("first"), folder)
    with pytest.raises(OSError, match="no space"):
        export_atomically(Exported("second", fails=True), folder)
    assert (folder / "model.txt").read_text() == "first"
    export_atomically(Exported("third"), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]
    assert (folder / "model.txt").read_text() == "third"
