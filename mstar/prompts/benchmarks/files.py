"""Rows of the files that benchmarks come in: Parquet, TSV, JSON and JSON lines, with their pictures left on disk."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mstar.errors import DataError
from mstar.prompts.benchmarks.pictures import CellImage, ParquetImage, SavedImage, parse_tsv, saved_table
from mstar.prompts.images import FileImage, PixelLimits
from mstar.prompts.json_rows import JsonRows
from mstar.types import ImageReference

__all__ = ["BenchmarkFile", "BenchmarkRow", "read_benchmark"]

# A shorter text in a TSV's image column is the index of the row whose picture it is (VLMEvalKit's rule).
POINTER_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """One row.

    Attributes:
        number: Its number in its split, from 0.
        values: Its values by column, the pictures left out.
        images: Its pictures; empty if its cell names another row's.
    """

    number: int
    values: Mapping[str, Any]
    images: tuple[ImageReference, ...] = ()


@dataclass(frozen=True, slots=True)
class BenchmarkFile:
    """A benchmark's rows.

    Attributes:
        columns: The columns found.
        rows: The rows.
        where: The file, for messages.
    """

    columns: tuple[str, ...]
    rows: tuple[BenchmarkRow, ...]
    where: str


def read_benchmark(
    path: str,
    image_columns: Sequence[str],
    splits: Sequence[str] = (),
    image_root: str | None = None,
    limits: PixelLimits = PixelLimits(),  # noqa: B008 - frozen, so sharing it is safe
) -> BenchmarkFile:
    """Reads a benchmark's rows.

    Args:
        path: A ``.parquet``, ``.tsv``, ``.json`` or ``.jsonl`` file, a folder with such files, or a folder that
            ``datasets`` saved (``save_to_disk``).
        image_columns: The columns that may hold the pictures; all that hold pictures, else the first with a path.
        splits: Names of the wanted split, for a folder: of its files those count that are called by one of them.
        image_root: The folder of picture files; None is the folder of the data.
        limits: How many pixels the decoded pictures have.

    Raises:
        DataError: there is nothing there, or it cannot be read.
    """
    files = _files(Path(path), splits)
    root = image_root if image_root is not None else str(Path(path) if Path(path).is_dir() else Path(path).parent)
    columns: dict[str, None] = {}
    rows: list[BenchmarkRow] = []
    for file in files:
        reader = _saved if file.is_dir() else {".parquet": _parquet, ".tsv": _tsv}.get(file.suffix.lower(), _json)
        try:
            for values, images in reader(file, tuple(image_columns), root, limits):
                columns.update(dict.fromkeys(values))
                rows.append(BenchmarkRow(len(rows), values, images))
        except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
            raise DataError(f"'{file}' cannot be read ({error}); get the file again.") from error
    if not rows:
        raise DataError(f"'{path}' has no rows; get the file again.")
    return BenchmarkFile(tuple(columns), tuple(rows), f"'{path}'")


_SUFFIXES: Final = (".parquet", ".tsv", ".jsonl", ".json")


def _files(path: Path, splits: Sequence[str]) -> list[Path]:
    if path.is_file():
        if path.suffix.lower() not in _SUFFIXES:
            raise DataError(f"'{path}' is none of {', '.join(_SUFFIXES)}; give the benchmark's data file.")
        return [path]
    if not path.is_dir():
        raise DataError(f"the benchmark's file '{path}' does not exist; check the path.")
    if (path / "dataset_dict.json").is_file():
        found = sorted(file.parent for file in path.glob("*/dataset_info.json"))
        named = [folder for folder in found if folder.name in splits or not splits]
        if len(named) != 1:
            raise DataError(
                f"the data set '{path}' has the splits {[folder.name for folder in found]}, and one of "
                f"{list(splits) or 'them'} is needed; give the folder of the split itself."
            )
        return named
    if (path / "dataset_info.json").is_file():
        return [path]
    for suffix in _SUFFIXES:
        files = sorted(file for file in path.rglob(f"*{suffix}") if not file.name.startswith("."))
        # "test" must not find "testmini-00000-of-00001.parquet".
        starts = tuple(f"{name}{end}" for name in splits for end in "-._")
        named = [file for file in files if not splits or file.name.startswith(starts)]
        if named:
            return named
    wanted = f" called {' or '.join(splits)}" if splits else ""
    raise DataError(f"the folder '{path}' has no {', '.join(_SUFFIXES)} file{wanted}; give the file itself.")


_Parsed = Iterator[tuple[dict[str, Any], tuple[ImageReference, ...]]]


def _parquet(path: Path, image_columns: tuple[str, ...], root: str, limits: PixelLimits) -> _Parsed:
    file = pq.ParquetFile(path)
    heavy = [field.name for field in file.schema_arrow if field.name in image_columns and _holds_bytes(field.type)]
    light = [name for name in file.schema_arrow.names if name not in heavy]
    number = 0
    for group in range(file.num_row_groups):
        rows = file.read_row_group(group, columns=light).to_pylist()
        lengths = {name: _counts(file.read_row_group(group, columns=[name]).column(name)) for name in heavy}
        for place, values in enumerate(rows):
            found = [(name, i) for name in image_columns if name in lengths for i in range(lengths[name][place])]
            images = tuple(
                ParquetImage(_uri(path, number, n, len(found)), str(path), place, i, name, root, limits, group)
                for n, (name, i) in enumerate(found)
            )
            yield values, images or _from_paths(values, image_columns, root, limits)
            number += 1


def _saved(path: Path, image_columns: tuple[str, ...], root: str, limits: PixelLimits) -> _Parsed:
    table = saved_table(str(path))
    heavy = [field.name for field in table.schema if field.name in image_columns and _holds_bytes(field.type)]
    lengths = {name: _counts(table.column(name)) for name in heavy}
    for number, values in enumerate(table.drop_columns(heavy).to_pylist()):
        found = [(name, i) for name in image_columns if name in lengths for i in range(lengths[name][number])]
        images = tuple(
            SavedImage(_uri(path, number, n, len(found)), str(path), number, i, name, root, limits)
            for n, (name, i) in enumerate(found)
        )
        yield values, images or _from_paths(values, image_columns, root, limits)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _holds_bytes(kind.value_type)
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _counts(cells: pa.ChunkedArray) -> list[int]:
    """How many pictures every cell has."""
    if pa.types.is_list(cells.type) or pa.types.is_large_list(cells.type):
        return [length or 0 for length in pa.compute.list_value_length(cells).to_pylist()]
    return [int(there) for there in cells.is_valid().to_pylist()]


def _uri(path: Path, number: int, place: int, count: int) -> str:
    return f"{path.name}#{number}" + (f".{place}" if count > 1 else "")


def _from_paths(
    values: Mapping[str, Any], image_columns: Sequence[str], root: str, limits: PixelLimits
) -> tuple[ImageReference, ...]:
    cell = next((values[name] for name in image_columns if values.get(name)), None)
    paths = cell if isinstance(cell, list) else [cell]
    return tuple(FileImage(item.removeprefix("./"), root, limits) for item in paths if isinstance(item, str) and item)


class _Lines:
    """The lines of a file as text, with the number of bytes that have been read."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.position = 0

    def __iter__(self) -> Iterator[str]:
        for line in self.file:
            start, self.position = self.position, self.position + len(line)
            yield line.decode("utf-8-sig" if start == 0 else "utf-8")


