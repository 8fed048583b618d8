"""``python -m mstar grade``: grades a file of responses, without a model."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from mstar.atomic import atomic_path
from mstar.errors import ConfigError, counted
from mstar.grading.answer import AnswerGrader
from mstar.grading.base import Grader
from mstar.prompts.response_rows import find_response_files, read_response_rows, to_prompt
from mstar.types import Prompt, VerdictStatus

_log = logging.getLogger(__name__)

# Rows that a grader sees together.
_CHUNK: Final = 512


def grade_file(input: str, output: str, grader: Grader | None = None) -> int:
    """Grades the responses of a file.

    Args:
        input: JSON lines, a Parquet file (such as ``predict`` writes), or the folder of one iteration of a run. Rows
            with ``response`` and ``answer`` (or a list of all that are right), and where known ``answer_type``
            (multi_choice, multi_select, integer, float, list, set, text, anls, box), ``choices``, ``answer_is`` (text,
            letter, index0, index1), ``answers`` (further right ones), ``tolerance`` (``{"relative": 0.05}`` or
            ``{"absolute": 0.001}``), ``precision``, ``unit`` and ``question``.
        output: The rows again, as JSON lines, with ``predicted``, ``correct`` and ``status``; one that exists is
            replaced. For multiple choice ``predicted`` is the option's letter. What a run voted for is no gold answer.
        grader: Another grader, such as MathVista's published rules (``MathVistaGrader``, whose ``predicted`` is an
            option's text) or a judge by address (``mstar.judges.JudgeGrader``).

    Returns:
        The exit status: 1 if a line could not be graded because it is malformed, else 0.

    Raises:
        ConfigError: the input is missing, or is the output, too.
    """
    if Path(output).resolve() in [file.resolve() for file in find_response_files(input)]:
        raise ConfigError(f"output '{output}' is the input; choose another file.")
    grader = grader or AnswerGrader()
    counts: Counter[str] = Counter()
    # Half a surrogate pair, which JSON can hold and UTF-8 cannot, is written as JSON's escape (\ud83d).
    with atomic_path(Path(output)) as part, part.open("w", encoding="utf-8", errors="backslashreplace") as out:
        for number, row, prompt in _prepared(input, grader):
            if isinstance(row, str):
                counts["malformed"] += 1
                _log.warning("%s, line %d: %s", input, number, row)
                continue
            verdict = grader.grade(prompt, row["response"])
            counts["rows"] += 1
            counts["correct"] += verdict.correct
            counts[verdict.status.value] += 1
            row |= {"predicted": verdict.predicted, "correct": verdict.correct, "status": verdict.status.value}
            out.write(json.dumps(row, ensure_ascii=False, default=_plain) + "\n")
    details = ", ".join(f"{counts[status]:,} {status.replace('_', ' ')}" for status in VerdictStatus)
    sys.stdout.write(f"{output}: {counted(counts['rows'], 'row')}, {counts['correct']:,} right ({details})\n")
    for note in grader.judged().notes():
        sys.stdout.write(f"{note}\n")
    if counts["malformed"]:
        malformed = counted(counts["malformed"], "malformed line")
        _log.warning("%s: %s left out; mend the file and grade again.", input, malformed)
    return 1 if counts["malformed"] else 0


def _prepared(input: str, grader: Grader) -> Iterator[tuple[int, dict[str, Any] | str, Prompt]]:
    """The rows with their prompts; the grader has seen some of them before they come."""
    rows = read_response_rows(input, answered=True)
    while chunk := list(islice(rows, _CHUNK)):
        asked = [(number, row, to_prompt({} if isinstance(row, str) else row, str(number))) for number, row in chunk]
        grader.prepare([(prompt, row["response"]) for _, row, prompt in asked if not isinstance(row, str)])
        yield from asked


def _plain(value: object) -> str | None:
    """What JSON has no form for: the bytes of a picture are left out, a date is written as text."""
    return None if isinstance(value, bytes) else str(value)
