"""Prompts on disk: an Arrow table that is memory-mapped, made once from a data set's rows and kept in a cache folder.

    <cache>/<key>/prompts.arrow       one row a prompt
    <cache>/<key>/quarantine.jsonl    the rows that could not be used
    <cache>/<key>/manifest.json       counts

The key depends on the data, and on how it is read, so that several sources (splits) and several runs share one table.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mstar.errors import DataError
from mstar.prompts.json_rows import RawRow
from mstar.prompts.quarantine import BadRow, Reason
from mstar.storage import read_json

__all__ = ["SCHEMA", "DatasetPictures", "PromptTable", "TablePictures", "hash_id"]

SCHEMA: Final = pa.schema(
    [
        ("id", pa.string()),
        ("key", pa.uint64()),
        ("row", pa.int64()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("answer_type", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("answer_is", pa.string()),
        ("relative_tolerance", pa.float64()),
        ("absolute_tolerance", pa.float64()),
        ("precision", pa.int32()),
        ("unit", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("rationale", pa.string()),
        ("category", pa.string()),
        ("images", pa.list_(pa.string())),
        ("pictures", pa.list_(pa.binary())),
        ("turns", pa.list_(pa.struct([("role", pa.string()), ("text", pa.string())]))),
    ]
)
# All but the pictures' bytes, which are read for one picture at a time.
_LIGHT: Final = tuple(name for name in SCHEMA.names if name not in ("pictures", "key"))


def hash_id(prompt_id: str, salt: str = "") -> int:
    """64 bits of a prompt id: the key that it is found by, and with a salt its place in a random order."""
    return int.from_bytes(hashlib.blake2b(f"{salt}{prompt_id}".encode(), digest_size=8).digest(), "little")


class PromptTable:
    """A table that ``build_table`` made, memory-mapped through ``datasets``.

    Args:
        folder: Its folder.
        name: What the data is called in messages.
    """

    def __init__(self, folder: Path, name: str) -> None:
        from datasets import Dataset

        self.folder = folder
        self.name = name
        manifest = read_json(folder / "manifest.json")
        self.total: int = manifest["rows"]
        self.repeated: int = manifest["repeated"]
        self.bad = Counter({Reason(reason): number for reason, number in manifest["bad"].items()})
        self.ignored: dict[str, tuple[int, int, str]] = manifest["ignored"]
        data = Dataset.from_file(str(folder / "prompts.arrow"))
        self._light = data.select_columns(list(_LIGHT)).data
        self._ids = data.select_columns(["id"]).data
        self.keys: NDArray[np.uint64] = data.data.column("key").to_numpy()

    def __len__(self) -> int:
        return len(self.keys)

    def row(self, index: int) -> dict[str, Any]:
        """The light columns of one row."""
        found: dict[str, Any] = self._light.fast_slice(index, 1).to_pylist()[0]
        return found

    def id(self, index: int) -> str:
        """The id in one row; much faster than the whole row."""
        return str(self._ids.fast_slice(index, 1).column(0)[0].as_py())

    def rows(self, start: int, stop: int) -> list[dict[str, Any]]:
        """The light columns of neighbouring rows."""
        found: list[dict[str, Any]] = self._light.fast_slice(start, stop - start).to_pylist()
        return found

    def column(self, name: str) -> Any:
        """One light column, as an Arrow array in chunks."""
        return self._light.column(name)

    def bad_rows(self) -> Iterator[BadRow]:
        """The rows that could not be put into the table."""
        with (self.folder / "quarantine.jsonl").open(encoding="utf-8") as file:
            for line in file:
                value = json.loads(line)
                yield BadRow(value["row"], Reason(value["reason"]), value["detail"], value["content"])


class TablePictures:
    """The pictures whose bytes are in a table; opened when the first is read, and sent to a process by its path.

    Args:
        folder: The table's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._column: Any = None

    def __reduce__(self) -> tuple[type[TablePictures], tuple[Path]]:
        return TablePictures, (self.folder,)

    def read(self, index: int, place: int) -> bytes:
        """The bytes of one picture.

        Args:
            index: The prompt's row in the table.
            place: The picture's number in the prompt.
        """
        if self._column is None:
            from datasets import Dataset

            self._column = Dataset.from_file(str(self.folder / "prompts.arrow")).select_columns(["pictures"]).data
        [row] = self._column.fast_slice(index, 1).to_pylist()
        picture: bytes = row["pictures"][place]
        return picture


class RowPictures(Protocol):
    """Finds the pictures of a row."""

    def pictures(self, row: RawRow) -> tuple[bytes | None, ...]:
        """For every picture its bytes, or None for a path; empty if all are paths."""


class DatasetPictures:
    """The pictures in the rows of a ``datasets.Dataset``.

    Args:
        data: The data set.
        reader: Finds the pictures of its rows.
        folder: The folder of the table whose rows are asked for.
    """

    def __init__(self, data: Any, reader: RowPictures, folder: Path) -> None:
        self.data = data
        self.reader = reader
        self.folder = folder
        self._numbers: Any = None

    def __reduce__(self) -> tuple[type[DatasetPictures], tuple[Any, RowPictures, Path]]:
        return DatasetPictures, (self.data, self.reader, self.folder)

    def read(self, index: int, place: int) -> bytes:
        """The bytes of one picture; see ``PictureStore``."""
        if self._numbers is None:
            from datasets import Dataset

            table = Dataset.from_file(str(self.folder / "prompts.arrow"))
            self._numbers = table.data.column("row").to_numpy()
        number = int(self._numbers[index])
        pictures = self.reader.pictures(RawRow(number, self.data[number]))
        if not pictures or (picture := pictures[place]) is None:
            raise DataError(f"picture {place} of row {index} is a path, and its bytes were expected.")
        return picture
