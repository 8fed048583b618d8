"""Makes the table of a data set's prompts, once for all that read it."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from mstar.cache import cache_root
from mstar.prompts.json_rows import RawRow
from mstar.prompts.prompt_table import SCHEMA, hash_id
from mstar.prompts.quarantine import BadRow, Reason, RowError, write_quarantine
from mstar.provenance import fingerprint
from mstar.storage import write_json
from mstar.types import AnswerIs, AnswerType, Tolerance, Turn

__all__ = ["PromptRecord", "build_table", "cache_folder", "content_id"]

_FORMAT: Final = 5
_BATCH: Final = 2048


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """One prompt as the table holds it.

    Attributes:
        id: Unique in the table; empty where it follows from the content.
        content: A short hash of what is asked (``content_id``). Rows with the same are one prompt.
        question: The question, with its choices where it has some.
        answer: The gold answer, or None where the data has none.
        answer_type: How it is compared.
        answers: Further answers that are right.
        answer_is: How the answer names its option, or None.
        tolerance: How far a number may be off, or None.
        precision: Decimals that it is asked for, or None.
        unit: The unit that it is asked for in, or None.
        choices: The options' texts.
        rationale: A response to imitate, or None.
        category: A group for reports.
        images: For every picture its path below the image folder, or None where its bytes are in the data.
        pictures: For every picture its bytes, where they must be kept in the table; else empty.
        id_guessed: Whether the column of the id was not named by the user. Where such an id comes again with something
            else, that gets an id of its own.
        turns: What was said before the question.
        ignored: Values that were not read because they make no sense, as (role, what is wrong).
    """

    question: str
    content: str
    id: str = ""
    answer: str | None = None
    answer_type: AnswerType = AnswerType.TEXT
    answers: tuple[str, ...] = ()
    answer_is: AnswerIs | None = None
    tolerance: Tolerance | None = None
    precision: int | None = None
    unit: str | None = None
    choices: tuple[str, ...] = ()
    rationale: str | None = None
    category: str = ""
    images: tuple[str | None, ...] = ()
    pictures: tuple[bytes | None, ...] = ()
    id_guessed: bool = False
    turns: tuple[Turn, ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()


def content_id(*parts: object) -> str:
    """A stable id of 16 hexadecimal digits from the parts of a prompt's content."""
    digest = hashlib.blake2b(digest_size=8)
    # Half a surrogate pair, which JSON can hold, is found by _check_text when the row has its id.
    for part in parts:
        value = part if isinstance(part, bytes) else str(part).encode(errors="surrogatepass")
        digest.update(len(value).to_bytes(8, "little") + value)
    return digest.hexdigest()


def cache_folder(cache_dir: str | None, *facts: object) -> Path:
    """The folder for what follows from these facts.

    Args:
        cache_dir: The folder of all caches; None is ``$MSTAR_CACHE``, else ``mstar`` in the user's cache folder.
        facts: All that the content depends on.
    """
    return cache_root(cache_dir) / "prompts" / fingerprint(_FORMAT, *facts)


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
    # Not tempfile.mkdtemp: its folders are the owner's alone, and a cache may be shared.
    made = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    made.mkdir()
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
            {"rows": self.total, "bad": dict(counts), "repeated": self.repeated, "ignored": self.ignored},
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
                prompt_id = record.id or record.content
                if record.id_guessed and self._is_taken(prompt_id, record):
                    prompt_id = f"{record.id}-{record.content}"
                key = hash_id(prompt_id)
                for role, detail in record.ignored:
                    count, first, said = self.ignored.get(role, (0, row.number, detail))
                    self.ignored[role] = (count + 1, first, said)
                if self._is_new(row, record, key):
                    yield row.number, key, replace(record, id=prompt_id)
            except RowError as error:
                self.bad.append(BadRow(row.number, error.reason, error.detail, row.text or _plain(row.values)))

    def _is_taken(self, prompt_id: str, record: PromptRecord) -> bool:
        found = self.first.get(hash_id(prompt_id))
        return found is not None and found[1] != record.content

    def _is_new(self, row: RawRow, record: PromptRecord, key: int) -> bool:
        if key not in self.first:
            self.first[key] = (row.number, record.content, record.answer, 1)
            return True
        number, content, answer, count = self.first[key]
        if record.id and not record.id_guessed:
            raise RowError(Reason.DUPLICATE_ID, f"the id '{record.id}' is that of row {number}")
        if key in self.conflicts:
            self.conflicts[key][str(record.answer)] += 1
        elif _fold(answer) != _fold(record.answer):
            self.conflicts[key] = Counter({str(answer): count, str(record.answer): 1})
            self.repeated -= count - 1
        else:
            self.first[key] = (number, content, answer, count + 1)
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
        said = (turn.text for turn in record.turns)
        for text in (*texts, *record.choices, *record.answers, *record.images, *said):
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
                    "answers": list(record.answers),
                    "answer_is": record.answer_is,
                    "relative_tolerance": record.tolerance.relative if record.tolerance else None,
                    "absolute_tolerance": record.tolerance.absolute if record.tolerance else None,
                    "precision": record.precision,
                    "unit": record.unit,
                    "choices": list(record.choices),
                    "rationale": record.rationale,
                    "category": record.category,
                    "images": list(record.images),
                    "pictures": list(record.pictures) or None,
                    "turns": [{"role": turn.role, "text": turn.text} for turn in record.turns],
                }
            )
            size += sum(len(picture or b"") for picture in record.pictures)
            if len(rows) == _BATCH or size > 1 << 26:
                yield pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
                rows, size = [], 0
        yield pa.RecordBatch.from_pylist(rows, schema=SCHEMA)

    _write_batches(path, batches())


def _write_batches(path: Path, batches: Iterable[Any]) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch)
