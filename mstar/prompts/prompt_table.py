"""Prompts on disk: an Arrow table that is memory-mapped, made once from a data set's rows and kept in a cache folder.

    <cache>/<key>/prompts.arrow       one row a prompt
    <cache>/<key>/quarantine.jsonl    the rows that could not be used
    <cache>/<key>/manifest.json       counts

The key depends on the data, and on how it is read, so that several sources (splits) and several runs share one table.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mstar.prompts.quarantine import BadRow, Reason, RowError, write_quarantine
from mstar.prompts.raw_rows import RawRow
from mstar.storage import read_json, write_json
from mstar.types import AnswerType

__all__ = [
    "PromptRecord",
    "PromptTable",
    "TablePictures",
    "build_table",
    "cache_folder",
    "content_id",
    "hash_id",
]

_FORMAT: Final = 2
_BATCH: Final = 2048
_SCHEMA: Final = pa.schema(
    [
        ("id", pa.string()),
        ("key", pa.uint64()),
        ("row", pa.int64()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("answer_type", pa.string()),
        ("precision", pa.int32()),
        ("unit", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("rationale", pa.string()),
        ("category", pa.string()),
        ("images", pa.list_(pa.string())),
        ("pictures", pa.list_(pa.binary())),
    ]
)
# All but the pictures' bytes, which are read for one picture at a time.
LIGHT: Final = tuple(name for name in _SCHEMA.names if name not in ("pictures", "key"))


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """One prompt as the table holds it.

    Attributes:
        id: Unique in the table.
        question: The question, with its choices where it has some.
        answer: The gold answer, or None where the data has none.
        answer_type: How it is compared.
        precision: Decimals that it is asked for, or None.
        unit: The unit that it is asked for in, or None.
        choices: The options' texts.
        rationale: A response to imitate, or None.
        category: A group for reports.
        images: For every picture its path below the image folder, or None where its bytes are in the data.
        pictures: For every picture its bytes, where they must be kept in the table; else empty.
        id_given: Whether the data gave the id; if not, it follows from the content, and equal ids are repetitions.
    """

    id: str
    question: str
    answer: str | None = None
    answer_type: AnswerType = AnswerType.TEXT
    precision: int | None = None
    unit: str | None = None
    choices: tuple[str, ...] = ()
    rationale: str | None = None
    category: str = ""
    images: tuple[str | None, ...] = ()
    pictures: tuple[bytes | None, ...] = ()
    id_given: bool = False


def content_id(*parts: object) -> str:
    """A stable id of 16 hexadecimal digits from the parts of a prompt's content."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        value = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(value).to_bytes(8, "little") + value)
    return digest.hexdigest()


def hash_id(prompt_id: str, salt: str = "") -> int:
    """64 bits of a prompt id: the key that it is found by, and with a salt its place in a random order."""
    return int.from_bytes(hashlib.blake2b(f"{salt}{prompt_id}".encode(), digest_size=8).digest(), "little")


def cache_folder(cache_dir: str | None, *facts: object) -> Path:
    """The folder for what follows from these facts.

    Args:
        cache_dir: The folder of all caches; None is ``$MSTAR_CACHE``, else ``mstar`` in the user's cache folder.
        facts: All that the content depends on.
    """
    default = os.environ.get("MSTAR_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "mstar"
    )
    return Path(cache_dir or default) / "prompts" / content_id(_FORMAT, *(repr(fact) for fact in facts))


def build_table(folder: Path, rows: Iterable[RawRow], convert: Callable[[RawRow], PromptRecord]) -> None:
    """Makes the table of a data set, unless it is there already.

    Rows of equal content are one prompt. If their answers differ, none of them is used, because it is not known which
    answer is right; they stand in the quarantine file as one group.

    Args:
        folder: Where the table is put; nothing is there if this fails.
        rows: The data set's rows.
        convert: Makes a prompt of a row, or raises RowError.
    """
    if (folder / "manifest.json").is_file():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _Builder(made).run(rows, convert)
        try:
            made.rename(folder)
        except OSError:
            # Another process was faster; the tables are the same.
            if not (folder / "manifest.json").is_file():
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


