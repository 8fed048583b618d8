"""Prompts from any data set, by a map of its columns."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from mstar.errors import DataError, require_least
from mstar.prompts.facts import ColumnChoice
from mstar.prompts.field_map import FieldMap, listed, not_among
from mstar.prompts.field_values import look_up, read_text, read_texts
from mstar.prompts.image_check import ImageCheck
from mstar.prompts.images import PixelLimits
from mstar.prompts.prompt_table import build_table, cache_folder, make_cache_folder
from mstar.prompts.quarantine import RowError
from mstar.prompts.question_text import are_verdicts, find_numbering
from mstar.prompts.row_converter import Placeholders, RowConverter, read_options
from mstar.prompts.row_files import folder_of, open_rows
from mstar.prompts.table_prompts import TablePrompts, TableSettings, open_table
from mstar.prompts.table_rows import Row, Rows
from mstar.storage import read_json, write_json

_Values: TypeAlias = list[str] | str
_PICTURES: Final = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
# Rows that are looked at to find out what an answer is.
_LOOKED_AT: Final = 1000
# Rows that are looked at for columns of pictures; HallusionBench's first ones have none.
_FEW: Final = 100


class RecordPrompts(TablePrompts):
    """Prompts from JSON, JSON lines, Parquet, CSV or TSV files, or a Hugging Face data set.

    The rows are read once into a memory-mapped table in a cache folder; rows that cannot be used are put aside.

    Args:
        path: A ``.jsonl``, ``.json``, ``.parquet``, ``.csv`` or ``.tsv`` file, several, a pattern (``data/*.json``), a
            folder of such files, a folder that ``datasets`` saved, or the id of a Hugging Face data set
            (with one of its configurations: ``owner/name:config``).
        fields: Which column holds what; none goes by the usual names (question, image, answer, response, ...).
        image_root: The folder that image paths are relative to; none is the folder of the data. A list also names the
            folders that links in the first may lead into.
        split: The split, where the data has several.
        size: Use only this many prompts, the first ones; none uses all.
        hide_answers: Whether the prompts come without their answers (unlabelled prompts).
        instruction: A line that is added to every question, e.g. how the answer should be written.
        pixels: Least and most pixels of a picture, in generation and training alike.
        check_images: none; exists (the files are there and look whole); or decode (each is decoded, slow).
        max_bad_share: If more than this share of the rows cannot be used, it is an error; none allows 5 %, and of a
            small data set up to 10 rows, but not more than a quarter.
        quarantine: The file that rows which cannot be used are written to, with the reason; none puts it in the cache.
            Of a split other than ``train`` its name ends with that (``bad-test.jsonl``).
        placeholders: places shows the pictures where the text has ``<image>``, ``<image1>`` or the like, which must be
            as many as the pictures; words shows them before the question, and of ``<image1>`` in it the words
            ``image 1`` (for data with one picture of all that its text numbers).
        where: Take only rows that hold this value, or one of these, in each of these columns; rows are counted as if
            there were no others. Values are text, in whatever case.
        unless: Leave out rows that hold this value, or one of these, in any of these columns.
        drop: Texts that are taken out of the questions, such as a sentence on how to answer.

    Raises:
        ConfigError: a setting is out of its range.
        DataError: the data cannot be read, lacks a column, or too many of its rows cannot be used.
    """

    def __init__(
        self,
        path: list[str] | str,
        fields: FieldMap | None = None,
        image_root: list[str] | str | None = None,
        split: str = "train",
        size: int | None = None,
        hide_answers: bool = False,
        instruction: str = "",
        pixels: PixelLimits = PixelLimits(),  # noqa: B008 - frozen, so sharing it is safe
        check_images: ImageCheck = "exists",
        max_bad_share: float | None = None,
        quarantine: str | None = None,
        placeholders: Placeholders = "places",
        where: dict[str, list[str] | str] | None = None,
        unless: dict[str, list[str] | str] | None = None,
        drop: list[str] | None = None,
    ) -> None:
        require_least("RecordPrompts: ", size=size)
        if quarantine is not None and split != "train":
            # The parts of one data set have one setting, and each writes a whole file.
            quarantine = str(Path(quarantine).with_stem(f"{Path(quarantine).stem}-{split}"))
        root, *linked = ([image_root] if isinstance(image_root, str) else image_root) or [folder_of(path)]
        settings = TableSettings(
            root, check_images, max_bad_share, quarantine, pixels, instruction, tuple(map(os.path.abspath, linked))
        )
        title = path if isinstance(path, str) else " and ".join([path[0], f"{len(path) - 1} more"][: len(path)])
        rows = open_rows(path, split)
        columns = _find_columns(rows, cache_folder("columns", rows.fingerprint) / "found.json")
        if not columns:
            raise DataError(f"'{title}' has {_without_columns(rows)}")
        if where or unless:
            if missing := not_among((*(where or ()), *(unless or ())), columns):
                raise DataError(
                    f"'{title}' lacks the columns {missing} of 'where' or 'unless'; it has {listed(columns)}."
                )
            rows = _select(rows, where or {}, unless or {})
            if next(iter(rows), None) is None:
                raise DataError(f"'{title}' has no row left by 'where' and 'unless'; they compare values as text.")
        chosen, guessed = (fields or FieldMap()).complete(columns, f"'{title}'")
        choices = (*chosen.explain(columns, guessed), *_explain_rules(where or {}, unless or {}, drop or ()))
        unsaid = chosen.answer and chosen.choices and chosen.answer_is is None
        if unsaid and (answer_is := find_numbering(_answers_and_options(rows, chosen))):
            chosen = replace(chosen, answer_is=answer_is)
            why = f"the answers number the options, from {answer_is[-1]}"
            choices = (*choices, ColumnChoice("answer_is", answer_is, why))
        open_ended = bool(chosen.answer) and chosen.answer_type is None and not chosen.choices
        verdicts = open_ended and are_verdicts(_questions_and_answers(rows, chosen))
        if verdicts:
            why = "all answers are 1 or 0, and most questions ask for yes or no"
            choices = (*choices, ColumnChoice("answers", "yes or no", why))
        read = {name if name in columns else name.partition(".")[0] for name in chosen.columns}
        unread = tuple(column for column in columns if column not in read)
        some = [row for row in islice(rows, _FEW) if not isinstance(row, RowError)]
        unread = tuple(f"{name}{_seems_pictures(some, name, bool(chosen.images))}" for name in unread)
        converter = RowConverter(chosen, guessed, os.path.abspath(root), placeholders, verdicts, tuple(drop or ()))
        folder = cache_folder("records", rows.fingerprint, converter)
        build_table(folder, rows, converter)
        checked = open_table(folder, title, settings, choices=choices, unread=unread)
        self.name = title if split == "train" else f"{title} ({split})"
        super().__init__(checked, np.flatnonzero(checked.usable)[:size], hide_answers)


def _select(rows: Rows, where: Mapping[str, _Values], unless: Mapping[str, _Values]) -> Rows:
    """The rows that hold what ``where`` says and nothing of what ``unless`` does, and those that cannot be read."""

    def fold(values: _Values) -> set[str]:
        return {value.casefold() for value in ([values] if isinstance(values, str) else values)}

    taken = {column: fold(values) for column, values in where.items()}
    left_out = {column: fold(values) for column, values in unless.items()}

    def holds(row: Mapping[str, Any], column: str, wanted: Set[str]) -> bool:
        try:
            return any(text.casefold() in wanted for text in read_texts(look_up(row, column), column))
        except RowError:
            return False

    def read() -> Iterator[Row]:
        for row in rows:
            if isinstance(row, RowError) or (
                all(holds(row, *pair) for pair in taken.items())
                and not any(holds(row, *pair) for pair in left_out.items())
            ):
                yield row

    return Rows(f"{rows.fingerprint}:{where}:{unless}", read, rows.known)


def _explain_rules(
    where: Mapping[str, _Values], unless: Mapping[str, _Values], drop: Sequence[str]
) -> Iterator[ColumnChoice]:
    """Which rows, and which of their words, the source was told to take or leave out."""
    for role, rules, why in (("where", where, "only these rows"), ("unless", unless, "not these rows")):
        for column, values in rules.items():
            yield ColumnChoice(role, f"{column}: {values if isinstance(values, str) else ' or '.join(values)}", why)
    yield from (ColumnChoice("drop", repr(text), "taken out of the questions") for text in drop)


def _find_columns(rows: Rows, cache: Path) -> list[str]:
    """The columns of the rows; where each names its own, all are gone through once."""
    if rows.known is not None:
        return list(rows.known)
    if not cache.is_file():
        make_cache_folder(cache.parent)
        write_json(cache, {"found": rows.columns()})
    found: list[str] = read_json(cache)["found"]
    return found


def _without_columns(rows: Rows) -> str:
    """What is said of data without any column: of its first row, why it could not be read."""
    first = next(iter(rows), None)
    if first is None:
        return "no rows: is it the right file?"
    why = first.detail if isinstance(first, RowError) else "it is empty"
    return f"no row that can be read; row 0: {why}. Mend the file, or get it again."


def _seems_pictures(rows: Sequence[Mapping[str, Any]], column: str, has_others: bool) -> str:
    """What is said of a column that is not read where it seems to hold pictures, or lists of them.

    Beside others, names are passed over: they are likely those of the others.
    """
    for row in rows:
        value = row.get(column)
        # Of a list, and of the text of one, the last name counts. Pictures themselves are not made a text of.
        while isinstance(value, list) and value:
            value = value[-1]
        if isinstance(value, bytes) or (isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes)):
            return " (pictures?)"
        if not has_others and isinstance(value, str) and value.lower().rstrip("'\"]").endswith(_PICTURES):
            return " (names of pictures?)"
    return ""


def _answers_and_options(rows: Rows, fields: FieldMap) -> Iterator[tuple[tuple[str, ...], int, bool]]:
    """Of some questions with options the answers, how many options there are, and whether an answer is one's text."""
    for row in islice((row for row in rows if not isinstance(row, RowError)), _LOOKED_AT):
        try:
            texts, labels = read_options(row, fields)
            answers = read_texts(look_up(row, fields.answer or ""), "answer")
        except RowError:
            continue
        if texts and answers:
            yield answers, len(texts), answers[0] in (*texts, *labels)


def _questions_and_answers(rows: Rows, fields: FieldMap) -> Iterator[tuple[str, str]]:
    """Some questions with their gold answers."""
    for row in islice((row for row in rows if not isinstance(row, RowError)), _LOOKED_AT):
        try:
            question = read_text(look_up(row, fields.question or ""), "question")
            yield question, read_text(look_up(row, fields.answer or ""), "answer")
        except RowError:
            continue
