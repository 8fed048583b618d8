"""Which column of a data set holds what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

from mstar.errors import ConfigError, DataError
from mstar.prompts.facts import ColumnChoice

__all__ = ["FieldMap"]

# The names under which public data sets have them, the usual one first.
_USUAL: Final[Mapping[str, tuple[str, ...]]] = {
    "question": ("question", "query", "problem", "prompt", "instruction"),
    "conversations": ("conversations", "messages"),
    "answer": ("answer", "gold", "ground_truth", "final_answer", "reference_answer"),
    "id": ("id", "question_id", "pid"),
    "choices": ("choices", "options"),
    "answer_type": ("answer_type",),
    "answers": ("answers",),
    "answer_is": ("answer_is",),
    "tolerance": ("tolerance",),
    "precision": ("precision",),
    "unit": ("unit",),
    "rationale": ("rationale", "response", "solution", "cot", "completion", "output"),
    "category": ("category", "source", "data_source", "dataset"),
}
_USUAL_IMAGES: Final = ("image", "images", "image_path", "image_paths", "decoded_image", "img")


@dataclass(frozen=True)
class FieldMap:
    """Which column holds what. Exactly one of ``question`` and ``conversations`` is needed.

    Args:
        question: The question's text.
        conversations: A list of turns (``{from, value}`` or ``{role, content}``): the first of the user is the
            question, and the first of the model is the rationale.
        images: One column of pictures or several; each holds one picture or a list of them, as a path below
            ``image_root``, as bytes, as base64 text, or as what ``datasets`` makes of a PIL picture. An empty list is
            a question without pictures; with several columns, those without a picture are passed over.
        answer: The gold answer; none for data without answers.
        id: A unique id; none derives one from the question and its pictures.
        choices: The options' texts of multiple-choice questions, a list.
        answer_type: One of ``mstar.types.AnswerType``; none, or another value, infers it from the answer.
        answers: A list of answers that are right, too; without ``answer`` the first of them is the gold answer.
        answer_is: How ``answer`` names its option: text, letter, index0 or index1.
        tolerance: How far a number may be off: an object with ``relative`` or ``absolute``.
        precision: Decimals that a float answer is asked for.
        unit: The unit that the answer is asked for in.
        rationale: A response to imitate.
        category: A group for reports.

    Raises:
        ConfigError: both of ``question`` and ``conversations`` are set, or neither.
    """

    question: str | None = None
    conversations: str | None = None
    images: tuple[str, ...] = ()
    answer: str | None = None
    id: str | None = None
    choices: str | None = None
    answer_type: str | None = None
    answers: str | None = None
    answer_is: str | None = None
    tolerance: str | None = None
    precision: str | None = None
    unit: str | None = None
    rationale: str | None = None
    category: str | None = None

    def __post_init__(self) -> None:
        if (self.question is None) == (self.conversations is None):
            raise ConfigError("fields: set either question or conversations, the column that holds the question.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names."""
        values = (getattr(self, item.name) for item in fields(self))
        return tuple(name for value in values if value for name in ((value,) if isinstance(value, str) else value))

    @classmethod
    def find(cls, columns: Sequence[str], where: str) -> FieldMap:
        """The map of a data set whose columns have usual names.

        Raises:
            DataError: no column has a usual name of a question.
        """
        found = {name: next((c for c in usual if c in columns), None) for name, usual in _USUAL.items()}
        if found["question"] is not None:
            found["conversations"] = None
        elif found["conversations"] is None:
            raise DataError(
                f"{where} has no column of a usual name for the question; it has {list(columns)}: name the columns in "
                "'fields'."
            )
        image = next((column for column in _USUAL_IMAGES if column in columns), None)
        return cls(images=() if image is None else (image,), **found)

    def explain(self, columns: Sequence[str], *, guessed: bool) -> tuple[ColumnChoice, ...]:
        """Why each column was chosen.

        Args:
            columns: The data's columns.
            guessed: Whether ``find`` chose them.
        """
        choices = []
        for item in fields(self):
            value = getattr(self, item.name)
            usual = _USUAL_IMAGES if item.name == "images" else _USUAL[item.name]
            for column in (value,) if isinstance(value, str) else value or ():
                others = [repr(name) for name in usual if name in columns and name != column]
                also = f", and so has {', '.join(others)}" if others else ""
                why = f"has a usual name{also}" if guessed else "named in 'fields'"
                choices.append(ColumnChoice(item.name, column, why))
        return tuple(choices)

    def check(self, columns: Sequence[str], where: str) -> None:
        """Makes sure that the columns exist.

        Raises:
            DataError: one does not.
        """
        missing = [name for name in self.columns if name not in columns]
        if missing:
            raise DataError(f"{where} lacks the columns {missing} that 'fields' names; it has {list(columns)}.")
