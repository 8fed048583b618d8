"""The general grader: where a response commits to an answer, and whether that is the gold answer."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Final

from mstar.endpoint.judged import Judged
from mstar.grading.base import AnswerReader, Grader
from mstar.grading.choices import ChoiceReader, MultiSelectReader
from mstar.grading.commitment import find_committed, is_plain_line, read_bare, read_commitment, relevant_part
from mstar.grading.formulas import GradingTimeoutError
from mstar.grading.lists import BoxReader, ListReader
from mstar.grading.numbers import NumberReader, read_quantity
from mstar.grading.plain_text import clean_latex, normalise
from mstar.grading.quantities import DECIMAL_COMMA
from mstar.grading.sentences import find_stated_answer
from mstar.grading.texts import SimilarTextReader, TextReader, read_literal
from mstar.types import AnswerType, Prompt, Verdict, VerdictStatus

_MAX_PREDICTED: Final = 500
_LABEL: Final = re.compile(r"^A:\s*(?=[^\n]+\Z)", re.MULTILINE)


class AnswerGrader(Grader):
    """Compares the answer that a response commits to last with the gold answer, by the rules of the answer's type.

    A commitment is a box, an answer tag or a marker such as "Answer:", "the answer is", "####" or 【答案】, or else the
    whole response or its last line where that is nothing but an answer. One that names several answers or none has no
    answer, and nothing else is read in its place. Nothing that a model wrote is executed.

    Args:
        sentences: Whether to read what a sentence states where there is no commitment at all: for benchmarks of models
            that were told no form of answer.
    """

    # Also of classes made from this one, whose own constructors know nothing of it.
    sentences: bool = False
    _counted = Judged()

    def __init__(self, sentences: bool = False) -> None:
        self.sentences = sentences

    def grade(self, prompt: Prompt, response: str) -> Verdict:
        """Grades one response; see the interface."""
        reader = make_reader(prompt)
        try:
            predicted = self._find(prompt, response, reader)
        except GradingTimeoutError:
            if reader.gold is not None:
                self._counted += Judged(timeouts=1)
                return Verdict(False, None, VerdictStatus.TIMEOUT)
            predicted = None
        predicted = predicted[:_MAX_PREDICTED] if predicted and predicted != reader.gold else predicted
        if reader.gold is None:
            return Verdict(False, predicted, VerdictStatus.UNGRADEABLE_GOLD)
        if predicted is None:
            return Verdict(False, None, VerdictStatus.NO_ANSWER)
        return Verdict(predicted == reader.gold, predicted, VerdictStatus.GRADED)

    def judged(self) -> Judged:
        """How many comparisons this process gave up so far."""
        return self._counted

    def _find(self, prompt: Prompt, response: str, reader: AnswerReader) -> str | None:
        text = relevant_part(response, prompt.question)
        committed, answer = read_commitment(text, reader, prompt.question)
        if committed:
            return answer
        # GSM8K's "A: 26"; where there are options, A is one of them.
        if not prompt.choices and prompt.answer_type not in (AnswerType.MULTI_CHOICE, AnswerType.MULTI_SELECT):
            text = _LABEL.sub("", text)
        answer = read_bare(text, reader)
        # A response of one line is its answer, also where it says it in a sentence.
        if answer is None and text and (self.sentences or is_plain_line(text, prompt.question)):
            answer = find_stated_answer(text, prompt, reader)
        return answer or None


class _AnyReader(AnswerReader):
    """Reads answers of which several are right."""

    def __init__(self, readers: list[AnswerReader]) -> None:
        self._readers = [reader for reader in readers if reader.gold is not None] or readers[:1]
        self.gold = self._readers[0].gold
        self.takes_any_text = self._readers[0].takes_any_text

    def read(self, text: str) -> str | None:
        found = [(reader.read(text), reader.gold) for reader in self._readers]
        if any(answer is not None and answer == gold for answer, gold in found):
            return self.gold
        return next((answer for answer, _ in found if answer is not None), None)


def make_reader(prompt: Prompt) -> AnswerReader:
    """The reader of a prompt's answers; a prompt's samples follow each other, so it is kept."""
    return _make_reader(replace(prompt, images=()))


@lru_cache(maxsize=1024)
def _make_reader(prompt: Prompt) -> AnswerReader:
    readers = [_read_gold(gold, prompt) for gold in prompt.golds] or [_read_gold(None, prompt)]
    return readers[0] if len(readers) == 1 else _AnyReader(readers)


def _read_gold(gold: str | None, prompt: Prompt) -> AnswerReader:
    """The reader of one gold answer: of its type, or by its own form where the type says nothing."""
    answer = gold if gold is None or gold in prompt.choices else find_committed(gold)
    match prompt.answer_type:
        case AnswerType.MULTI_CHOICE | AnswerType.MULTI_SELECT as kind:
            one = ChoiceReader(answer, prompt.choices, prompt.answer_is)
            several = kind is AnswerType.MULTI_SELECT or (answer is not None and one.gold is None)
            return MultiSelectReader(answer, prompt.choices, prompt.answer_is) if several else one
        case AnswerType.INTEGER:
            return NumberReader(answer, prompt, whole=True)
        case AnswerType.FLOAT:
            # A decimal number is meant with as many decimals as it shows, a whole number exactly.
            shown = normalise(answer or "").strip().strip("$% ").partition(".")[2]
            decimals = len(shown) if prompt.precision is None and shown.isdecimal() else prompt.precision
            return NumberReader(answer, prompt, decimals)
        case AnswerType.LIST | AnswerType.SET as kind:
            return ListReader(answer, kind is AnswerType.LIST)
        case AnswerType.BOX:
            return BoxReader(answer)
        case AnswerType.ANLS:
            return SimilarTextReader(answer)
        case AnswerType.TEXT:
            return _text_reader(answer, prompt)


def _text_reader(answer: str | None, prompt: Prompt) -> AnswerReader:
    """Text is what data sets call any answer, so that its own form decides."""
    if answer is None:
        return TextReader(None, prompt.question)
    if prompt.choices and (reader := ChoiceReader(answer, prompt.choices)).gold is not None:
        return reader
    text = clean_latex(normalise(answer)).strip()
    either = "或" in text
    if either or (text[:1] + text[-1:] in ("[]", "{}") and not re.search(r"\\cup|[<>≤≥≠]", text)):
        listed = ListReader(answer, text[0] == "[" and not either, written=not either)
        if listed.gold is not None:
            return listed
    number = len(text) <= 40 and text.casefold() != "none" and read_literal(text) is None and "!" not in text
    number = number and "=" not in text and DECIMAL_COMMA.fullmatch(text) is None  # 2,5 may be two numbers
    if number and read_quantity(answer) is not None:
        return NumberReader(answer, prompt, prompt.precision)
    return TextReader(answer, prompt.question)
