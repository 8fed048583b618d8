"""A prompt source on a memory-mapped table: a prompt is built when it is asked for, a picture when it is loaded."""

from __future__ import annotations

import logging
import os
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from mstar.errors import DataError, StorageError, require_share
from mstar.locking import do_once
from mstar.prompts.base import PromptSource
from mstar.prompts.facts import ColumnChoice, SourceFacts, UnusableSourceError, explain_bad_row, first_of_each
from mstar.prompts.hidden import hide_answers
from mstar.prompts.image_check import ImageCheck, check_files
from mstar.prompts.images import FileImage, PixelLimits, decode_image
from mstar.prompts.prompt_table import PromptTable, hash_id
from mstar.prompts.quarantine import BadRow, PutAside, Reason, RowError, write_quarantine
from mstar.provenance import fingerprint
from mstar.types import AnswerIs, AnswerType, ImageReference, Prompt, Tolerance, Turn

_log: Final = logging.getLogger(__name__)

_CHUNK: Final = 1024
# Rows from which on it is worth a file that processes look at the pictures once for all.
_MANY: Final = 1000


@dataclass(frozen=True, slots=True)
class TableSettings:
    """How a table's prompts are checked and shown: the settings of ``RecordPrompts`` of these names.

    Attributes:
        linked: Further folders that links in the image folder may lead into.
    """

    image_root: str
    check_images: ImageCheck
    max_bad_share: float | None
    quarantine: str | None
    pixels: PixelLimits
    instruction: str
    linked: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_share("max_bad_share", self.max_bad_share)


@dataclass(frozen=True, eq=False)
class CheckedTable:
    """A table, the rows of it whose pictures are usable, and how they are shown.

    Attributes:
        facts: What is known of it, without the kinds of its prompts.
    """

    table: PromptTable
    usable: NDArray[np.bool_]
    facts: SourceFacts
    settings: TableSettings


# Splits of one data set share its table, and what is wrong with it is said once.
_OPEN: WeakValueDictionary[tuple[str, TableSettings], CheckedTable] = WeakValueDictionary()


def open_table(
    folder: Path,
    name: str,
    settings: TableSettings,
    *,
    mention_repeats: bool = True,
    choices: tuple[ColumnChoice, ...] = (),
    unread: tuple[str, ...] = (),
) -> CheckedTable:
    """Opens a table and checks its pictures; bad rows are written to the quarantine file and counted.

    The chosen columns and the unread ones are told with the facts; ``name`` is what messages call the data.

    Raises:
        UnusableSourceError: too many rows are bad, or none is left.
    """
    key = (str(folder), settings)
    if (found := _OPEN.get(key)) is not None:
        return found
    table = PromptTable(folder, name)
    bad = list(table.bad_rows())
    usable = np.ones(len(table), dtype=bool)
    for index, fault in _find_faults_once(table, settings):
        if usable[index]:
            usable[index] = False
            row = table.row(index)
            content = {key: row[key] for key in ("id", "question", "answer", "images")}
            bad.append(BadRow(row["row"], fault.reason, fault.detail, content))
    counts = Counter(row.reason for row in bad)
    bad.sort(key=lambda row: row.row or 0)
    path = _write_bad_rows(table, settings, bad, only_rows=bool(usable.all()))
    examples = first_of_each(bad)
    facts = SourceFacts(table.total, table.repeated, choices, unread, counts, examples, path, {}, {}, table.ignored)
    faults = (row for row in examples if row.reason is not Reason.CONFLICTING_ANSWERS)
    example = next((explain_bad_row(row, choices) for row in faults), "")
    put_aside = PutAside(name, counts, table.total, path, example)
    try:
        put_aside.check(settings.max_bad_share)
        if not usable.any():
            such_as = f" One: {example}." if example else ""
            raise DataError(f"{name} has no prompts: none of its {table.total} rows can be used.{such_as}")
    except DataError as error:
        raise UnusableSourceError(str(error), facts) from None
    put_aside.announce(table.repeated if mention_repeats else 0)
    checked = _OPEN[key] = CheckedTable(table, usable, facts, settings)
    return checked


def _write_bad_rows(table: PromptTable, settings: TableSettings, bad: list[BadRow], *, only_rows: bool) -> Path:
    """Writes the bad rows to the user's file, or else beside the table, which has those already that no picture spoils.

    Returns:
        The file that has them.
    """
    if settings.quarantine is not None:
        path = Path(settings.quarantine)
        write_quarantine(path, bad)
        return path
    if not only_rows:
        path = table.folder / f"bad_rows-{_pictures_key(settings)}.jsonl"
        try:
            write_quarantine(path, bad)
        except StorageError:
            # A cache that several share is its maker's to write.
            _log.warning("%s: set quarantine to a file to have the rows with bad pictures listed there", table.name)
        else:
            return path
    return table.quarantine


def _pictures_key(settings: TableSettings) -> str:
    """What the pictures that can be used depend on; a folder may be another one on another machine."""
    return fingerprint(
        *(socket.gethostname(), settings.image_root, os.path.realpath(settings.image_root)),
        *(settings.check_images, settings.linked),
    )


def _find_faults_once(table: PromptTable, settings: TableSettings) -> list[tuple[int, RowError]]:
    """The same as ``_find_faults``, found once for the processes of a machine that start together."""
    if len(table) < _MANY or settings.check_images == "none":
        return list(_find_faults(table, settings))
    found = do_once(
        table.folder / f"pictures-{_pictures_key(settings)}.json",
        lambda: [(index, fault.reason.value, fault.detail) for index, fault in _find_faults(table, settings)],
    )
    return [(index, RowError(Reason(reason), detail)) for index, reason, detail in found]


