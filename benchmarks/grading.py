"""Verdicts a second on one core: the text rules, and math-verify on the same answers.

Run ``python benchmarks/grading.py``. The two take turns, so that a busy machine slows both; the median round counts.
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from mstar.grading import AnswerGrader
from mstar.types import AnswerType, Prompt

ROUNDS: Final = 7
CASES: Final = Path(__file__).parents[1] / "tests" / "grading" / "one_line_answers.jsonl"

Case = tuple[Prompt, str]


def read_cases() -> list[Case]:
    """Every hand-written answer, once alone and once behind five lines of reasoning."""
    cases: list[Case] = []
    for line in CASES.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        prompt = Prompt(
            id="p",
            question=row.get("question", ""),
            answer=row["answer"],
            answer_type=AnswerType(row["answer_type"]),
            choices=tuple(row.get("choices", ())),
            precision=row.get("precision"),
        )
        if "\\" in row["answer"] or "^" in row["answer"]:
            continue  # formulas are math-verify's work in both
        reasoning = "".join(f"Step {i}: The bar of group {i} has a height of {7 * i} units.\n" for i in range(1, 6))
        cases += [(prompt, row["response"]), (prompt, f"{reasoning}The answer is {row['answer']}.")]
    return cases


def measure(grade: Callable[[Prompt, str], bool], cases: Sequence[Case]) -> float:
    """Verdicts a second of process time."""
    start = time.process_time()
    for prompt, response in cases:
        grade(prompt, response)
    return len(cases) / (time.process_time() - start)


def with_math_verify(prompt: Prompt, response: str) -> bool:
    """A verdict as the usual reward functions make it."""
    from math_verify import parse, verify

    gold = parse(prompt.answer or "", parsing_timeout=None)
    return bool(verify(gold, parse(response, parsing_timeout=None), timeout_seconds=None))


def main() -> None:
    """Prints the medians."""
    logging.disable(logging.CRITICAL)
    cases = read_cases()
    ours = AnswerGrader()
    for prompt, text in cases[:50]:  # imports, and what is compiled once
        with_math_verify(prompt, text)
        ours.grade(prompt, text)
    rates: dict[str, list[float]] = {"mstar": [], "math-verify": []}
    for index in range(ROUNDS):
        # math-verify keeps what it has parsed, which no new response gains from.
        fresh = [
            (replace(prompt, question=prompt.question + " " * index), text + " " * index) for prompt, text in cases
        ]
        rates["mstar"].append(measure(lambda prompt, text: ours.grade(prompt, text).correct, fresh))
        rates["math-verify"].append(measure(with_math_verify, fresh[::10]))
    for name, values in rates.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        sys.stdout.write(f"{name:12} {middle:9.0f} verdicts/s  (rounds: {low:.0f} to {high:.0f})\n")


if __name__ == "__main__":
    main()
