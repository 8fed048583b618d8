"""Prompts from any data set, by a map of its columns."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mstar.errors import ConfigError, DataError
from mstar.prompts.cells import clean_path, first_turns, read_images, read_text
from mstar.prompts.field_map import FieldMap
from mstar.prompts.image_check import ImageCheck
from mstar.prompts.images import PixelLimits
from mstar.prompts.prompt_table import TablePictures
from mstar.prompts.quarantine import Reason, RowError
from mstar.prompts.question_text import infer_answer_type, parse_choices, remove_placeholders, render_choices
from mstar.prompts.raw_rows import RawRow, RawRows
from mstar.prompts.row_files import TableRows, open_rows
from mstar.prompts.table_builder import PromptRecord, build_table, cache_folder, content_id
from mstar.prompts.table_prompts import PictureStore, TablePrompts, TableSettings, open_table
from mstar.types import AnswerIs, AnswerType, Tolerance

__all__ = ["RecordPrompts"]


class RecordPrompts(TablePrompts):
    """Prompts from a JSON, JSONL or Parquet file, or a Hugging Face data set.

    The rows are read once into a memory-mapped table in a cache folder; rows that cannot be used are put aside.

    Args:
        path: A ``.jsonl``, ``.json`` or ``.parquet`` file, a folder of ``.jsonl`` or ``.parquet`` files, a folder that
            ``datasets`` saved, or the id of a Hugging Face data set.
        fields: Which column holds what; none goes by the usual names (question, image, answer, response, ...).
        image_root: The folder that image paths are relative to; none is the folder of the data.
        split: The split, where the data has several.
        size: Use only this many prompts, the first ones; none uses all.
        hide_answers: Whether the prompts come without their answers (unlabelled prompts).
        instruction: A line that is added to every question, e.g. how the answer should be written.
        pixels: Least and most pixels of a picture, in generation and training alike.
        check_images: none; exists (the files are there and look whole); or decode (each is decoded, slow).
        max_bad_share: If more than this share of the rows cannot be used, it is an error; none allows 5 %, and of a
            small data set up to 10 rows, but not more than a quarter.
        quarantine: The file that rows which cannot be used are written to, with the reason; none puts it in the cache.
        cache_dir: Folder of the cache; none is ``$MSTAR_CACHE``, else ``~/.cache/mstar``.

    Raises:
        ConfigError: a setting is out of its range.
        DataError: the data cannot be read, lacks a column, or too many of its rows cannot be used.
    """

    def __init__(
        self,
        path: str,
        fields: FieldMap | None = None,
        image_root: str | None = None,
        split: str = "train",
        size: int | None = None,
        hide_answers: bool = False,
        instruction: str = "",
        pixels: PixelLimits = PixelLimits(),  # noqa: B008 - frozen, so sharing it is safe
        check_images: ImageCheck = "exists",
        max_bad_share: float | None = None,
        quarantine: str | None = None,
        cache_dir: str | None = None,
    ) -> None:
        if size is not None and size < 1:
            raise ConfigError(f"RecordPrompts: size is {size}, but a data set needs at least 1 prompt; raise size.")
        root = image_root or (path if Path(path).is_dir() else str(Path(path).parent))
        settings = TableSettings(root, check_images, max_bad_share, quarantine, pixels, instruction)
        rows = open_rows(path, split)
        columns = rows.columns()
        chosen = fields or FieldMap.find(columns, f"'{path}'")
        chosen.check(columns, f"'{path}'")
        choices = chosen.explain(columns, guessed=fields is None)
        unread = tuple(column for column in columns if column not in chosen.columns)
        folder = cache_folder(cache_dir, "records", rows.fingerprint, chosen, os.path.abspath(root))
        build_table(folder, rows, _Converter(chosen, os.path.abspath(root), isinstance(rows, TableRows)))
        store = _store(rows, chosen, folder)
        checked = open_table(folder, path, settings, store, choices=choices, unread=unread)
        self.name = path if split == "train" else f"{path} ({split})"
        super().__init__(checked, np.flatnonzero(checked.usable)[:size], settings, store, hide_answers)


def _store(rows: RawRows, chosen: FieldMap, folder: Path) -> PictureStore:
    if isinstance(rows, TableRows) and chosen.images:
        return DatasetPictures(rows.data.select_columns(list(chosen.images)), chosen, folder)
    return TablePictures(folder)


class DatasetPictures:
    """The pictures in the columns of a ``datasets.Dataset``.

    Args:
        data: The data set, with its picture columns alone.
        fields: Which columns those are.
        folder: The folder of the table whose rows are asked for.
    """

    def __init__(self, data: Any, fields: FieldMap, folder: Path) -> None:
        self.data = data
        self.fields = fields
        self.folder = folder
        self._numbers: Any = None

    def __reduce__(self) -> tuple[type[DatasetPictures], tuple[Any, FieldMap, Path]]:
        return DatasetPictures, (self.data, self.fields, self.folder)

    def read(self, index: int, place: int) -> bytes:
        """The bytes of one picture; see ``PictureStore``."""
        if self._numbers is None:
            from datasets import Dataset

            table = Dataset.from_file(str(self.folder / "prompts.arrow"))
            self._numbers = table.data.column("row").to_numpy()
        images = read_images(self.data[int(self._numbers[index])], self.fields.images)
        picture = images[place]
        if isinstance(picture, str):
            raise DataError(f"picture {place} of row {index} is the path '{picture}', and its bytes were expected.")
        return picture


@dataclass(frozen=True)
class _Converter:
    """Makes a prompt of a row.

    Attributes:
        fields: Which column holds what.
        root: The image folder, absolute.
        in_place: Whether the pictures' bytes stay where they are, and need not be kept in the table.
    """

    fields: FieldMap
    root: str
    in_place: bool

    def __call__(self, row: RawRow) -> PromptRecord:
        values, names = row.values, self.fields
        question, rationale = self._question(values)
        choices = _texts(values.get(names.choices), names.choices) if names.choices else ()
        if not question:
            raise RowError(Reason.EMPTY_QUESTION, "the question is empty")
        answer = None
        answers = _texts(values.get(names.answers), names.answers) if names.answers else ()
        if names.answer is not None or names.answers is not None:
            answer = read_text(values.get(names.answer), names.answer) if names.answer else ""
            answer = answer or next(iter(answers), "")
            if not answer:
                raise RowError(Reason.NO_ANSWER, f"the column '{names.answer or names.answers}' is empty")
        pictures = read_images(values, names.images)
        images = tuple(clean_path(item, self.root) if isinstance(item, str) else None for item in pictures)
        if choices and not parse_choices(question.partition("Choices:")[2]):
            question = render_choices(question, choices)
        given = read_text(values.get(names.id), names.id) if names.id else ""
        if names.id and not given:
            raise RowError(Reason.WRONG_TYPE, f"the column '{names.id}' is empty, but an id is needed")
        contents = [item if isinstance(item, bytes) else path for item, path in zip(pictures, images, strict=True)]
        category = read_text(values.get(names.category), names.category) if names.category else ""
        return PromptRecord(
            id=given or content_id(question, rationale, *contents),
            question=question,
            answer=answer,
            answer_type=_answer_type(values.get(names.answer_type) if names.answer_type else None, answer, choices),
            answers=tuple(other for other in answers if other != answer),
            answer_is=_answer_is(values.get(names.answer_is)) if names.answer_is else None,
            tolerance=_tolerance(values.get(names.tolerance)) if names.tolerance else None,
            choices=choices,
            precision=_precision(values.get(names.precision)) if names.precision else None,
            unit=read_text(values.get(names.unit), names.unit) or None if names.unit else None,
            rationale=rationale,
            category=category,
            images=images,
            pictures=()
            if self.in_place or not any(isinstance(item, bytes) for item in pictures)
            else tuple(item if isinstance(item, bytes) else None for item in pictures),
            id_given=bool(given),
        )

    def _question(self, values: Mapping[str, Any]) -> tuple[str, str | None]:
        names = self.fields
        rationale = read_text(values.get(names.rationale), names.rationale) or None if names.rationale else None
        if names.question is not None:
            return remove_placeholders(read_text(values.get(names.question), names.question)), rationale
        asked, said = first_turns(values.get(names.conversations or ""))
        return remove_placeholders(asked), rationale or said


def _texts(value: Any, column: str) -> tuple[str, ...]:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise RowError(Reason.WRONG_TYPE, f"the {column} are no JSON list: {error}") from error
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise RowError(Reason.WRONG_TYPE, f"the {column} are a {type(value).__name__}, not a list")
    return tuple(read_text(item, column) for item in value)


def _answer_is(value: Any) -> AnswerIs | None:
    if value is None or value == "":
        return None
    if value in set(AnswerIs):
        return AnswerIs(value)
    raise RowError(Reason.WRONG_TYPE, f"answer_is is {value!r}; it is one of {', '.join(AnswerIs)}")


def _tolerance(value: Any) -> Tolerance | None:
    if value is None:
        return None
    limits = {name: limit for name, limit in value.items() if limit is not None} if isinstance(value, dict) else None
    if limits is None or not set(limits) <= {"relative", "absolute"} or not all(map(_is_limit, limits.values())):
        raise RowError(Reason.WRONG_TYPE, f"the tolerance {value!r} is no object with 'relative' or 'absolute'")
    return Tolerance(**limits) if limits else None


def _is_limit(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value >= 0


def _precision(value: Any) -> int | None:
    # Parquet has numbers beside nulls as floats, and the nulls as NaN.
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, int | float) and 0 <= value <= 100 and value == int(value):
        return int(value)
    raise RowError(Reason.WRONG_TYPE, f"the precision {value!r} is no number of decimals")


def _answer_type(value: Any, answer: str | None, choices: tuple[str, ...]) -> AnswerType:
    known = isinstance(value, str) and value in set(AnswerType)
    # MathVista says "text" of the answers of multiple-choice questions too.
    fits = value != "text" if choices else value != "multi_choice"
    return AnswerType(value) if known and fits else infer_answer_type(answer, choices)
