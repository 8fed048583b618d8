"""Pictures inside a benchmark's files, left on disk.

A reference says where in the file its picture is, and nothing else, so that a prompt can be handed to another process.
"""

from __future__ import annotations

import base64
import binascii
import csv
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mstar.errors import DataError
from mstar.prompts.images import FileImage, PixelLimits, decode_image

__all__ = ["CellImage", "ParquetImage", "SavedImage", "parse_tsv", "saved_table"]

_LONGEST_CELL: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class CellImage:
    """A picture that is a base64 cell of a TSV.

    Attributes:
        uri: ``<file name>#<row number>``.
        path: The file.
        start: Where the row begins, in bytes.
        length: How long it is.
        column: The number of the cell.
        limits: How many pixels the decoded picture has.
    """

    uri: str
    path: str
    start: int
    length: int
    column: int
    limits: PixelLimits

    def load(self) -> Image.Image:
        """Decodes the picture.

        Raises:
            DataError: the file has changed, or the cell is no picture.
        """
        with open(self.path, "rb") as file:
            file.seek(self.start)
            content = file.read(self.length)
        cells = next(parse_tsv(iter([content.decode("utf-8-sig", errors="replace")])), [])
        if len(cells) <= self.column:
            raise DataError(f"The image '{self.uri}' is not where it was in '{self.path}'; start again.")
        try:
            data = base64.b64decode(cells[self.column].partition(";base64,")[2] or cells[self.column])
        except binascii.Error as error:
            raise DataError(f"The image '{self.uri}' is no base64 text ({error}); get the file again.") from error
        return decode_image(data, self.uri, self.limits)


@dataclass(frozen=True, slots=True)
class _TableImage(ABC):
    """A picture that is a cell of a table: bytes, or the ``{bytes, path}`` of ``datasets``, or a list of them.

    Attributes:
        uri: ``<name of the file or folder>#<row number>``, with the picture's number where there are several.
        path: The file or folder.
        row: The row's number.
        place: The picture's number in a cell with several.
        column: The column.
        image_root: The folder of a picture whose cell holds its path alone.
        limits: How many pixels the decoded picture has.
    """

    uri: str
    path: str
    row: int
    place: int
    column: str
    image_root: str
    limits: PixelLimits

    def load(self) -> Image.Image:
        """Decodes the picture.

        Raises:
            DataError: the cell is empty or no picture.
        """
        cell = self._cell()
        if isinstance(cell, list):
            cell = cell[self.place]
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if isinstance(data, bytes):
            return decode_image(data, self.uri, self.limits)
        path = cell.get("path") if isinstance(cell, dict) else None
        if not path:
            raise DataError(f"The image '{self.uri}' is missing from '{self.path}'; get the file again.")
        return FileImage(path, self.image_root, self.limits).load()

    @abstractmethod
    def _cell(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class ParquetImage(_TableImage):
    """A picture in a Parquet file; its row is counted in the row group.

    Attributes:
        group: The number of the row group.
    """

    group: int

    def _cell(self) -> Any:
        return _row_group(self.path, self.group, self.column)[self.row].as_py()


@dataclass(frozen=True, slots=True)
class SavedImage(_TableImage):
    """A picture in a folder that ``datasets`` saved."""

    def _cell(self) -> Any:
        return saved_table(self.path).column(self.column)[self.row].as_py()


# Rows are mostly read in order, so the pictures of a row group are read from the disk once.
@lru_cache(maxsize=2)
def _row_group(path: str, group: int, column: str) -> pa.ChunkedArray:
    return pq.ParquetFile(path).read_row_group(group, columns=[column]).column(column)


@lru_cache(maxsize=2)
def saved_table(path: str) -> pa.Table:
    """The table of a data set that ``datasets`` saved, memory-mapped."""
    import datasets

    return datasets.load_from_disk(path).data.table


def parse_tsv(lines: Iterator[str]) -> Iterator[list[str]]:
    """The cells of every row of a TSV."""
    # The limit is the process's; a smaller one is of no use to anybody here.
    csv.field_size_limit(_LONGEST_CELL)
    return csv.reader(lines, delimiter="\t")
