"""Prompts on disk: an Arrow table that is memory-mapped, made once from a data set's rows and kept in a cache folder.

    <cache>/<key>/prompts.arrow       one row a prompt
    <cache>/<key>/quarantine.jsonl    the rows that could not be used
    <cache>/<key>/manifest.json       counts
    <cache>/<key>/pictures-*.json     pictures that one process finds unusable, for those that wait for it
    <cache>/<key>/bad_rows-*.jsonl    the rows that could not be used, those with such pictures among them

The key depends on the data, and on how it is read, so that several sources (splits) and several runs share one table.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mstar.atomic import sync
from mstar.errors import StorageError
from mstar.prompts.quarantine import BadRow, Reason, RowError, read_quarantine, write_quarantine
from mstar.prompts.table_rows import Row
from mstar.provenance import fingerprint
from mstar.storage import read_json, write_json
from mstar.storage.responses import GOLD, gold
from mstar.types import Prompt

_SCHEMA: Final = pa.schema(
    [
        ("id", pa.string()),
        ("key", pa.uint64()),
        ("row", pa.int64()),
        ("question", pa.string()),
        ("answer", pa.string()),
        *GOLD,
        ("rationale", pa.string()),
        ("category", pa.string()),
        ("images", pa.list_(pa.string())),
        ("pictures", pa.list_(pa.binary())),
        ("turns", pa.list_(pa.struct([("role", pa.string()), ("text", pa.string())]))),
    ]
)
# All but the pictures' bytes, which are read for one picture at a time.
_LIGHT: Final = tuple(name for name in _SCHEMA.names if name not in ("pictures", "key"))
_FORMAT: Final = 12
# What tells apart the ids of rows that ask the same.
_APART: Final = re.compile(r"~[0-9a-f]{16}\Z")
_BATCH: Final = 2048


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """One prompt on its way into the table.

    Attributes:
        prompt: The prompt without its pictures. Its id is empty where it follows from the content.
        content: A short hash of what is asked (``content_id``), and behind ``~`` one of the rationale, if there is one.
            Rows with the same are one prompt.
        images: For every picture its path below the image folder, or its bytes.
        id_guessed: Whether the column of the id was not named by the user. Where such an id comes again with something
            else, that gets an id of its own.
        ignored: Values that were not read because they make no sense, as (role, what is wrong).
    """

    prompt: Prompt
    content: str
    images: tuple[str | bytes, ...] = ()
    id_guessed: bool = False
    ignored: tuple[tuple[str, str], ...] = ()


Convert = Callable[[Mapping[str, Any]], PromptRecord]


def hash_id(prompt_id: str, salt: str = "") -> int:
    """64 bits of a prompt id: the key that it is found by, and with a salt its place in a random order."""
    return int.from_bytes(hashlib.blake2b(f"{salt}{prompt_id}".encode(), digest_size=8).digest(), "little")


def asked_id(prompt_id: str) -> str:
    """An id without what tells apart rows that ask the same, or that have one guessed id."""
    return _APART.sub("", prompt_id)


def content_id(*parts: object) -> str:
    """A stable id of 16 hexadecimal digits from the parts of a prompt's content."""
    digest = hashlib.blake2b(digest_size=8)
    # Half a surrogate pair, which JSON can hold, is found by _check_text when the row has its id.
    for part in parts:
        value = part if isinstance(part, bytes) else str(part).encode(errors="surrogatepass")
        digest.update(len(value).to_bytes(8, "little") + value)
    return digest.hexdigest()


def cache_root() -> Path:
    """The folder of all caches: ``$MSTAR_CACHE``, else ``mstar`` in the user's cache folder."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(os.environ.get("MSTAR_CACHE") or os.path.join(caches, "mstar")))


def cache_folder(*facts: object) -> Path:
    """The folder for what follows from these facts, in the folder of all caches (``cache_root``)."""
    return cache_root() / "prompts" / fingerprint(_FORMAT, *facts)


def make_cache_folder(folder: Path) -> None:
    """Makes a folder in the folder of all caches, unless it is there.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise StorageError(f"the cache '{folder}' cannot be made ({why}): set MSTAR_CACHE to another.") from error


