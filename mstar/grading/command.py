"""``python -m mstar grade``: grades a file of responses, without a model."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

from mstar.atomic import atomic_path
from mstar.errors import ConfigError
from mstar.grading.answer import AnswerGrader
from mstar.grading.base import Grader
from mstar.grading.official import MathVistaGrader
from mstar.types import AnswerIs, AnswerType, Prompt, Tolerance

__all__ = ["grade_file", "to_prompt"]

_log = logging.getLogger(__name__)

_MODES: Final[dict[str, type[Grader]]] = {"ours": AnswerGrader, "official": MathVistaGrader}


def grade_file(input: str, output: str, mode: Literal["ours", "official"] = "ours") -> int:
    """Grades the responses of a JSONL file.

    Args:
        input: Rows with ``response`` and ``answer``, and where known ``answer_type`` (multi_choice, multi_select,
            integer, float, list, set, text, anls, box), ``choices``, ``answer_is`` (text, letter, index0, index1),
            ``answers`` (further right ones), ``tolerance`` (``{"relative": 0.05}`` or ``{"absolute": 0.001}``),
            ``precision``, ``unit`` and ``question``.
        output: The rows again, with ``predicted``, ``correct`` and ``status``; one that exists is replaced. For a
            multiple-choice question ``predicted`` is the option's letter, in the official mode the option's text, as in
            MathVista's own files.
        mode: ``ours`` judges as a careful person would; ``official`` follows MathVista's published rules.

    Returns:
        The exit status: 1 if a line could not be graded because it is malformed, else 0.

    Raises:
        ConfigError: the input is missing, or the mode is unknown.
    """
    if mode not in _MODES:
        raise ConfigError(f"mode is '{mode}'; choose ours or official.")
    source = Path(input)
    if not source.is_file():
        raise ConfigError(f"input '{input}' is not a file.")
    if source.resolve() == Path(output).resolve():
        raise ConfigError(f"output '{output}' is the input; choose another file.")
    grader = _MODES[mode]()
    counts: Counter[str] = Counter()
    with (
        source.open("rb") as lines,
        atomic_path(Path(output)) as temporary,
        temporary.open("w", encoding="utf-8") as out,
    ):
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            row = _read_row(line)
            if isinstance(row, str):
                counts["malformed"] += 1
                _log.warning("%s, line %d: %s", input, number, row)
                continue
            verdict = grader.grade(to_prompt(row, str(number)), row["response"])
            counts["rows"] += 1
            counts["correct"] += verdict.correct
            counts[verdict.status.value] += 1
            row |= {"predicted": verdict.predicted, "correct": verdict.correct, "status": verdict.status.value}
            out.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace").decode() + "\n")
    details = ", ".join(
        f"{counts[key]} {key.replace('_', ' ')}" for key in ("graded", "no_answer", "ungradeable_gold", "timeout")
    )
    sys.stdout.write(f"{output}: {counts['rows']} rows, {counts['correct']} right ({details})\n")
    if counts["timeout"]:
        _log.warning(
            "%s: %d comparisons ran out of computing time twice; they count as wrong.", output, counts["timeout"]
        )
    if counts["malformed"]:
        _log.warning("%s: %d malformed lines were left out; mend them and grade again.", input, counts["malformed"])
    return 1 if counts["malformed"] else 0


def _read_row(line: bytes) -> dict[str, Any] | str:
    """The row, or what is wrong with it."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON that can be read ({error})."
    if not isinstance(row, dict):
        return f"a JSON {type(row).__name__}, but an object is expected."
    if not isinstance(row.get("response"), str):
        return "'response' is missing, or is not a text."
    if "answer" not in row and not row.get("answers"):
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


def to_prompt(row: dict[str, Any], prompt_id: str) -> Prompt:
    """The prompt of a row that ``grade`` takes; see the contract there.

    Args:
        row: The row, whose fields are of the right types.
        prompt_id: The prompt's id.
    """
    choices = tuple(str(choice) for choice in row.get("choices") or ())
    kind, answer_is, tolerance = row.get("answer_type"), row.get("answer_is"), row.get("tolerance")
    precision = row.get("precision")
    return Prompt(
        id=prompt_id,
        question=row.get("question") or "",
        answer=_as_text(row.get("answer")),
        answers=tuple(text for answer in row.get("answers") or () if (text := _as_text(answer)) is not None),
        answer_is=AnswerIs(answer_is) if answer_is else None,
        tolerance=Tolerance(**tolerance) if tolerance else None,
        # Choices without a type are the options of a question.
        answer_type=AnswerType(kind) if kind else AnswerType.MULTI_CHOICE if choices else AnswerType.TEXT,
        choices=choices,
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
