"""Prompts from any data set, by a map of its columns."""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from mstar.errors import ConfigError, DataError
from mstar.prompts.image_check import ImageCheck
from mstar.prompts.images import PixelLimits
from mstar.prompts.prompt_table import (
    PromptRecord,
    TablePictures,
    build_table,
    cache_folder,
    content_id,
)
from mstar.prompts.quarantine import Reason, RowError
from mstar.prompts.question_text import infer_answer_type, parse_choices, remove_placeholders, render_choices
from mstar.prompts.raw_rows import RawRow, RawRows, TableRows, open_rows
from mstar.prompts.table_prompts import PictureStore, TablePrompts, TableSettings, open_table
from mstar.types import AnswerType

__all__ = ["FieldMap", "RecordPrompts", "clean_path", "first_turns", "read_images", "read_text", "read_turns"]

# The names under which public data sets have them, the usual one first.
_USUAL: Final[Mapping[str, tuple[str, ...]]] = {
    "question": ("question", "query", "problem", "prompt", "instruction"),
    "conversations": ("conversations", "messages"),
    "answer": ("answer", "gold", "ground_truth", "final_answer", "reference_answer"),
    "id": ("id", "question_id", "pid"),
    "choices": ("choices", "options"),
    "answer_type": ("answer_type",),
    "rationale": ("rationale", "response", "solution", "cot", "completion", "output"),
    "category": ("category", "source", "data_source", "dataset"),
}
_USUAL_IMAGES: Final = ("image", "images", "image_path", "image_paths", "decoded_image", "img")
# How the base64 text of PNG, JPEG, GIF, WebP and BMP files begins.
_BASE64: Final = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk")
_HUMAN: Final = ("human", "user")
_MODEL: Final = ("gpt", "assistant", "model")