def _tsv(path: Path, image_columns: tuple[str, ...], root: str, limits: PixelLimits) -> _Parsed:
    with path.open("rb") as file:
        lines = _Lines(file)
        rows = parse_tsv(iter(lines))
        names = next(rows, [])
        column = next((names.index(name) for name in image_columns if name in names), None)
        start, number = lines.position, 0
        for cells in rows:
            # The reader takes no line before it needs it, so this is where the row ends.
            end = lines.position
            if cells:
                if len(cells) != len(names):
                    raise csv.Error(f"row {number} has {len(cells)} cells, but there are {len(names)} columns")
                images: tuple[ImageReference, ...] = ()
                values = dict(zip(names, cells, strict=True))
                if column is not None and len(cells[column]) > POINTER_LENGTH:
                    values[names[column]] = ""
                    uri = _uri(path, number, 0, 1)
                    images = (CellImage(uri, str(path), start, end - start, column, limits),)
                yield values, images
                number += 1
            start = end


def _json(path: Path, image_columns: tuple[str, ...], root: str, limits: PixelLimits) -> _Parsed:
    with path.open("rb") as file:
        start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    if path.suffix.lower() == ".json" and start.startswith(b"{"):
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise DataError(f"'{path}' is no JSON ({error}); get the file again.") from error
        rows: Iterator[Mapping[str, Any]] = ({"pid": key} | value for key, value in content.items())
    else:
        rows = _json_rows(path)
    for values in rows:
        yield dict(values), _from_paths(values, image_columns, root, limits)


def _json_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    for row in JsonRows(path):
        if row.error is not None:
            raise DataError(f"'{path}': row {row.number} cannot be read ({row.error.detail}); get the file again.")
        yield row.values
