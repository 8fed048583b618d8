"""Rows of the files that benchmarks come in; pictures that stand in them are kept in the cache, and read from there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from mstar.errors import DataError
from mstar.prompts.field_values import read_images
from mstar.prompts.images import FileImage, PixelLimits
from mstar.prompts.prompt_table import PromptRecord, PromptTable, build_table, cache_folder
from mstar.prompts.quarantine import Reason, RowError
from mstar.prompts.row_files import find_files, folder_of, open_rows
from mstar.prompts.table_prompts import EmbeddedImage
from mstar.types import ImageReference, Prompt

# A shorter text in a TSV's image column is the index of the row whose picture it is (VLMEvalKit's rule).
POINTER_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """One row.

    Attributes:
        number: Its number in its split, from 0.
        values: Its values by column, the pictures left out.
        images: Its pictures; empty if its cell names another row's.
        file: The name of its file, without the suffix.
    """

    number: int
    values: Mapping[str, Any]
    images: tuple[ImageReference, ...] = ()
    file: str = ""


def read_benchmark(
    path: str,
    image_columns: Sequence[str],
    splits: Sequence[str] = (),
    image_root: str | None = None,
    limits: PixelLimits = PixelLimits(),  # noqa: B008 - frozen, so sharing it is safe
    image_folder: str = "",
) -> tuple[BenchmarkRow, ...]:
    """Reads a benchmark's rows.

    Args:
        path: A ``.parquet``, ``.tsv``, ``.json`` or ``.jsonl`` file, a folder with such files, or a folder that
            ``datasets`` saved (``save_to_disk``).
        image_columns: The columns that may hold the pictures; all that hold pictures, else the first with a path.
        splits: Names of the wanted split, for a folder: of its files those count that are called by one of them.
        image_root: The folder of picture files; None is that of each data file, or ``image_folder`` in it.

    Raises:
        DataError: it is not there, or cannot be read.
    """
    root = folder_of(path) if image_root is None else image_root
    rows: list[BenchmarkRow] = []
    for file in _files(Path(path), splits):
        beside = "." if image_root is not None else os.path.relpath(file.parent / image_folder, root)
        for values, images in _read(file, tuple(image_columns), root, beside, limits):
            rows.append(BenchmarkRow(len(rows), values, images, file.stem))
    return tuple(rows)


def _files(path: Path, splits: Sequence[str]) -> list[Path]:
    """The files of a split, or the folders of it that ``datasets`` saved."""
    if path.is_file() or (path / "dataset_info.json").is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"the benchmark's file '{path}' does not exist; check the path.")
    if (path / "dataset_dict.json").is_file():
        found = sorted(file.parent for file in path.glob("*/dataset_info.json"))
        named = [folder for folder in found if folder.name in splits or not splits]
        if len(named) != 1:
            names = [folder.name for folder in found]
            raise DataError(f"the data set '{path}' has the splits {names}: give the folder of the one that is meant.")
        return named
    files = find_files(path, splits)
    if not files:
        wanted = f" called {' or '.join(splits)}" if splits else ""
        raise DataError(f"the folder '{path}' has no data file{wanted}; give the file itself.")
    # Of "testmini" and "testmini_text_only" (MathVerse) the first is the split.
    return [file for file in files if file.stem in splits] or files


def _read(
    file: Path, image_columns: tuple[str, ...], root: str, beside: str, limits: PixelLimits
) -> Iterator[tuple[dict[str, Any], tuple[ImageReference, ...]]]:
    rows, reader = open_rows(str(file)), _PictureReader(image_columns, file.suffix.lower() == ".tsv")
    folder = cache_folder("benchmark", rows.fingerprint, image_columns)
    build_table(folder, rows, reader.record)
    table = PromptTable(folder, str(file))
    if (bad := next(table.bad_rows(), None)) is not None:
        raise DataError(f"'{file}': row {bad.row} cannot be read ({bad.detail}); get the file again.")
    usable = (row for row in rows if not isinstance(row, RowError))
    for number, (row, paths) in enumerate(zip(usable, table.column("images").to_pylist(), strict=True)):
        values = dict(row)
        for name in reader.held(values):
            values[name] = ""
        if "_key" in values:
            values = {"pid": values.pop("_key")} | values
        yield (
            values,
            tuple(
                EmbeddedImage(_uri(file, number, place, len(paths)), folder, number, place, limits)
                if path is None
                else FileImage(path if beside == "." else os.path.join(beside, path), root, limits)
                for place, path in enumerate(paths)
            ),
        )


def _uri(path: Path, number: int, place: int, count: int) -> str:
    # With its folder: those of MMMU's 30 subjects have files of the same name.
    return "/".join(path.parts[-2:]) + f"#{number}" + (f".{place}" if count > 1 else "")


@dataclass(frozen=True, slots=True)
class _PictureReader:
    """Finds the pictures of a row: all that stand in it, else those that the first column with paths names.

    Attributes:
        in_text: Whether they stand in text (base64); a short one is then no path, but the index of another row.
        numbers: Tells rows apart, of which several may have the same pictures, or none.
    """

    columns: tuple[str, ...]
    in_text: bool
    numbers: Iterator[int] = field(default_factory=count)

    def held(self, values: Mapping[str, Any]) -> list[str]:
        """The columns with pictures in them."""
        return [name for name in self.columns if self._holds_picture(values.get(name))]

    def _holds_picture(self, cell: Any) -> bool:
        if isinstance(cell, str):
            return self.in_text and len(cell) > POINTER_LENGTH
        if isinstance(cell, list):
            return any(not isinstance(item, str) for item in cell)
        return cell is not None

    def record(self, values: Mapping[str, Any]) -> PromptRecord:
        """The row's pictures alone, for the cache."""
        named = [] if self.in_text else [name for name in self.columns if values.get(name)][:1]
        found = read_images(values, self.held(values) or named)
        if self.in_text and not all(isinstance(item, bytes) for item in found):
            raise RowError(Reason.BROKEN_IMAGE, "the text of its picture is no base64 of a known form of pictures")
        images = tuple(item.removeprefix("./") if isinstance(item, str) else item for item in found)
        return PromptRecord(Prompt("", ""), str(next(self.numbers)), images)
