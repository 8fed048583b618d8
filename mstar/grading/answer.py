"""The general grader: what a careful person would accept, by the type of the answer."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from mstar.grading.algebra import GradingTimeoutError, begin
from mstar.grading.base import Grader
from mstar.grading.choices import ChoiceReader
from mstar.grading.extraction import find_answer
from mstar.grading.latex import clean_latex
from mstar.grading.lists import ListReader
from mstar.grading.literals import read_literal
from mstar.grading.normalisation import normalise
from mstar.grading.numeric import NumberReader
from mstar.grading.quantities import parse_quantity
from mstar.grading.reader import AnswerReader
from mstar.grading.texts import TextReader
from mstar.types import AnswerType, Prompt, Verdict, VerdictStatus

__all__ = ["AnswerGrader"]

_MAX_PREDICTED: Final = 500


class AnswerGrader(Grader):
    """Compares the answer that a response commits to last with the gold answer, by the rules of the answer's type.

    A response that names several answers, lists the options, breaks off, or only answers a question that it made up has
    no answer. Nothing is guessed and nothing that a model wrote is executed; formulas are compared by math-verify in a
    process that is stopped after a second.
    """

    def grade(self, prompt: Prompt, response: str) -> Verdict:
        """Grades one response; see the interface."""
        reader = _reader(
            prompt.answer, prompt.answer_type, prompt.choices, prompt.precision, prompt.unit, prompt.question
        )
        begin()
        try:
            predicted = find_answer(response, prompt.question, reader)
        except GradingTimeoutError:
            status = VerdictStatus.UNGRADEABLE_GOLD if reader.gold is None else VerdictStatus.TIMEOUT
            return Verdict(False, None, status)
        predicted = predicted[:_MAX_PREDICTED] if predicted and predicted != reader.gold else predicted
        if reader.gold is None:
            return Verdict(False, predicted, VerdictStatus.UNGRADEABLE_GOLD)
        if predicted is None:
            return Verdict(False, None, VerdictStatus.NO_ANSWER)
        return Verdict(predicted == reader.gold, predicted, VerdictStatus.GRADED)


@lru_cache(maxsize=4096)
def _reader(
    answer: str | None,
    kind: AnswerType,
    choices: tuple[str, ...],
    precision: int | None,
    unit: str | None,
    question: str,
) -> AnswerReader:
    """The reader of one prompt; its samples follow each other, so it is kept."""
    match kind:
        case AnswerType.MULTI_CHOICE:
            return ChoiceReader(answer, choices, question)
        case AnswerType.INTEGER:
            return NumberReader(answer, True, None, unit, question)
        case AnswerType.FLOAT:
            return NumberReader(
                answer, False, precision if precision is not None else _decimals(answer), unit, question
            )
        case AnswerType.LIST:
            return ListReader(answer)
        case AnswerType.TEXT:
            return _text_reader(answer, choices, unit, question)


def _text_reader(answer: str | None, choices: tuple[str, ...], unit: str | None, question: str) -> AnswerReader:
    """Text is what data sets call any answer, so that its own form decides."""
    if answer is None:
        return TextReader(None, question)
    if choices and (reader := ChoiceReader(answer, choices, question)).gold is not None:
        return reader
    text = clean_latex(normalise(answer)).strip()
    if text.startswith("[") and text.endswith("]") and (listed := ListReader(answer)).gold is not None:
        return listed
    if (
        len(text) <= 40
        and text.casefold() != "none"
        and read_literal(text) is None
        and parse_quantity(text) is not None
    ):
        return NumberReader(answer, False, None, unit, question)
    return TextReader(answer, question)


def _decimals(answer: str | None) -> int | None:
    """How many decimals the gold answer shows, where it is a plain decimal number."""
    text = "" if answer is None else normalise(answer).strip().strip("$% ")
    whole, point, digits = text.partition(".")
    if whole.lstrip("+-").replace(",", "").isdecimal() or not whole.lstrip("+-"):
        return len(digits) if point and digits.isdecimal() else 0 if not point else None
    return None
