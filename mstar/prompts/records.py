"""Prompts from any data set, by a map of its columns."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np

from mstar.errors import DataError, require_least
from mstar.prompts.cells import (
    clean_path,
    look_up,
    parse,
    read_answer_is,
    read_images,
    read_precision,
    read_text,
    read_texts,
    read_tolerance,
    take_tags,
)
from mstar.prompts.chats import Chat, is_chat, read_chat, read_turns
from mstar.prompts.facts import ColumnChoice
from mstar.prompts.field_map import FieldMap
from mstar.prompts.image_check import ImageCheck
from mstar.prompts.images import PixelLimits
from mstar.prompts.prompt_table import PromptRecord, build_table, cache_folder, content_id
from mstar.prompts.quarantine import Reason, RowError
from mstar.prompts.question_text import (
    VERDICTS,
    answer_type_of,
    are_verdicts,
    find_choices,
    find_numbering,
    is_empty,
    mark_pictures,
    name_pictures,
    read_choices,
    read_gold,
    render_choices,
)
from mstar.prompts.row_files import folder_of, open_rows
from mstar.prompts.table_prompts import TablePrompts, TableSettings, open_table
from mstar.prompts.table_rows import Rows
from mstar.storage import read_json, write_json
from mstar.types import AnswerIs, Prompt, Turn

Placeholders = Literal["places", "words"]
T = TypeVar("T")

# What a chat shows beside pictures, from a column of its own.
_MEDIUM: Final = re.compile(r"<(video|audio)>")
_PICTURES: Final = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
# Rows that are looked at to find out what an answer is.
_LOOKED_AT: Final = 1000
# Rows that are looked at for columns that name pictures; HallusionBench's first ones have none.
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
        cache_dir: Folder of the cache; none is ``$MSTAR_CACHE``, else ``~/.cache/mstar``.
        placeholders: places shows the pictures where the text has ``<image>``, ``<image1>`` or the like, which must be
            as many as the pictures; words shows them before the question, and of ``<image1>`` in it the words
            ``image 1`` (for data with one picture of all that its text numbers).

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
        cache_dir: str | None = None,
        placeholders: Placeholders = "places",
    ) -> None:
        require_least("RecordPrompts: ", size=size)
        if quarantine is not None and split != "train":
            # The parts of one data set have one setting, and each writes a whole file.
            quarantine = str(Path(quarantine).with_stem(f"{Path(quarantine).stem}-{split}"))
        root, *linked = ([image_root] if isinstance(image_root, str) else image_root) or [folder_of(path)]
        settings = TableSettings(
            root, check_images, max_bad_share, quarantine, pixels, instruction, tuple(map(os.path.abspath, linked))
        )
        where = path if isinstance(path, str) else " and ".join([path[0], f"{len(path) - 1} more"][: len(path)])
        rows = open_rows(path, split)
        columns = _find_columns(rows, cache_folder(cache_dir, "columns", rows.fingerprint) / "found.json")
        if not columns:
            raise DataError(f"'{where}' has {_without_columns(rows)}")
        chosen, guessed = (fields or FieldMap()).complete(columns, f"'{where}'")
        choices = chosen.explain(columns, guessed)
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
        if not chosen.images:
            some = [row for row in islice(rows, _FEW) if not isinstance(row, RowError)]
            unread = tuple(f"{name}{_seems_pictures(some, name)}" for name in unread)
        converter = _Converter(chosen, guessed, os.path.abspath(root), placeholders, verdicts)
        facts = (rows.fingerprint, chosen, guessed, converter.root, placeholders, verdicts)
        folder = cache_folder(cache_dir, "records", *facts)
        build_table(folder, rows, converter)
        checked = open_table(folder, where, settings, choices=choices, unread=unread)
        self.name = where if split == "train" else f"{where} ({split})"
        super().__init__(checked, np.flatnonzero(checked.usable)[:size], hide_answers)


def _find_columns(rows: Rows, cache: Path) -> list[str]:
    """The columns of the rows; where each names its own, all are gone through once."""
    if rows.known is not None:
        return list(rows.known)
    if not cache.is_file():
        cache.parent.mkdir(parents=True, exist_ok=True)
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


def _seems_pictures(rows: Sequence[Mapping[str, Any]], column: str) -> str:
    """What is said of a column that is not read where it seems to name pictures, or lists of them."""
    for row in rows:
        value = row.get(column)
        # Of a list, and of the text of one, the last name counts. Pictures themselves are not made a text of.
        while isinstance(value, list) and value:
            value = value[-1]
        if isinstance(value, str) and value.lower().rstrip("'\"]").endswith(_PICTURES):
            return " (names of pictures?)"
    return ""


def _answers_and_options(rows: Rows, fields: FieldMap) -> Iterator[tuple[tuple[str, ...], int, bool]]:
    """Of some questions with options the answers, how many options there are, and whether an answer is one's text."""
    for row in islice((row for row in rows if not isinstance(row, RowError)), _LOOKED_AT):
        try:
            texts, labels = _choices(row, fields)
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


