"""The data vocabulary: one frozen type for every arrow between two stages.

    prompts -> Prompt -> generation -> Response -> grading + rewards -> ScoredResponse -> selection -> Example

Nothing here imports torch or transformers, so every stage (and every test) can use these types cheaply.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, Protocol

from mstar.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "PICTURE",
    "AnswerIs",
    "AnswerType",
    "Example",
    "Fate",
    "ImageReference",
    "Prompt",
    "Response",
    "ScoredResponse",
    "StepLabels",
    "Tolerance",
    "Turn",
    "Verdict",
    "VerdictStatus",
]

# Where a picture stands in a prompt's text.
PICTURE: Final = "<image>"


class ImageReference(Protocol):
    """Where an image is; the pixels are loaded only when a batch needs them, and never stored in a run directory."""

    @property
    def uri(self) -> str:
        """A stable name, unique to the picture, e.g. ``charts/17.png``."""

    def load(self) -> Image.Image:
        """Decodes the picture to RGB.

        Raises:
            mstar.errors.DataError: the picture is missing or cannot be decoded.
        """


class AnswerType(StrEnum):
    """How an answer is compared with the gold answer (the names of MathVista's ``answer_type``, and six more).

    One option (multi_choice) or several (multi_select); a number (integer, float); values in an order (list) or in any
    (set); words or a formula (text); words up to small differences (anls, average normalised Levenshtein similarity,
    as in DocVQA); a box in a picture, right where it overlaps by half (box, intersection over union).
    """

    MULTI_CHOICE = "multi_choice"
    MULTI_SELECT = "multi_select"
    INTEGER = "integer"
    FLOAT = "float"
    LIST = "list"
    SET = "set"
    TEXT = "text"
    ANLS = "anls"
    BOX = "box"


class AnswerIs(StrEnum):
    """How the gold answer of a multiple-choice question names its option: without it, its own form decides."""

    TEXT = "text"
    LETTER = "letter"
    INDEX0 = "index0"
    INDEX1 = "index1"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a number may be from the gold answer.

    Attributes:
        relative: As a share of the gold answer, e.g. 0.05 (ChartQA).
        absolute: In the gold answer's own unit, e.g. 0.001 (DynaMath).
    """

    relative: float = 0.0
    absolute: float = 0.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What was said in a chat before the question.

    Attributes:
        text: The text, with ``<image>`` where a picture stands.
    """

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question about zero or more images.

    Attributes:
        id: Unique within its data set; sampling is seeded by it, so it must not depend on the order of the rows.
        question: The question's text, without a chat template. Where it (or one of ``turns``) has ``<image>`` once for
            each picture, the pictures stand there; without any, they stand before the first text of the user.
        images: The pictures, in the order in which they are shown.
        answer: The gold answer, or None where it is hidden (unlabelled prompts).
        answer_type: How an answer is compared with the gold answer.
        choices: The options' texts of a multiple-choice question, in order.
        rationale: A response to imitate, where the data has one (the seed set of a warm-up).
        reference_responses: Every response that is right from its first step to its last. Known for generated data
            only; used to measure (chain correctness) and by the ``oracle`` selection, never by training.
        category: A group for reports, e.g. the kind of question.
        precision: Decimals that the answer is asked for (``float``), or None where the gold answer shows them.
        unit: The unit that the answer is asked for in, e.g. ``cm``, or None.
        answers: Further answers that are right, too, e.g. those of other annotators.
        answer_is: How ``answer`` names its option, where that is known.
        tolerance: How far a number may be from the gold answer, or None.
        turns: What was said before the question: a system turn, earlier questions and answers.

    Raises:
        DataError: the id, the question, the answer or the category is no text.
    """

    id: str
    question: str
    images: tuple[ImageReference, ...] = ()
    answer: str | None = None
    answer_type: AnswerType = AnswerType.TEXT
    choices: tuple[str, ...] = ()
    rationale: str | None = None
    reference_responses: tuple[str, ...] = ()
    category: str = ""
    precision: int | None = None
    unit: str | None = None
    answers: tuple[str, ...] = ()
    answer_is: AnswerIs | None = None
    tolerance: Tolerance | None = None
    turns: tuple[Turn, ...] = ()

    def __post_init__(self) -> None:
        for name in ("id", "question", "answer", "category"):
            value: object = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name != "answer"):
                raise DataError(
                    f"prompt '{self.id}': its {name} is {value!r}, but must be text; have its source write it."
                )

    @property
    def golds(self) -> tuple[str, ...]:
        """All right answers, each once; the first one is ``answer``, if there is one."""
        return tuple(dict.fromkeys(gold for gold in (self.answer, *self.answers) if gold is not None))

    @property
    def shown_answers(self) -> tuple[str, ...]:
        """The right answers as a reader of the question knows them: an option by its letter, not by its number."""
        if self.answer_is not in (AnswerIs.INDEX0, AnswerIs.INDEX1):
            return self.golds
        first = int(self.answer_is is AnswerIs.INDEX1)

        def letter(number: re.Match[str]) -> str:
            place = int(number[0]) - first
            return chr(ord("A") + place) if 0 <= place < (len(self.choices) or 26) else number[0]

        return tuple(re.sub(r"\d+", letter, gold) for gold in self.golds)

    @property
    def conversation(self) -> str:
        """The question as a reader wants it: of a chat, with all that was said before it, and who said it."""
        if not self.turns:
            return self.question
        return "\n\n".join(f"{turn.role}: {turn.text}" for turn in (*self.turns, Turn("user", self.question)))

    def chain_correct(self, response: str) -> bool | None:
        """Whether a response is right throughout; None where the data does not know it."""
        return response.strip() in self.reference_responses if self.reference_responses else None


