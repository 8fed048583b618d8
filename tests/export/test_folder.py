"""An export takes the place of an export, of an empty folder or of nothing; whatever else is there stays."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mstar.errors import ConfigError, StorageError
from mstar.export.folder import MANIFEST, check_replaceable, exporting


def write(folder: Path, **files: str) -> None:
    """Exports some files, named without their dots."""
    with exporting(folder) as unfinished:
        for name, text in files.items():
            path = unfinished / name.replace("_", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def content(folder: Path) -> dict[str, str]:
    """What is in a folder, but for the manifest."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


@pytest.mark.parametrize("here", [False, True])
def test_an_export_replaces_an_export_whole(tmp_path: Path, here: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "policy"
    folder.mkdir()
    inode = folder.stat().st_ino
    if here:
        monkeypatch.chdir(folder)
    target = Path() if here else folder
    write(target, model="1", extra="1", deep_extra="1")
    assert content(folder) == {"model": "1", "extra": "1", "deep/extra": "1"}
    write(target, model="2", other="2")
    assert content(folder) == {"model": "2", "other": "2"}
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]
    assert not here or folder.stat().st_ino == inode


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "policy").symlink_to(tmp_path / "disk")
    for text in "12":
        write(tmp_path / "policy", model=text)
        assert (tmp_path / "policy").is_symlink()
        assert content(tmp_path / "disk") == {"model": text}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "policy"]


@pytest.mark.parametrize("strange", ["notes.txt", "deep/notes.txt", ".git/config", "link", "linked_folder"])
def test_what_no_export_wrote_is_never_lost(tmp_path: Path, strange: str) -> None:
    folder = tmp_path / "policy"
    write(folder, model="1")
    place = folder / strange
    place.parent.mkdir(exist_ok=True)
    if "link" in strange:
        place.symlink_to(tmp_path if strange == "linked_folder" else tmp_path / "nowhere")
    else:
        place.write_text("mine")
    with pytest.raises(ConfigError, match=rf"is an export that files were added to \(it holds {strange}\)"):
        write(folder, model="2")
    assert (folder / "model").read_text() == "1"
    assert place.is_symlink() or place.read_text() == "mine"


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"files": null}', '{"files": ["../a"]}'])
def test_what_calls_itself_an_export_must_name_its_files(tmp_path: Path, manifest: str) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (tmp_path / "a").write_text("mine")
    (folder / "model").write_text("mine")
    (folder / MANIFEST).write_text(manifest)
    with pytest.raises(ConfigError, match="files were added"):
        check_replaceable(folder)


def test_a_model_of_others_a_file_and_a_loop_of_links_are_refused(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (model / name).write_text("{}")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(ConfigError, match=r"'.*model' is not an export \(it holds .*, .*, .*\), and"):
        check_replaceable(model)
    for place in (model / "config.json", loop):
        with pytest.raises(ConfigError, match="is not a folder"):
            check_replaceable(place)
    for place in (tmp_path / "new", tmp_path / "deep/new", tmp_path / "model/.."):
        if place.exists():
            with pytest.raises(ConfigError, match="is not an export"):
                check_replaceable(place)
        else:
            check_replaceable(place)


@pytest.fixture
def others_folder() -> Iterator[Path]:
    """A folder in which the user may read alone, and in that an empty one, ``own``, of the user's."""
    # Not pytest's folder, which no other user may enter.
    with tempfile.TemporaryDirectory() as name:
        folder, user = Path(name), os.geteuid()
        (folder / "own").mkdir()
        (folder / "own").chmod(0o777)
        folder.chmod(0o555)
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


def test_what_cannot_be_written_is_refused_before_anything_is_made(others_folder: Path) -> None:
    for place in ("policy", "deep/policy"):
        with pytest.raises(StorageError, match=r"policy cannot be written \(Permission denied\)"):
            check_replaceable(others_folder / place)


def test_ones_own_folder_within_somebody_elses_is_filled(others_folder: Path) -> None:
    for text in "12":
        check_replaceable(others_folder / "own")
        write(others_folder / "own", model=text)
        assert content(others_folder / "own") == {"model": text}