@dataclass(frozen=True)
class _Converter:
    """Makes a prompt of a row."""

    fields: FieldMap
    # The roles whose columns were not named by the user: values there that make no sense are not read.
    guessed: frozenset[str]
    root: str
    placeholders: Placeholders
    # Whether 1 and 0 are yes and no.
    verdicts: bool = False

    def __call__(self, values: Mapping[str, Any]) -> PromptRecord:
        ignored: list[tuple[str, str]] = []

        def read(role: str, reader: Callable[[Any, str], T], nothing: T) -> T:
            """What the column of a role holds; nothing if it has none, or a guessed one makes no sense."""
            name = getattr(self.fields, role)
            if not name:
                return nothing
            try:
                return reader(look_up(values, name) if isinstance(name, str) else None, role)
            except RowError as error:
                if role not in self.guessed:
                    raise
                ignored.append((role, error.detail))
                return nothing

        turns, said, images = self._chat(values)
        kind = self.fields.said_of_all("answer_type") or read("answer_type", lambda value, _: value, None)
        said_is = self.fields.said_of_all("answer_is")
        answer_is = AnswerIs(said_is) if said_is else read("answer_is", read_answer_is, None)
        none: tuple[str, ...] = ()
        choices, labels = read("choices", lambda *_: _choices(values, self.fields), (none, none))
        column = self.fields.answer or ""
        # Of a chat it is what the model says to the question, the user's last turn, whichever turn is named.
        chat = self.fields.conversations or self.fields.question or ""
        value = said if column.startswith(f"{chat}.") else look_up(values, column)
        gold, solution = read_gold(value, column, kind, choices) if column else (none, None)
        answers = (*gold, *read("answers", lambda value, name: read_texts(parse(value), name), none))
        if self.verdicts:
            answers = tuple(form for gold in answers for form in (VERDICTS.get(gold, gold), gold))
        answer = next(iter(answers), None)
        if answer is None and (name := self.fields.answer or self.fields.answers):
            raise RowError(Reason.NO_ANSWER, f"the column '{name}' is empty")
        if answer in labels and answer not in choices:
            answer, answer_is = chr(ord("A") + labels.index(answer)), AnswerIs.LETTER
        context = read("context", lambda *_: _texts(values, self.fields.names("context")), none)
        choices, turns, images = self._ask(context, turns, images, choices, answer)
        shown = tuple(clean_path(item, self.root) if isinstance(item, str) else item for item in images)
        *before, question = turns
        rationale = read("rationale", _read_response, None) or said or solution
        said_before = (text for turn in before for text in (turn.role, turn.text))
        given_id = read("id", read_text, "")
        if self.fields.id and not given_id and "id" not in self.guessed:
            raise RowError(Reason.WRONG_TYPE, f"the column '{self.fields.id}' is empty, but an id is needed")
        prompt = Prompt(
            id=given_id,
            question=question.text,
            answer=answer,
            answer_type=answer_type_of(kind, answer, choices),
            answers=tuple(dict.fromkeys(other for other in answers[1:] if other not in (answer, answers[0]))),
            answer_is=answer_is,
            tolerance=read("tolerance", read_tolerance, None),
            choices=choices,
            precision=read("precision", read_precision, None),
            unit=read("unit", read_text, "") or None,
            rationale=rationale,
            category=", ".join(read("category", read_texts, none)),
            turns=tuple(before),
        )
        content = content_id(question.text, rationale, *shown, *said_before)
        return PromptRecord(prompt, content, shown, "id" in self.guessed, tuple(ignored))

    def _chat(self, values: Mapping[str, Any]) -> tuple[list[Turn], str | None, list[str | bytes]]:
        """The turns up to the question, what the model says then, and the pictures."""
        name = self.fields.conversations or self.fields.question or ""
        value = look_up(values, name)
        images = read_images(values, self.fields.names("images"))
        if self.fields.conversations or is_chat(value):
            chat = read_chat(parse(value))
        else:
            text, tagged = take_tags(read_text(value, name), name)
            chat = Chat((Turn("user", text),), None, tuple(image for image in tagged if image is not None))
        medium = next((medium for turn in chat.turns if (medium := _MEDIUM.search(turn.text))), None)
        if medium is not None and any(values.get(name) for name in (medium[1], f"{medium[1]}s")):
            raise RowError(Reason.WRONG_TYPE, f"the row shows {medium[0]}, and prompts have pictures alone")
        if chat.images and images and list(chat.images) != images:
            detail = f"pictures stand in the turns and in the column '{self.fields.names('images')[0]}', and differ"
            raise RowError(Reason.PICTURE_COUNT, detail)
        return list(chat.turns), chat.response or None, list(chat.images) or images

    def _ask(
        self,
        context: tuple[str, ...],
        turns: list[Turn],
        images: list[str | bytes],
        choices: tuple[str, ...],
        answer: str | None,
    ) -> tuple[tuple[str, ...], list[Turn], list[str | bytes]]:
        """The options, the turns as they are shown, and the pictures in their order."""
        question = turns[-1].text
        if is_empty(question):
            raise RowError(Reason.EMPTY_QUESTION, "the question is empty")
        inside = find_choices(question, None if choices else answer)
        if choices and len(inside) != len(choices):
            question = render_choices(question, choices)
        question = "\n".join([*context, question])
        texts = [*(turn.text for turn in turns[:-1]), question]
        choices = choices or inside
        if self.placeholders == "words":
            texts, choices = [name_pictures(text).strip() for text in texts], tuple(map(name_pictures, choices))
        else:
            first = next(place for place, turn in enumerate(turns) if turn.role == "user")
            texts, order = mark_pictures(texts, len(images), first)
            images = [images[place] for place in order]
        return choices, [Turn(turn.role, text) for turn, text in zip(turns, texts, strict=True)], images


def _choices(values: Mapping[str, Any], fields: FieldMap) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The options and their labels: of one column, or of several with one each, where empty ones are none."""
    names = fields.names("choices")
    if len(names) == 1 and not isinstance(fields.choices, tuple):
        return read_choices(look_up(values, names[0]), names[0])
    return _texts(values, names), ()


def _texts(values: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    """What some columns hold, those left out that hold nothing."""
    texts = (read_text(look_up(values, name), name) for name in names)
    return tuple(text for text in texts if text and text.casefold() != "nan")


def _read_response(value: Any, name: str) -> str | None:
    """A response, or the last turn of a chat; of several solutions (OlympiadBench) the first. Numbers are a box."""
    if is_chat(value):
        return read_turns(value)[-1][1] or None
    if isinstance(value, list):
        return next(iter(read_texts([item for item in value if not isinstance(item, int | float)], name)), None)
    return read_text(value, name) or None
