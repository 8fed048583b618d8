"""Every form of commitment around an answer, for the tests of what is read in it."""

from __future__ import annotations

from typing import Any

from mstar.grading import AnswerGrader
from mstar.prompts.response_rows import to_prompt
from mstar.types import Verdict

GRADER = AnswerGrader()
TOWNS = ["Lyon", "Turin", "Basel"]


def grade(response: str, **row: Any) -> Verdict:
    return GRADER.grade(to_prompt(row | {"response": response}, "p"), response)


def check(row: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    """Every form of commitment tells the same."""
    for frame in ("{}", "The answer is {}", r"\boxed{{{}}}", "<answer>{}</answer>", "I looked at it twice.\n#### {}"):
        # Behind this mark stands a number or a few words, or else it is a heading.
        for response in right if "####" not in frame or max(map(len, right)) < 25 else ():
            assert grade(frame.format(response), **row).correct, (frame, response)
        for response in wrong:
            assert not grade(frame.format(response), **row).correct, (frame, response)
