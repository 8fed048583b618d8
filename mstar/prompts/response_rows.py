"""Rows with responses, for ``grade`` and ``score``: lines of JSON, Parquet, a run's iteration, or what they wrote."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from mstar.errors import ConfigError
from mstar.prompts.quarantine import RowError
from mstar.prompts.table_rows import parquet_rows
from mstar.types import AnswerIs, AnswerType, ImageReference, Prompt, Tolerance

__all__ = ["find_response_files", "read_response_rows", "to_prompt"]

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

    Raises:
        ConfigError: there is nothing at ``path``.
        DataError: a Parquet file is damaged.
    """
    files = find_response_files(path)
    if files[0].suffix == ".parquet":
        for number, row in enumerate(parquet_rows(files), start=1):
            if isinstance(row, RowError):
                yield number, str(row)
                continue
            # Parquet has every field of a struct in every row.
            yield number, _check_row({name: _without_null(value) for name, value in row.items()}, answered)
        return
    with files[0].open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, f"not JSON that can be read ({error})."
                continue
            yield number, _check_row(values, answered)


def _without_null(value: Any) -> Any:
    return {key: item for key, item in value.items() if item is not None} or None if isinstance(value, dict) else value


def _check_row(row: Any, answered: bool) -> dict[str, Any] | str:
    """The row, or what is wrong with it."""
    if not isinstance(row, dict):
        return f"a JSON {type(row).__name__}, but an object is expected."
    if not isinstance(row.get("response"), str):
        return "'response' is missing, or is not a text."
    if answered and "answer" not in row and not row.get("answers"):
        return "'answer' is missing."
    for name, (holds, expected) in _OPTIONAL.items():
        if row.get(name) is not None and not holds(row[name]):
            return f"'{name}' is {row[name]!r}, but it is {expected}."
    return row


def _is_number(value: object, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


def _is_tolerance(value: object) -> bool:
    limits = value if isinstance(value, dict) else {}
    known = bool(limits) and set(limits) <= {"relative", "absolute"}
    return known and all(_is_number(limit, sys.float_info.max) for limit in limits.values())


# The fields that may be missing: what each must be, for the machine and for the reader.
_OPTIONAL: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "answer_type": (lambda value: value in list(AnswerType), f"one of {', '.join(AnswerType)}"),
    "answer_is": (lambda value: value in list(AnswerIs), f"one of {', '.join(AnswerIs)}"),
    "choices": (lambda value: isinstance(value, list), "a list"),
    "answers": (lambda value: isinstance(value, list), "a list"),
    "precision": (lambda value: _is_number(value, 50), "a number of decimals from 0 to 50"),
    "tolerance": (_is_tolerance, "an object with 'relative' or 'absolute', a number of 0 or more"),
    "unit": (lambda value: isinstance(value, str), "a text"),
    "question": (lambda value: isinstance(value, str), "a text"),
}


def to_prompt(row: Mapping[str, Any], prompt_id: str, images: tuple[ImageReference, ...] = ()) -> Prompt:
    """The prompt of a row that ``grade`` and ``score`` take; see the contract there.

    Args:
        row: The row, whose fields are of the right types.
        prompt_id: The prompt's id.
        images: Its pictures.
    """
    choices = tuple(str(choice) for choice in row.get("choices") or ())
    kind, answer_is, tolerance = row.get("answer_type"), row.get("answer_is"), row.get("tolerance")
    precision = row.get("precision")
    return Prompt(
        id=prompt_id,
        question=row.get("question") or "",
        images=images,
        answer=_as_text(row.get("answer")),
        answers=tuple(text for answer in row.get("answers") or () if (text := _as_text(answer)) is not None),
        answer_is=AnswerIs(answer_is) if answer_is else None,
        tolerance=Tolerance(**tolerance) if tolerance else None,
        # Choices without a type are the options of a question.
        answer_type=AnswerType(kind) if kind else AnswerType.MULTI_CHOICE if choices else AnswerType.TEXT,
        choices=choices,
        category=str(row.get("category") or ""),
        precision=None if precision is None else int(precision),
        unit=row.get("unit"),
    )


def _as_text(answer: object) -> str | None:
    """The answer as the readers take it; None for what cannot be one."""
    if isinstance(answer, str):
        return answer
    if answer is None or isinstance(answer, dict) or (isinstance(answer, float) and not math.isfinite(answer)):
        return None
    return json.dumps(answer, ensure_ascii=False) if isinstance(answer, list) else str(answer)
