"""Pictures that are files, and pictures found again by their URI."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mstar.errors import ConfigError, DataError
from mstar.prompts import Charts, PromptSource, TinyDice
from mstar.prompts.images import FileImage, PixelLimits, decode_image, open_image

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "charts").mkdir(parents=True)
    return folder


def two_pixels(left: tuple[int, ...] = RED, right: tuple[int, ...] = BLUE, mode: str = "RGB") -> Image.Image:
    picture = Image.new(mode, (2, 1))
    picture.putpixel((0, 0), left)
    picture.putpixel((1, 0), right)
    return picture


def pixels(picture: Image.Image) -> list[list[tuple[int, ...]]]:
    return [[tuple(map(int, pixel)) for pixel in row] for row in np.asarray(picture)]


def load_error(root: Path, path: str) -> str:
    with pytest.raises(DataError) as caught:
        FileImage(path, str(root)).load()
    assert Path(path).name in str(caught.value)
    return str(caught.value)


def test_a_file_is_loaded_by_its_relative_path(root: Path) -> None:
    two_pixels().save(root / "charts" / "17.png")
    image = FileImage("charts/17.png", str(root))
    assert image.uri == "charts/17.png"
    picture = image.load()
    assert picture.mode == "RGB"
    assert pixels(picture) == [[RED, BLUE]]


def test_a_photograph_is_turned_upright(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the picture must be turned 90 degrees clockwise
    two_pixels().save(root / "photo.png", exif=exif)
    assert pixels(FileImage("photo.png", str(root)).load()) == [[RED], [BLUE]]


def test_transparent_parts_are_white(root: Path) -> None:
    two_pixels((0, 0, 0, 0), (0, 0, 255, 255), "RGBA").save(root / "ink.png")
    assert pixels(FileImage("ink.png", str(root)).load()) == [[WHITE, BLUE]]


def test_sixteen_bit_grey_is_scaled_and_not_clipped(root: Path) -> None:
    Image.fromarray(np.array([[0, 0x8000, 0xFFFF]], dtype=np.uint16)).save(root / "deep.png")
    assert pixels(FileImage("deep.png", str(root)).load()) == [[(0, 0, 0), (128, 128, 128), WHITE]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK"])
def test_every_mode_becomes_rgb(root: Path, mode: str) -> None:
    Image.new("RGB", (3, 2), "white").convert(mode).save(root / "picture.tiff")
    picture = FileImage("picture.tiff", str(root)).load()
    assert picture.mode == "RGB"
    assert pixels(picture) == [[WHITE] * 3] * 2


@pytest.mark.parametrize("path", ["../outside.png", "charts/../../outside.png", "link.png", "{absolute}"])
def test_a_path_out_of_the_folder_is_refused(root: Path, path: str) -> None:
    outside = root.parent / "outside.png"
    two_pixels().save(outside)
    (root / "link.png").symlink_to(outside)
    assert "leads out of" in load_error(root, path.format(absolute=outside))


def test_a_folder_whose_name_begins_alike_is_outside(root: Path) -> None:
    sibling = root.parent / "pictures-private"
    sibling.mkdir()
    two_pixels().save(sibling / "a.png")
    assert "leads out of" in load_error(root, "../pictures-private/a.png")


def test_the_folder_itself_may_be_a_link(root: Path) -> None:
    two_pixels().save(root / "a.png")
    link = root.parent / "link"
    link.symlink_to(root)
    assert FileImage("a.png", str(link)).load().size == (2, 1)


@pytest.mark.parametrize("path", ["gone.png", "charts"])
def test_what_is_no_file_is_named(root: Path, path: str) -> None:
    assert "does not exist, or is not a file" in load_error(root, path)


def test_a_path_that_no_file_can_have_is_named(root: Path) -> None:
    (root / "loop.png").symlink_to(root / "loop.png")
    with pytest.raises(DataError, match=r"loop\.png"):
        FileImage("loop.png", str(root)).load()
    with pytest.raises(DataError, match="cannot be used"):
        FileImage("a\0b.png", str(root)).load()
    # From Python 3.14 on such a file is one that is not there.
    with pytest.raises(DataError, match=r"cannot be used|does not exist"):
        FileImage("a" * 5000, str(root)).load()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_a_truncated_picture_is_named(root: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    (root / "half").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    assert "cannot be decoded" in load_error(root, "half")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_what_is_no_picture_is_named(root: Path, content: bytes) -> None:
    (root / "page.png").write_bytes(content)
    assert "cannot be decoded" in load_error(root, "page.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 30_000])  # Pillow warns at the first and raises at the second
def test_a_decompression_bomb_is_refused(root: Path, side: int) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (root / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)
    assert "has more than 89,478,485 pixels and is not decoded; make it smaller" in load_error(root, "bomb.png")


@pytest.mark.parametrize("source", [TinyDice("validation", 8, seed=5), Charts("validation", 8, seed=5)])
def test_a_uri_finds_the_generated_picture_again(source: PromptSource) -> None:
    reference = source[7].images[0]
    assert open_image(reference.uri).tobytes() == reference.load().tobytes()


@pytest.mark.parametrize(
    "uri",
    ["tiny-dice:", "tiny-dice:test/0", "tiny-dice:test/0/x", "tiny-dice:exam/0/1", "tiny-dice:test/0/-1", "charts:x"],
)
def test_a_uri_of_no_generated_picture_is_named(uri: str) -> None:
    with pytest.raises(DataError, match=uri):
        open_image(uri)


def test_a_uri_finds_a_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_pixels().save(root / "charts" / "a.png")
    assert pixels(open_image("charts/a.png", str(root))) == [[RED, BLUE]]
    monkeypatch.chdir(root)
    assert pixels(open_image("charts/a.png")) == [[RED, BLUE]]
    monkeypatch.chdir(root / "charts")
    with pytest.raises(DataError, match="does not exist"):
        open_image("charts/a.png")


def test_thirty_two_bit_grey_is_scaled_where_it_has_sixteen_bits(root: Path) -> None:
    Image.fromarray(np.array([[0, 0x8000, 0xFFFF]], dtype=np.int32)).save(root / "wide.tiff")
    assert pixels(FileImage("wide.tiff", str(root)).load()) == [[(0, 0, 0), (128, 128, 128), WHITE]]
    Image.fromarray(np.array([[0, 128, 255]], dtype=np.int32)).save(root / "narrow.tiff")
    assert pixels(FileImage("narrow.tiff", str(root)).load()) == [[(0, 0, 0), (128, 128, 128), WHITE]]


@pytest.mark.parametrize(
    ("size", "limits", "expected"),
    [
        ((100, 50), PixelLimits(), (100, 50)),
        ((100, 50), PixelLimits(5000, 5000), (100, 50)),
        ((100, 50), PixelLimits(maximum=1250), (50, 25)),
        ((100, 50), PixelLimits(minimum=20_000), (200, 100)),
        ((1000, 1), PixelLimits(maximum=100), (100, 1)),
        ((99, 50), PixelLimits(maximum=1000), (44, 22)),
    ],
)
def test_a_picture_is_scaled_into_the_limits(
    root: Path, size: tuple[int, int], limits: PixelLimits, expected: tuple[int, int]
) -> None:
    Image.new("RGB", size, "white").save(root / "a.png")
    picture = FileImage("a.png", str(root), limits).load()
    assert picture.size == expected
    assert picture.getpixel((0, 0)) == WHITE


@pytest.mark.parametrize(("minimum", "maximum"), [(0, None), (None, -1), (10, 9)])
def test_limits_that_cannot_hold_are_refused(minimum: int | None, maximum: int | None) -> None:
    with pytest.raises(ConfigError, match=r"pixels\.m"):
        PixelLimits(minimum, maximum)


def test_bytes_are_decoded_like_files(root: Path) -> None:
    two_pixels((0, 0, 0, 0), (0, 0, 255, 255), "RGBA").save(root / "ink.png")
    content = (root / "ink.png").read_bytes()
    assert pixels(decode_image(content, "p-1#0")) == [[WHITE, BLUE]]
    with pytest.raises(DataError, match="'p-1#0' cannot be decoded"):
        decode_image(content[: len(content) // 2], "p-1#0")
    with pytest.raises(DataError, match=r"'p-1#0' cannot be decoded \(it is no picture that Pillow knows\)"):
        decode_image(b"<svg/>", "p-1#0")


@pytest.mark.parametrize("uri", ["q17#0", "a/b c#12", "mmstar.parquet#3.1"])
def test_a_picture_inside_a_data_set_is_not_looked_for_as_a_file(tmp_path: Path, uri: str) -> None:
    with pytest.raises(DataError, match="is inside the data set, not in a file of its own"):
        open_image(uri, str(tmp_path))
    # A file may be called so.
    path = tmp_path / uri
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 4)).save(path, "PNG")
    assert open_image(uri, str(tmp_path)).size == (3, 4)


def test_floating_numbers_on_no_known_scale_are_said(root: Path) -> None:
    Image.fromarray(np.array([[0, 0.5]], np.float32)).save(root / "float.tiff")
    with pytest.raises(DataError, match=r"cannot be decoded \(its pixels are floating-point numbers on a scale"):
        FileImage("float.tiff", str(root)).load()


def test_a_pointer_in_the_place_of_a_picture_is_said(root: Path) -> None:
    (root / "a.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12\n")
    with pytest.raises(DataError, match=r"a\.png' cannot be decoded: it is a Git LFS pointer"):
        FileImage("a.png", str(root)).load()


def test_postscript_is_not_run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, called = tmp_path / "gs", tmp_path / "called"
    program.write_text(f"#!/bin/sh\necho >> '{called}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    (root / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n")
    assert "PostScript" in load_error(root, "a.png")
    assert not FileImage("a.png", str(root)).is_shown_as_stored()
    assert not called.exists()
