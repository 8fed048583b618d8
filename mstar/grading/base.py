"""The interfaces of grading: graders, which judge responses, and readers, which read answers of one type."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from mstar.endpoint import Judged
from mstar.interruption import stop_if_asked
from mstar.types import Prompt, Response, ScoredResponse, Verdict, VerdictStatus


class Grader(ABC):
    """Decides whether a response's final answer is right (M-STaR: the outcome reward, 1[answer(y) = a*])."""

    @abstractmethod
    def grade(self, prompt: Prompt, response: str) -> Verdict:
        """Grades one response; never raises for anything that a policy may write.

        Without a gold answer the status is ``ungradeable_gold``, and ``predicted`` is still filled in, so that such
        prompts can be voted on: two responses to one prompt that commit to the same answer have the same string.
        """

    def prepare(self, responses: Sequence[tuple[Prompt, str]]) -> None:  # noqa: B027 - rules have nothing to prepare
        """Takes in responses that are about to be graded, for a grader that does better with many at a time."""

    def judged(self) -> Judged:
        """What a judge among its means was asked so far by this process, and what the rules gave up."""
        return Judged()

    def is_gradeable(self, prompt: Prompt) -> bool:
        """Whether the prompt's gold answer can be compared with anything; if not, no response to it is ever right."""
        return self.grade(prompt, "").status is not VerdictStatus.UNGRADEABLE_GOLD


class AnswerReader(ABC):
    """Reads answers to one prompt: the part of the rules that depends on the type of its answer.

    Attributes:
        gold: The normalised gold answer; None if it cannot be graded.
        takes_any_text: Whether any short text is an answer, so that a sentence with an answer in it is one, too.
    """

    gold: str | None
    takes_any_text: bool = False

    @abstractmethod
    def read(self, text: str) -> str | None:
        """The normalised form of a text that is an answer, with its unit, letter or markup; ``gold`` if it is right.

        None for a text that is no answer of this type, names several, or says more ("about half of the 18 apples").

        Raises:
            mstar.grading.formulas.GradingTimeoutError: a formula could not be compared within its computing time.
        """


def grade_response(prompt: Prompt, response: Response, grader: Grader) -> ScoredResponse:
    """Adds the verdict on the final answer and, where the data knows it, on the whole chain."""
    stop_if_asked()
    verdict = grader.grade(prompt, response.text)
    return ScoredResponse(response, verdict, chain_correct=prompt.chain_correct(response.text))


def grade_all(
    prompts: Sequence[Prompt], drawn: Sequence[Sequence[Response]], grader: Grader
) -> list[list[ScoredResponse]]:
    """The same for the responses to several prompts, of which the grader is told before; equal ones are graded once."""
    pairs = list(zip(prompts, drawn, strict=True))
    grader.prepare([(prompt, response.text) for prompt, responses in pairs for response in responses])
    graded: list[list[ScoredResponse]] = []
    for prompt, responses in pairs:
        texts = {response.text: response for response in responses}
        first = {text: grade_response(prompt, response, grader) for text, response in texts.items()}
        graded.append([replace(first[response.text], response=response) for response in responses])
    return graded