def build_table(folder: Path, rows: Iterable[Row], convert: Convert) -> None:
    """Makes the table of a data set, unless it is there already.

    Rows of equal content are one prompt. If their answers differ, none of them is used, because it is not known which
    answer is right; they stand in the quarantine file as one group.
    Nothing is in the folder if this fails.

    Raises:
        StorageError: nothing can be made where the folder is to be.
    """
    if (folder / "manifest.json").is_file():
        return
    # Not tempfile.mkdtemp: its folders are the owner's alone, and a cache may be shared.
    made = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    make_cache_folder(made)
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
    # By the key of an id: the number of its first row, what it asks, its answer, and how many rows said so.
    first: dict[int, tuple[int, str, str | None, int]] = field(default_factory=dict)
    # By role: how many values were not read, the first row of them, and what is wrong there.
    ignored: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    conflicts: dict[int, Counter[str]] = field(default_factory=dict)

    def run(self, rows: Iterable[Row], convert: Convert) -> None:
        path, draft = self.folder / "prompts.arrow", self.folder / "draft.arrow"
        _write_batches(draft, _batches(self._records(rows, convert)))
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
            {"rows": self.total, "bad": dict(counts), "repeated": self.repeated, "ignored": self.ignored},
        )

    def _records(self, rows: Iterable[Row], convert: Convert) -> Iterator[tuple[int, str, PromptRecord]]:
        for number, row in enumerate(rows):
            self.total += 1
            try:
                if isinstance(row, RowError):
                    raise row
                record = convert(row)
                _check_text(record)
                prompt_id = record.prompt.id or record.content
                known = self.first.get(hash_id(prompt_id))
                if record.id_guessed and known is not None and known[1] != record.content:
                    prompt_id = f"{prompt_id}~{content_id(record.content)}"
                for role, detail in record.ignored:
                    count, first, said = self.ignored.get(role, (0, number, detail))
                    self.ignored[role] = (count + 1, first, said)
                if self._is_new(number, record, hash_id(prompt_id)):
                    yield number, prompt_id, record
            except RowError as error:
                values = {} if isinstance(row, RowError) else {k: v for k, v in row.items() if v is not None}
                self.bad.append(BadRow(number, error.reason, error.detail, error.content or values))

    def _is_new(self, row: int, record: PromptRecord, key: int) -> bool:
        answer = record.prompt.answer
        if key not in self.first:
            self.first[key] = (row, record.content, answer, 1)
            return True
        number, content, known, count = self.first[key]
        if record.prompt.id and not record.id_guessed:
            raise RowError(Reason.DUPLICATE_ID, f"the id '{record.prompt.id}' is that of row {number}")
        if key in self.conflicts:
            self.conflicts[key][str(answer)] += 1
        elif _fold(known) != _fold(answer):
            self.conflicts[key] = Counter({str(known): count, str(answer): 1})
            self.repeated -= count - 1
        else:
            self.first[key] = (number, content, known, count + 1)
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
    prompt = record.prompt
    texts = (prompt.id, prompt.question, prompt.answer, prompt.unit, prompt.rationale, prompt.category)
    said = (turn.text for turn in prompt.turns)
    try:
        for text in (*texts, *prompt.choices, *prompt.answers, *record.images, *said):
            if isinstance(text, str):
                text.encode()
    except UnicodeEncodeError as error:
        raise RowError(Reason.BAD_TEXT, f"the text is no valid Unicode: {error}") from error


def _batches(records: Iterable[tuple[int, str, PromptRecord]]) -> Iterator[Any]:
    rows: list[dict[str, Any]] = []
    size = 0
    for number, prompt_id, record in records:
        prompt, pictures = record.prompt, [image if isinstance(image, bytes) else None for image in record.images]
        rows.append(
            gold(prompt)
            | {
                "id": prompt_id,
                "key": hash_id(prompt_id),
                "row": number,
                "question": prompt.question,
                "answer": prompt.answer,
                "rationale": prompt.rationale,
                "category": prompt.category,
                "images": [image if isinstance(image, str) else None for image in record.images],
                "pictures": pictures if any(pictures) else None,
                "turns": [asdict(turn) for turn in prompt.turns],
            }
        )
        size += sum(len(picture or b"") for picture in pictures)
        if len(rows) == _BATCH or size > 1 << 26:
            yield pa.RecordBatch.from_pylist(rows, schema=_SCHEMA)
            rows, size = [], 0
    yield pa.RecordBatch.from_pylist(rows, schema=_SCHEMA)


def _write_batches(path: Path, batches: Iterable[Any]) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, _SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch)
    # The folder gets its name next. If the machine crashed then, the end of the file could be zeros, which for Arrow
    # are the end of the table: it would have fewer prompts, without an error.
    sync(path)


class PromptTable:
    """A table that ``build_table`` made, memory-mapped through ``datasets``; ``name`` is for messages."""

    def __init__(self, folder: Path, name: str) -> None:
        from datasets import Dataset

        self.folder = folder
        self.name = name
        self.quarantine = folder / "quarantine.jsonl"
        manifest = read_json(folder / "manifest.json")
        self.total: int = manifest["rows"]
        self.repeated: int = manifest["repeated"]
        self.ignored: dict[str, tuple[int, int, str]] = manifest["ignored"]
        data = Dataset.from_file(str(folder / "prompts.arrow"))
        self._light = data.select_columns(list(_LIGHT)).data
        self.keys: NDArray[np.uint64] = data.data.column("key").to_numpy()

    def __len__(self) -> int:
        return len(self.keys)

    def row(self, index: int) -> dict[str, Any]:
        """The light columns of one row."""
        return self.rows(index, index + 1)[0]

    def rows(self, start: int, stop: int) -> list[dict[str, Any]]:
        """The light columns of neighbouring rows."""
        found: list[dict[str, Any]] = self._light.fast_slice(start, stop - start).to_pylist()
        return found

    def column(self, name: str) -> Any:
        """One light column, as an Arrow array in chunks."""
        return self._light.column(name)

    def bad_rows(self) -> Iterator[BadRow]:
        """The rows that could not be put into the table."""
        return read_quarantine(self.quarantine)