@dataclass(slots=True)
class _Builder:
    folder: Path
    total: int = 0
    repeated: int = 0
    bad: list[BadRow] = field(default_factory=list)
    # By the key of an id: the number of its first row, its answer, and how many rows said so.
    first: dict[int, tuple[int, str | None, int]] = field(default_factory=dict)
    conflicts: dict[int, Counter[str]] = field(default_factory=dict)

    def run(self, rows: Iterable[RawRow], convert: Callable[[RawRow], PromptRecord]) -> None:
        path, draft = self.folder / "prompts.arrow", self.folder / "draft.arrow"
        _write(draft, self._records(rows, convert))
        if self.conflicts:
            with pa.memory_map(str(draft)) as source:
                _write_batches(path, self._settled(pa.ipc.open_stream(source)))
            draft.unlink()
        else:
            draft.rename(path)
        self.bad.sort(key=lambda row: row.row or 0)
        write_quarantine(self.folder / "quarantine.jsonl", self.bad)
        counts = Counter(row.reason.value for row in self.bad)
        write_json(
            self.folder / "manifest.json",
            {"rows": self.total, "bad": dict(counts), "repeated": self.repeated},
        )

    def _records(
        self, rows: Iterable[RawRow], convert: Callable[[RawRow], PromptRecord]
    ) -> Iterator[tuple[int, int, PromptRecord]]:
        for row in rows:
            self.total += 1
            try:
                if row.error is not None:
                    raise row.error
                record = convert(row)
                _check_text(record)
                key = hash_id(record.id)
                if self._is_new(row, record, key):
                    yield row.number, key, record
            except RowError as error:
                self.bad.append(BadRow(row.number, error.reason, error.detail, row.text or _plain(row.values)))

    def _is_new(self, row: RawRow, record: PromptRecord, key: int) -> bool:
        if key not in self.first:
            self.first[key] = (row.number, record.answer, 1)
            return True
        number, answer, count = self.first[key]
        if record.id_given:
            raise RowError(Reason.DUPLICATE_ID, f"the id '{record.id}' is that of row {number}")
        if key in self.conflicts:
            self.conflicts[key][str(record.answer)] += 1
        elif _fold(answer) != _fold(record.answer):
            self.conflicts[key] = Counter({str(answer): count, str(record.answer): 1})
            self.repeated -= count - 1
        else:
            self.first[key] = (number, answer, count + 1)
            self.repeated += 1
        return False

    def _settled(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches without the prompts whose answers contradict each other."""
        keys = pa.array(list(self.conflicts), pa.uint64())
        for batch in batches:
            found = pc.is_in(batch.column("key"), keys)
            for row in batch.select(["id", "key", "row", "question", "images"]).filter(found).to_pylist():
                answers = dict(self.conflicts[row.pop("key")])
                detail = f"{sum(answers.values())} rows ask this, with {len(answers)} different answers"
                self.bad.append(BadRow(row.pop("row"), Reason.CONFLICTING_ANSWERS, detail, row | {"answers": answers}))
            yield batch.filter(pc.invert(found))


def _fold(answer: str | None) -> str | None:
    return None if answer is None else " ".join(answer.casefold().split())


def _check_text(record: PromptRecord) -> None:
    texts = (record.id, record.question, record.answer, record.unit, record.rationale, record.category)
    try:
        for text in (*texts, *record.choices, *record.images):
            if text is not None:
                text.encode()
    except UnicodeEncodeError as error:
        raise RowError(Reason.BAD_TEXT, f"the text is no valid Unicode: {error}") from error


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _write(path: Path, records: Iterable[tuple[int, int, PromptRecord]]) -> None:
    def batches() -> Iterator[Any]:
        rows: list[dict[str, Any]] = []
        size = 0
        for number, key, record in records:
            rows.append(
                {
                    "id": record.id,
                    "key": key,
                    "row": number,
                    "question": record.question,
                    "answer": record.answer,
                    "answer_type": record.answer_type.value,
                    "precision": record.precision,
                    "unit": record.unit,
                    "choices": list(record.choices),
                    "rationale": record.rationale,
                    "category": record.category,
                    "images": list(record.images),
                    "pictures": list(record.pictures) or None,
                }
            )
            size += sum(len(picture or b"") for picture in record.pictures)
            if len(rows) == _BATCH or size > 1 << 26:
                yield pa.RecordBatch.from_pylist(rows, schema=_SCHEMA)
                rows, size = [], 0
        yield pa.RecordBatch.from_pylist(rows, schema=_SCHEMA)

    _write_batches(path, batches())


def _write_batches(path: Path, batches: Iterable[Any]) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, _SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch)


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
        data = Dataset.from_file(str(folder / "prompts.arrow"))
        self._light = data.select_columns(list(LIGHT)).data
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
