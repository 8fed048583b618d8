"""JSON and Parquet files that are whole or not there, and are checked when they are read."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mstar.atomic import atomic_path, write_text
from mstar.errors import DataError, StorageError
from mstar.file_faults import find_fault
from mstar.types import Prompt

T = TypeVar("T")

_log: Final = logging.getLogger(__name__)
# What was asked, for people who read a file.
ASKED = pa.schema(
    [
        ("question", pa.string()),
        ("images", pa.list_(pa.string())),
        ("answer", pa.string()),
        ("category", pa.string()),
    ]
)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        DataError: the file is missing or is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} {find_fault(path) or f'is not a JSON file: {error}'}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds a JSON {type(value).__name__}, but an object is expected.")
    return value


def write_table(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """Writes rows as Parquet, with checksums, atomically."""
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, write_page_checksum=True)


def read_table(
    path: Path, schema: pa.Schema, optional: Sequence[str] = (), prompt_ids: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Reads the rows of a Parquet file, in the columns of a schema.

    Args:
        prompt_ids: Reads the rows of these prompts alone; None reads all.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    with open_table(path, schema) as file:
        there = [name for name in optional if name in file.schema_arrow.names]
        table = file.read([*schema.names, *there])
    if prompt_ids is not None:
        table = table.filter(pc.is_in(table["prompt_id"], pa.array(prompt_ids, pa.string())))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


@contextmanager
def open_table(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file that has the columns of a schema.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
        StorageError: it may not be read.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            missing = [name for name in schema.names if name not in names]
            if missing:
                raise DataError(f"{path} lacks the columns {missing}; it has {names}.")
            yield file
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except PermissionError as error:
        # It may be whole: it is neither to be deleted nor to be made again.
        raise StorageError(f"{path} cannot be read (Permission denied): mend its permissions.") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        # Arrow reports a damaged footer or page as a plain OSError.
        fault = find_fault(path) or f"cannot be read as Parquet ({error})"
        raise DataError(f"{path} {fault}.") from error


def read_or_put_aside(path: Path, read: Callable[[Path], T]) -> T | None:
    """Reads a shard that can be made again.

    Returns:
        What was read; None if there is no such shard, or if it is damaged and was therefore put aside.
    """
    if not path.exists():
        return None
    try:
        return read(path)
    except DataError as error:
        _log.warning("%s It is put aside as %s.damaged, and made again.", error, path.name)
        # Another process of the same run may have been faster.
        with suppress(FileNotFoundError):
            path.replace(path.with_name(f"{path.name}.damaged"))
        return None


def asked(prompt: Prompt) -> dict[str, Any]:
    """A prompt's row of the columns ``ASKED``."""
    return {
        "question": prompt.question,
        "images": [image.uri for image in prompt.images],
        "answer": prompt.answer,
        "category": prompt.category,
    }
