"""Picture files that cannot be used are found without decoding those that look whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mstar.errors import DataError
from mstar.prompts import image_check
from mstar.prompts.image_check import check_files
from mstar.prompts.quarantine import Reason

Picture = Callable[..., bytes]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "a").mkdir(parents=True)
    return folder


def reasons(root: Path, *paths: str, check: str = "exists") -> list[Reason | None]:
    faults = check_files(paths, str(root), check)  # type: ignore[arg-type]
    return [faults[path].reason if path in faults else None for path in paths]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_whole_pictures_pass_and_halves_do_not(root: Path, picture: Picture, kind: str) -> None:
    whole = picture(1, kind, 40)
    (root / "a" / "whole").write_bytes(whole)
    (root / "a" / "half").write_bytes(whole[: len(whole) // 2])
    for check in ("exists", "decode"):
        assert reasons(root, "a/whole", "a/half", check=check) == [None, Reason.BROKEN_IMAGE]
    assert reasons(root, "a/half", "a/gone", check="none") == [None, None]


def test_whole_files_are_not_decoded(root: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("PNG", "JPEG", "GIF", "WEBP"):
        (root / kind).write_bytes(picture(1, kind))
    monkeypatch.setattr(image_check, "decode_image", lambda *_: pytest.fail("a whole file was decoded"))
    assert reasons(root, "PNG", "JPEG", "GIF", "WEBP") == [None] * 4


def test_a_jpeg_with_bytes_behind_its_end_is_decoded_to_be_sure(root: Path, picture: Picture) -> None:
    (root / "padded.jpg").write_bytes(picture(1, "JPEG") + b"\0" * 500)
    assert reasons(root, "padded.jpg") == [None]


def test_what_is_missing_empty_or_no_picture(root: Path) -> None:
    (root / "a" / "empty.png").touch()
    (root / "a" / "page.png").write_text("<html>not found</html>")
    (root / "loop.png").symlink_to(root / "loop.png")
    paths = ["a/empty.png", "a/page.png", "a/gone.png", "b/gone.png", "a", "loop.png", "a\0b.png"]
    assert reasons(root, *paths) == [Reason.EMPTY_IMAGE, Reason.BROKEN_IMAGE, *[Reason.MISSING_IMAGE] * 5]
    detail = check_files(["a/gone.png"], str(root), "exists")["a/gone.png"].detail
    assert detail == f"'a/gone.png' is not at '{root / 'a' / 'gone.png'}' (No such file or directory)"


def test_paths_that_leave_the_folder(root: Path, picture: Picture) -> None:
    outside = root.parent / "outside.png"
    outside.write_bytes(picture())
    (root / "link.png").symlink_to(outside)
    (root / "door").symlink_to(root.parent)
    (root / "a" / "in.png").write_bytes(picture())
    (root / "inner.png").symlink_to(root / "a" / "in.png")
    paths = ["../outside.png", "a/../../outside.png", "link.png", "door/outside.png", str(outside)]
    assert reasons(root, *paths) == [Reason.IMAGE_OUTSIDE_ROOT] * 5
    assert reasons(root, "inner.png", "a/../a/in.png", str(root / "a" / "in.png")) == [None] * 3


def test_a_png_bomb_is_found_by_its_header(root: Path) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0))
    (root / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    assert reasons(root, "bomb.png") == [Reason.BROKEN_IMAGE]


def test_a_folder_that_is_missing_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"image folder '.*nowhere' does not exist"):
        check_files(["a.png"], str(tmp_path / "nowhere"), "exists")


def test_where_missing_pictures_are_is_said_of_the_first(tmp_path: Path, picture: Picture) -> None:
    """Paths that start above the data's folder, as in Qwen's demo, or in a folder within it, as in LogicVista."""
    (tmp_path / "data" / "images").mkdir(parents=True)
    for place in (tmp_path / "data" / "images" / "a.png", tmp_path / "data" / "b.png"):
        place.write_bytes(picture())
    root = str(tmp_path / "data")
    inside, above = (check_files([path, "gone.png"], root, "exists") for path in ("a.png", "data/b.png"))
    assert inside["a.png"].detail == f"'a.png' is not in '{root}', but in '{root}/images'"
    assert above["data/b.png"].detail == f"'data/b.png' is not in '{root}', but in '{tmp_path}'"
    assert "No such file" in inside["gone.png"].detail
