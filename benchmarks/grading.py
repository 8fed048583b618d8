"""Verdicts a second on one core: the text rules, and math-verify on the same answers.

Run ``python benchmarks/grading.py``. The two take turns, on new responses every time; the median round
counts. They are short; benchmarks/README.md has the figures for real responses by their length.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Final

from harness import compare, report

from mstar.grading import AnswerGrader
from mstar.prompts.response_rows import to_prompt
from mstar.types import Prompt

ROUNDS: Final = 7
# math-verify gets one case of so many, to be done in a like time; an odd number, so that both kinds are among them.
EVERY: Final = 9
CASES: Final = Path(__file__).parents[1] / "tests" / "grading" / "one_line_answers.jsonl"

Case = tuple[Prompt, str]


def read_cases() -> list[Case]:
    """Every hand-written answer, once alone and once behind five lines of reasoning."""
    cases: list[Case] = []
    for line in CASES.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        prompt = to_prompt(row, "p")
        if "\\" in row["answer"] or "^" in row["answer"]:
            continue  # formulas are math-verify's work in both
        reasoning = "".join(f"Step {i}: The bar of group {i} has a height of {7 * i} units.\n" for i in range(1, 6))
        cases += [(prompt, row["response"]), (prompt, f"{reasoning}The answer is {row['answer']}.")]
    return cases


def with_math_verify(prompt: Prompt, response: str) -> bool:
    """A verdict as the usual reward functions make it."""
    from math_verify import parse, verify

    gold = parse(prompt.answer or "", parsing_timeout=None)
    return bool(verify(gold, parse(response, parsing_timeout=None), timeout_seconds=None))


def main() -> None:
    """Prints the comparison, and what is left of the rate of our text rules."""
    logging.disable(logging.CRITICAL)
    cases = read_cases()
    grader = AnswerGrader()
    rounds = count()

    def fresh(every: int) -> list[Case]:
        # math-verify keeps what it has parsed, which no new response gains from.
        blanks = " " * next(rounds)
        return [(replace(prompt, question=prompt.question + blanks), text + blanks) for prompt, text in cases[::every]]

    def ours() -> float:
        return sum(grader.grade(prompt, text) is not None for prompt, text in fresh(1))

    def theirs() -> float:
        return sum(with_math_verify(prompt, text) is not None for prompt, text in fresh(EVERY))

    report(compare("grading, one-line answers and short chains", "verdicts/s", ours, theirs, rounds=ROUNDS))


if __name__ == "__main__":
    main()
