"""What responses to a prompt with a gold answer vote for."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Final

from mstar.distributed import is_main
from mstar.grading import Grader, grade_all
from mstar.prompts.hidden import hide_answers
from mstar.types import Prompt, Response, ScoredResponse

_log: Final = logging.getLogger(__name__)
# Responses with an answer of which one, at least, must have a vote.
_ENOUGH: Final = 8


def read_votes(prompt: Prompt, scored: Iterable[ScoredResponse], grader: Grader) -> list[ScoredResponse]:
    """Adds the answers as they are read without the gold answer, like those of an unlabelled prompt.

    Read with it, all that equal it, within a tolerance say, are one answer, and the wrong ones stay apart: the right
    one would win votes that nobody could hold who did not know it.
    """
    hidden = hide_answers(prompt)
    votes: dict[str, str] = {}
    found = []
    for one in scored:
        text, verdict = one.response.text, one.verdict
        if prompt.golds and verdict.vote is None:
            if text not in votes:
                votes[text] = grader.grade(hidden, text).predicted or ""
            verdict = replace(verdict, vote=votes[text])
        found.append(replace(one, verdict=verdict))
    return found


def grade_voters(
    prompts: Sequence[Prompt], drawn: Sequence[Sequence[Response]], grader: Grader
) -> list[list[ScoredResponse]]:
    """``grade_all``, with what every response votes for."""
    graded = grade_all(prompts, drawn, grader)
    voters = [read_votes(prompt, row, grader) for prompt, row in zip(prompts, graded, strict=True)]
    read = [one.verdict for row in voters for one in row if one.verdict.predicted is not None]
    if len(read) >= _ENOUGH and all(verdict.vote == "" for verdict in read) and is_main():
        _tell_no_vote(type(grader).__name__)
    return voters


@cache
def _tell_no_vote(name: str) -> None:
    """Says once of a grader that nothing that it reads is a vote."""
    _log.warning(
        "%s reads an answer (predicted) where the prompt has a gold one, and none where that is hidden: no response "
        "has a vote, so majorities are never right, and prompts without an answer get none.",
        name,
    )