@dataclass(frozen=True, slots=True)
class Response:
    """One text that the policy wrote.

    Attributes:
        sample_index: Which of the prompt's samples this is, from 0.
        text: The response without the end-of-turn token. It includes the given prefix where one was continued.
        num_tokens: Generated tokens, the end-of-turn token included; a given prefix is not counted.
        finished: False if the length limit cut it off.
        temperature: Sampling temperature; 0 is greedy decoding.
        logprob: Sum of the generated tokens' natural log-probabilities under the policy at temperature 1.
        tokens: The generated tokens' ids, the end-of-turn token included, where they were asked for: a text encoded
            again may become other tokens. Else empty.
        logprobs: The natural log-probability of each of ``tokens`` under the policy at temperature 1.
    """

    prompt_id: str
    sample_index: int
    text: str
    num_tokens: int
    finished: bool
    temperature: float
    logprob: float
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()


class VerdictStatus(StrEnum):
    """What came of grading one response."""

    GRADED = "graded"
    NO_ANSWER = "no_answer"
    UNGRADEABLE_GOLD = "ungradeable_gold"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a response's final answer is right.

    Attributes:
        correct: True only if an answer was found and equals the gold answer.
        predicted: The answer that the response commits to, normalised; None if it commits to none.
        status: What came of the grading.
        vote: The answer as it is read without the gold answer, which responses vote for; empty if none is. None where
            it was not read, and ``predicted`` stands for it.
    """

    correct: bool
    predicted: str | None
    status: VerdictStatus
    vote: str | None = None


class Fate(StrEnum):
    """Why a response was, or was not, kept for training."""

    KEPT = "kept"
    NO_ANSWER = "no_answer"
    WRONG = "wrong"
    TRUNCATED = "truncated"
    DUPLICATE = "duplicate"
    NOT_SELECTED = "not_selected"
    NO_GRADIENT = "no_gradient"


@dataclass(frozen=True, slots=True)
class ScoredResponse:
    """A response with all that is known of its quality.

    Attributes:
        verdict: Whether its final answer is right.
        step_scores: The reward's score of each step (an MPRM's probability, in [0, 1], that it can still lead to the
            right answer), or one of the whole; empty where nothing is scored.
        process_reward: What ``rollout.aggregation`` makes of ``step_scores``, by default their minimum (M-STaR: R_p);
            None where nothing is scored.
        chain_correct: Whether the whole chain is right, where the data knows it (measuring and ``oracle`` only).
        fate: Kept for training, or why not; None before selection.
        weight: Factor of its loss in training.
        advantage: How much better it is than the prompt's other samples, for methods that learn from all of them; None
            for those that imitate what they keep.
    """

    response: Response
    verdict: Verdict
    step_scores: tuple[float, ...] = ()
    process_reward: float | None = None
    chain_correct: bool | None = None
    fate: Fate | None = None
    weight: float = 1.0
    advantage: float | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One training pair: what the policy learns of ``response`` when shown the prompt ``prompt_id``.

    Attributes:
        response: The response's text.
        weight: Factor of its loss.
        advantage: None where the response is imitated; else how much likelier (or, below 0, less likely) it should get.
        tokens: The sampled token ids that are trained on; where they are empty, ``response`` is encoded.
        logprobs: The log-probability of each of ``tokens`` when it was sampled, at temperature 1.
    """

    prompt_id: str
    response: str
    weight: float = 1.0
    advantage: float | None = None
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class StepLabels:
    """Monte-Carlo labels of one response's steps: what an MPRM learns from (Math-Shepherd's estimation).

    Attributes:
        response: The whole response.
        steps: Its steps; joined without a separator they are the response again.
        num_correct: For every step, how many continuations of the prefix that ends with it reached the gold answer.
        num_total: For every step, how many continuations were sampled (1 for the last step: the response itself). 0
            for a step that is not labelled, which the loss leaves out.
        correct: Whether the response's own final answer is right.
        logprob: The policy's log-probability of the response, or None if unknown.
        chain_correct: Whether the whole chain is right, where the data knows it (measuring only).
        finished: False if the length limit cut the response off, so that ``logprob`` has no end token's in it.
    """

    prompt_id: str
    response: str
    steps: tuple[str, ...]
    num_correct: tuple[int, ...]
    num_total: tuple[int, ...]
    correct: bool
    logprob: float | None = None
    chain_correct: bool | None = None
    finished: bool = True

    @property
    def soft_labels(self) -> tuple[float, ...]:
        """For every step, the share of its continuations that reached the gold answer; NaN if it is not labelled."""
        return tuple(c / t if t else math.nan for c, t in zip(self.num_correct, self.num_total, strict=True))

    @property
    def hard_labels(self) -> tuple[bool, ...]:
        """For every step, whether any of its continuations reached the gold answer."""
        return tuple(c > 0 for c in self.num_correct)