def _find_faults(table: PromptTable, settings: TableSettings) -> Iterator[tuple[int, RowError]]:
    """The pictures that cannot be used, with the number of the row."""
    column, decode = table.column("images"), settings.check_images == "decode"
    paths = pc.unique(pc.list_flatten(column)).drop_null().to_pylist()
    faults = check_files(paths, settings.image_root, settings.check_images, settings.linked) if paths else {}
    if not faults and not decode:
        return
    for index, images in enumerate(images for chunk in column.chunks for images in chunk.to_pylist()):
        for place, path in enumerate(images):
            if path in faults:
                yield index, faults[path]
            elif path is None and decode:
                try:
                    decode_image(read_picture(table.folder, index, place), f"picture {place}")
                except DataError as error:
                    yield index, RowError(Reason.BROKEN_IMAGE, str(error))


class TablePrompts(PromptSource):
    """Some rows of a table as prompts.

    Args:
        rows: The numbers of the rows, in the order of the prompts.
        hide_answers: Whether the prompts come without their answers.
    """

    def __init__(self, checked: CheckedTable, rows: NDArray[np.int64], hide_answers: bool = False) -> None:
        self._checked = checked
        self._rows = rows
        self._hide_answers = hide_answers
        self.instruction = checked.settings.instruction
        keys = checked.table.keys[rows]
        self._order = np.argsort(keys, kind="stable")
        self._sorted_keys = keys[self._order]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Prompt:
        if not 0 <= index < len(self._rows):
            raise IndexError(index)
        row = int(self._rows[index])
        return self._prompt(row, self._checked.table.row(row))

    def __iter__(self) -> Iterator[Prompt]:
        # Many at a time: a row costs 20 times as much alone.
        for start in range(0, len(self._rows), _CHUNK):
            rows = self._rows[start : start + _CHUNK]
            first, last = int(rows.min()), int(rows.max())
            if last - first > 8 * _CHUNK:
                yield from (self[index] for index in range(start, start + len(rows)))
                continue
            found = self._checked.table.rows(first, last + 1)
            yield from (self._prompt(row, found[row - first]) for row in rows.tolist())

    def facts(self, rows: NDArray[np.int64] | None = None) -> SourceFacts:
        """What is known without a look at the prompts; see the interface."""
        table, taken = self._checked.table, pa.array(self._rows if rows is None else self._rows[rows])
        pictures = pc.list_value_length(table.column("images")).take(taken).to_pylist()
        types = table.column("answer_type").take(taken).to_pylist()
        return replace(self._checked.facts, answer_types=Counter(types), pictures=Counter(pictures))

    def index_of(self, prompt_id: str) -> int | None:
        """The index of the prompt with this id; see the interface."""
        key = np.uint64(hash_id(prompt_id))
        place = int(np.searchsorted(self._sorted_keys, key))
        if place < len(self._rows) and self._sorted_keys[place] == key:
            index = int(self._order[place])
            if self._checked.table.column("id")[int(self._rows[index])].as_py() == prompt_id:
                return index
        return None

    def keys(self) -> frozenset[int]:
        """The keys (``hash_id``) of the prompts' ids."""
        return frozenset(self._sorted_keys.tolist())

    def _prompt(self, index: int, row: Mapping[str, Any]) -> Prompt:
        settings, table = self._checked.settings, self._checked.table.folder
        images: list[ImageReference] = [
            EmbeddedImage(f"{row['id']}#{place}", table, index, place, settings.pixels)
            if path is None
            else FileImage(path, settings.image_root, settings.pixels, settings.linked)
            for place, path in enumerate(row["images"])
        ]
        question = f"{row['question']}\n{settings.instruction}" if settings.instruction else row["question"]
        prompt = Prompt(
            id=row["id"],
            question=question,
            images=tuple(images),
            answer=row["answer"],
            answer_type=AnswerType(row["answer_type"]),
            choices=tuple(row["choices"]),
            answers=tuple(row["answers"]),
            answer_is=AnswerIs(row["answer_is"]) if row["answer_is"] else None,
            tolerance=Tolerance(**row["tolerance"]) if row["tolerance"] else None,
            precision=row["precision"],
            unit=row["unit"],
            rationale=row["rationale"],
            category=row["category"],
            turns=tuple(Turn(**turn) for turn in row["turns"]),
        )
        return hide_answers(prompt) if self._hide_answers else prompt


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """A picture whose bytes are in a table.

    Attributes:
        uri: ``<prompt id>#<number of the picture>``.
        index: The prompt's row in the table.
        place: The picture's number in the prompt.
    """

    uri: str
    table: Path
    index: int
    place: int
    limits: PixelLimits

    def load(self) -> Image.Image:
        """Decodes the picture upright to RGB, transparent parts on white."""
        return decode_image(read_picture(self.table, self.index, self.place), self.uri, self.limits)


def read_picture(table: Path, index: int, place: int) -> bytes:
    """The bytes of a picture, by the table's folder, the prompt's row in it and the picture's number in the prompt."""
    [row] = _open(table).fast_slice(index, 1).to_pylist()
    picture: bytes = row["pictures"][place]
    return picture


@cache
def _open(table: Path) -> Any:
    """The column of the pictures, memory-mapped; opened once in every process."""
    from datasets import Dataset

    return Dataset.from_file(str(table / "prompts.arrow")).select_columns(["pictures"]).data
