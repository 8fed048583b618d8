"""Pictures for others: whoever reads them must see what the policy was shown."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import ExifTags, Image

from mstar.errors import DataError
from mstar.peers.pictures import Pictures
from mstar.prompts import RecordPrompts
from mstar.prompts.images import FileImage, PixelLimits

SMALL = PixelLimits(maximum=32)


def plainly(source: str | io.BytesIO) -> Image.Image:
    """As a reader has it that minds nothing."""
    return Image.open(source).convert("RGB")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (8, 16, 4), np.uint8)
    colour, turned = Image.fromarray(noise[:, :, :3]), Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    folder = tmp_path / "data"
    folder.mkdir()
    colour.save(folder / "plain.jpg")
    colour.save(folder / "turned.jpg", exif=turned)
    colour.save(folder / "turned.png", exif=turned)
    Image.fromarray(noise).save(folder / "clear.png")
    Image.fromarray(noise[:, :, 0].astype(np.uint16) * 256).save(folder / "deep.png")
    Image.fromarray(noise[:, :, 0]).save(folder / "grey.png")
    return folder


def test_a_file_is_named_only_if_every_reader_sees_what_the_policy_saw(root: Path, tmp_path: Path) -> None:
    pictures = Pictures(tmp_path / "new", tmp_path / "export")
    (tmp_path / "new").mkdir()
    own = []
    for image in [FileImage(path.name, str(root)) for path in root.iterdir()] + [
        FileImage("plain.jpg", str(root), SMALL)
    ]:
        path, shown = Path(pictures.path(image)), image.load()
        if path.parent == root:
            own.append(path.name)
        else:
            # It lies where it will be once the export is whole.
            assert path.parent == tmp_path / "export/images"
            path = tmp_path / "new/images" / path.name
        assert plainly(str(path)).tobytes() == shown.tobytes()
        content = pictures.content(image)["bytes"]
        assert isinstance(content, bytes)
        assert plainly(io.BytesIO(content)).tobytes() == shown.tobytes()
        # A JPEG is not made larger where it need not be.
        assert (content == (root / image.path).read_bytes()) == (image == FileImage("plain.jpg", str(root)))
    assert sorted(own) == ["grey.png", "plain.jpg"]
    assert FileImage("turned.jpg", str(root)).load().size == (8, 16)


def test_files_of_one_name_in_two_folders_are_two_pictures(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGBA", (4, 4), (255, 0, 0, 128)).save(other / "clear.png")
    (tmp_path / "new").mkdir()
    pictures = Pictures(tmp_path / "new", tmp_path / "export")
    images = [FileImage("clear.png", str(folder)) for folder in (root, other)]
    names = [Path(pictures.path(image)).name for image in images]
    for name, image in zip(names, images, strict=True):
        assert plainly(str(tmp_path / "new/images" / name)).tobytes() == image.load().tobytes()


@pytest.mark.usefixtures("own_cache")
def test_pictures_inside_two_data_sets_are_two_though_their_prompts_have_one_id(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path, tmp_path)
    for name, colour in (("one", "red"), ("two", "blue")):
        Image.new("RGB", (8, 8), colour).save(buffer := io.BytesIO(), "PNG")
        row = {"id": "0", "question": "Which colour?", "answer": colour, "image": buffer.getvalue()}
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / f"{name}.parquet")
        for limits in (PixelLimits(), SMALL):
            [image] = RecordPrompts(str(tmp_path / f"{name}.parquet"), pixels=limits)[0].images
            assert image.uri == "0#0"
            assert plainly(pictures.path(image)).tobytes() == image.load().tobytes()


def test_a_damaged_file_is_no_picture(root: Path, tmp_path: Path) -> None:
    (root / "plain.jpg").write_bytes(b"\xff\xd8\xff")
    pictures = Pictures(tmp_path, tmp_path)
    for give in (pictures.path, pictures.content):
        with pytest.raises(DataError, match=r"'.*plain\.jpg' cannot be decoded"):
            give(FileImage("plain.jpg", str(root)))