@dataclass(frozen=True)
class FieldMap:
    """Which column holds what. Exactly one of ``question`` and ``conversations`` is needed.

    Args:
        question: The question's text.
        conversations: A list of turns (``{from, value}`` or ``{role, content}``): the first of the user is the
            question, and the first of the model is the rationale.
        images: One column of pictures or several; each holds one picture or a list of them, as a path below
            ``image_root``, as bytes, as base64 text, or as what ``datasets`` makes of a PIL picture. An empty list is
            a question without pictures; with several columns, those without a picture are passed over.
        answer: The gold answer; none for data without answers.
        id: A unique id; none derives one from the question and its pictures.
        choices: The options' texts of multiple-choice questions, a list.
        answer_type: multi_choice, integer, float, list or text; none, or another value, infers it from the answer.
        rationale: A response to imitate.
        category: A group for reports.

    Raises:
        ConfigError: both of ``question`` and ``conversations`` are set, or neither.
    """

    question: str | None = None
    conversations: str | None = None
    images: tuple[str, ...] = ()
    answer: str | None = None
    id: str | None = None
    choices: str | None = None
    answer_type: str | None = None
    rationale: str | None = None
    category: str | None = None

    def __post_init__(self) -> None:
        if (self.question is None) == (self.conversations is None):
            raise ConfigError("fields: set either question or conversations, the column that holds the question.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names."""
        values = (getattr(self, item.name) for item in fields(self))
        return tuple(name for value in values if value for name in ((value,) if isinstance(value, str) else value))

    @classmethod
    def find(cls, columns: Sequence[str], where: str) -> FieldMap:
        """The map of a data set whose columns have usual names.

        Raises:
            DataError: no column has a usual name of a question.
        """
        found = {name: next((c for c in usual if c in columns), None) for name, usual in _USUAL.items()}
        if found["question"] is not None:
            found["conversations"] = None
        elif found["conversations"] is None:
            raise DataError(
                f"{where} has no column of a usual name for the question; it has {list(columns)}: name the columns in "
                "'fields'."
            )
        image = next((column for column in _USUAL_IMAGES if column in columns), None)
        return cls(images=() if image is None else (image,), **found)

    def check(self, columns: Sequence[str], where: str) -> None:
        """Makes sure that the columns exist.

        Raises:
            DataError: one does not.
        """
        missing = [name for name in self.columns if name not in columns]
        if missing:
            raise DataError(f"{where} lacks the columns {missing} that 'fields' names; it has {list(columns)}.")


class RecordPrompts(TablePrompts):
    """Prompts from a JSON, JSONL or Parquet file, or a Hugging Face data set.

    The rows are read once into a memory-mapped table in a cache folder; rows that cannot be used are put aside.

    Args:
        path: A ``.jsonl`` or ``.json`` file, a ``.parquet`` file or a folder of them, a folder that ``datasets``
            saved, or the id of a Hugging Face data set.
        fields: Which column holds what; none goes by the usual names (question, image, answer, response, ...).
        image_root: The folder that image paths are relative to; none is the folder of the data.
        split: The split, where the data has several.
        size: Use only this many prompts, the first ones; none uses all.
        hide_answers: Whether the prompts come without their answers (unlabelled prompts).
        instruction: A line that is added to every question, e.g. how the answer should be written.
        pixels: Least and most pixels of a picture, in generation and training alike.
        check_images: none; exists (the files are there and look whole); or decode (each is decoded, slow).
        max_bad_share: If more than this share of the rows cannot be used, it is an error.
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
        max_bad_share: float = 0.05,
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
        folder = cache_folder(cache_dir, "records", rows.fingerprint, chosen, os.path.abspath(root))
        build_table(folder, rows, _Converter(chosen, os.path.abspath(root), isinstance(rows, TableRows)))
        store = _store(rows, chosen, folder)
        checked = open_table(folder, path, settings, store)
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
        choices = _choices(values.get(names.choices)) if names.choices else ()
        if not question:
            raise RowError(Reason.EMPTY_QUESTION, "the question is empty")
        answer = None
        if names.answer is not None:
            answer = read_text(values.get(names.answer), names.answer)
            if not answer:
                raise RowError(Reason.NO_ANSWER, f"the column '{names.answer}' is empty")
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
            choices=choices,
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


def read_text(value: Any, column: str | None) -> str:
    """A cell as text: of text itself, of a number, and of nothing "".

    Raises:
        RowError: it is anything else.
    """
    match value:
        case None:
            return ""
        case str():
            return value.strip()
        case bool():
            return str(value)
        case float() if math.isnan(value):
            return ""
        case int() | float():
            return repr(value)
        case _:
            raise RowError(Reason.WRONG_TYPE, f"the column '{column}' holds a {type(value).__name__}, not text")


def first_turns(turns: Any) -> tuple[str, str | None]:
    """What the user says first in a conversation, and what the model says after it.

    Raises:
        RowError: it is no list of ``{from, value}`` or ``{role, content}``.
    """
    asked: str | None = None
    for speaker, text in read_turns(turns):
        if asked is None and speaker in _HUMAN:
            asked = text
        elif asked is not None and speaker in _MODEL:
            return asked, text or None
    return asked or "", None


def read_turns(turns: Any) -> list[tuple[str, str]]:
    """The turns of a conversation as (speaker, text).

    Raises:
        RowError: it is no list of ``{from, value}`` or ``{role, content}``.
    """
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        raise RowError(Reason.WRONG_TYPE, "the conversation is no list of turns")
    read = []
    for turn in turns:
        speaker = turn.get("from", turn.get("role"))
        content = turn.get("value", turn.get("content"))
        if isinstance(content, list):
            parts = [part.get("text") for part in content if isinstance(part, Mapping)]
            content = "\n".join(part for part in parts if isinstance(part, str))
        if not isinstance(speaker, str) or not isinstance(content, str | None):
            raise RowError(Reason.WRONG_TYPE, "a turn of the conversation is not {from, value} or {role, content}")
        read.append((speaker, (content or "").strip()))
    return read


def read_images(values: Mapping[str, Any], columns: Sequence[str]) -> list[str | bytes]:
    """The pictures of a row in their order: a path, or the bytes of the file.

    Raises:
        RowError: one is missing or empty, or is neither a path nor a picture.
    """
    found: list[str | bytes] = []
    for column in columns:
        value = values.get(column)
        if value is None and len(columns) > 1:
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            found.append(_read_image(item, column))
    return found


def _read_image(value: Any, column: str) -> str | bytes:
    if isinstance(value, Mapping) and ("bytes" in value or "path" in value):
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    match value:
        case None | "":
            raise RowError(Reason.MISSING_IMAGE, f"the column '{column}' names no picture")
        case bytes() | bytearray():
            if not value:
                raise RowError(Reason.EMPTY_IMAGE, f"the picture in the column '{column}' has no bytes")
            return bytes(value)
        case str():
            return _from_base64(value) or value
        case _:
            raise RowError(Reason.WRONG_TYPE, f"the column '{column}' holds a {type(value).__name__}, not a picture")


def _from_base64(text: str) -> bytes | None:
    """The bytes of a picture in base64, or None if the text is no such thing (but a path)."""
    declared = text.startswith("data:")
    if declared:
        text = text.partition(",")[2]
    elif len(text) < 60 or not text.startswith(_BASE64):
        return None
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        if declared or len(text) > 4096:
            raise RowError(Reason.BROKEN_IMAGE, f"the base64 text of the picture is damaged: {error}") from error
        return None


def clean_path(path: str, root: str) -> str:
    """A path relative to the image folder; an absolute one is made so, and a leading ``./`` is dropped."""
    return os.path.relpath(path, root) if os.path.isabs(path) else path.removeprefix("./")


def _choices(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise RowError(Reason.WRONG_TYPE, f"the choices are no JSON list: {error}") from error
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise RowError(Reason.WRONG_TYPE, f"the choices are a {type(value).__name__}, not a list")
    return tuple(read_text(choice, "choices") for choice in value)


def _answer_type(value: Any, answer: str | None, choices: tuple[str, ...]) -> AnswerType:
    known = isinstance(value, str) and value in set(AnswerType)
    # MathVista says "text" of the answers of multiple-choice questions too.
    fits = value != "text" if choices else value != "multi_choice"
    return AnswerType(value) if known and fits else infer_answer_type(answer, choices)
