"""Rows with responses, for ``grade`` and ``score``: lines of JSON, Parquet, a run's iteration, or what they wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

from mstar.errors import ConfigError
from mstar.prompts.field_values import parse_texts, read_answer_is, read_precision, read_tolerance
from mstar.prompts.quarantine import Reason, RowError
from mstar.prompts.row_files import parse_json
from mstar.prompts.table_rows import parquet_rows
from mstar.types import AnswerType, ImageReference, Prompt

# What the fields are that may be missing, and what that is called.
_FIELDS: Final = {"choices": list, "answers": list, "unit": str, "question": str}
_CALLED: Final = {list: "a list", str: "a text"}
# The types of which a JSON list is one answer.
_LISTS: Final = (AnswerType.LIST, AnswerType.SET, AnswerType.BOX, AnswerType.MULTI_CHOICE, AnswerType.MULTI_SELECT)
# What a folder's files with responses are called: a run's, and those of ``score``.
_PATTERNS: Final = ("responses-*.parquet", "scores-*.parquet")


def find_response_files(path: str) -> list[Path]:
    """The files behind a path: a file itself, or the shards of a run's iteration or of ``score``.

    Raises:
        ConfigError: there are none.
    """
    place = Path(path)
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise ConfigError(f"input '{path}' is not a file, nor a folder with responses.")
    for pattern in _PATTERNS:
        if files := sorted(place.glob(pattern)):
            return files
    raise ConfigError(
        f"input '{path}' has no {' or '.join(_PATTERNS)}: give a file, or the folder of one iteration of a run "
        "(iterations/0003)."
    )


def read_response_rows(path: str, *, answered: bool) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The rows of a file or folder, a few in memory at a time.

    Args:
        path: As for ``find_response_files``; a file that does not end in ``.parquet`` has lines of JSON.
        answered: Whether every row must have a gold answer.

    Yields:
        For every row its number, from 1, and its values, or what is wrong with it. Blank lines count and are left out.
    """
    files = find_response_files(path)
    if files[0].suffix == ".parquet":
        # One by one: a shard has some columns only where it needs them.
        rows = chain.from_iterable(parquet_rows([file]) for file in files)
        for number, values in enumerate(rows, start=1):
            yield number, _check_row(values, answered)
        return
    with files[0].open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, _check_row(parse_json(line), answered)


def _check_row(row: Any, answered: bool) -> dict[str, Any] | str:
    """The row, or what is wrong with it."""
    if isinstance(row, RowError):
        return f"{row}."
    if not isinstance(row, dict):
        return f"a JSON {type(row).__name__}, but an object is expected."
    # In Parquet it stands for a number that is not known; JSON has no form for it.
    known: dict[str, Any] = {
        name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()
    }
    if not isinstance(known.get("response"), str):
        return "'response' is missing, or is not a text."
    if answered and "answer" not in known and not known.get("answers"):
        return "'answer' is missing."
    try:
        to_prompt(known, "")
    except RowError as error:
        return f"{error}."
    return known


def to_prompt(row: Mapping[str, Any], prompt_id: str, images: tuple[ImageReference, ...] = ()) -> Prompt:
    """The prompt of a row that ``grade`` and ``score`` take; see the contract there.

    Raises:
        RowError: a field of the row is of another type.
    """
    for name, cls in _FIELDS.items():
        if not isinstance(row.get(name), cls | None):
            raise RowError(Reason.WRONG_TYPE, f"'{name}' is {row[name]!r}, but it is {_CALLED[cls]}")
    choices, kind = tuple(str(choice) for choice in row.get("choices") or ()), row.get("answer_type")
    golds = [*_read_golds(row.get("answer"), kind, choices), *(row.get("answers") or ())]
    # What a run's responses agreed on is no gold answer.
    answer, *others = map(_as_text, [None] if row.get("voted") is True else golds)
    if kind is not None and kind not in list(AnswerType):
        raise RowError(Reason.WRONG_TYPE, f"'answer_type' is {kind!r}, but it is one of {', '.join(AnswerType)}")
    return Prompt(
        id=prompt_id,
        question=row.get("question") or "",
        images=images,
        answer=answer,
        answers=tuple(other for other in others if other is not None),
        answer_is=read_answer_is(row.get("answer_is"), "answer_is"),
        tolerance=read_tolerance(row.get("tolerance"), "tolerance"),
        # Choices without a type are the options of a question.
        answer_type=AnswerType(kind) if kind else AnswerType.MULTI_CHOICE if choices else AnswerType.TEXT,
        choices=choices,
        category=str(row.get("category") or ""),
        precision=read_precision(row.get("precision"), "precision"),
        unit=row.get("unit"),
    )


def _read_golds(answer: object, kind: str | None, choices: tuple[str, ...]) -> list[object]:
    """The gold answers of a cell: of a list each is right, as in a source of prompts, unless the answer is a list.

    Where no type says so it may be one, and the whole list is right, too.
    """
    golds = parse_texts(answer) if kind is None else answer
    if not isinstance(golds, list) or not golds or choices or kind in _LISTS:
        return [answer]
    if any(isinstance(gold, list | dict | None) for gold in golds):
        return [answer]
    return golds if kind is not None else [*golds, answer]


def _as_text(answer: object) -> str | None:
    """The answer as the readers take it; None for what cannot be one."""
    if isinstance(answer, str):
        return answer
    if answer is None or isinstance(answer, dict) or (isinstance(answer, float) and not math.isfinite(answer)):
        return None
    return json.dumps(answer, ensure_ascii=False) if isinstance(answer, list) else str(answer)
