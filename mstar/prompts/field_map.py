"""Which column of a data set holds what."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Final

from mstar.errors import ConfigError, DataError, require_least
from mstar.prompts.facts import ColumnChoice
from mstar.prompts.field_values import fields_of
from mstar.types import AnswerIs, AnswerType, Tolerance

IMAGES: Final = (
    "decoded_image", "image", "images", "image_path", "image_paths", "img", "img_path", "image_file", "image_name",
    "picture", "pictures", "image_filename",
)  # fmt: skip
# The names under which public data sets have them, the usual one first; _fold is how they are compared.
_USUAL: Final[Mapping[str, tuple[str, ...]]] = {
    "question": (
        "question", "query", "problem", "prompt", "instruction", "question_text", "problem_text", "question_string",
    ),
    "conversations": ("conversations", "messages", "message", "texts"),
    "system": ("system", "system_prompt"),
    "images": IMAGES,
    "answer": (
        "answer", "gold", "ground_truth", "final_answer", "reference_answer", "gt_answer", "correct_answer",
        "reward_model.ground_truth",
    ),
    "id": ("_key", "id", "question_id", "pid"),
    "choices": ("choices", "options", "option"),
    "answer_type": ("answer_type",),
    "answers": ("answers",),
    "answer_is": ("answer_is",),
    "tolerance": ("tolerance",),
    "precision": ("precision",),
    "unit": ("unit",),
    "rationale": ("rationale", "response", "solution", "cot", "completion", "output"),
    "category": ("category", "source", "data_source", "dataset"),
    # ScienceQA's and MMBench's hints are what the question is about.
    "context": ("context", "passage", "hint", "body"),
}  # fmt: skip
# What stands for all rows in the place of a column.
_WORDS: Final = {"answer_is": frozenset(AnswerIs), "answer_type": frozenset(AnswerType)}
_LETTERS: Final = tuple("ABCDEFGHIJ")
# PMC-VQA's columns of options, and how spreadsheets have them.
_LETTERED: Final = tuple(tuple(f"{name}{letter.lower()}" for letter in _LETTERS) for name in ("choice", "option"))
# MMMU, EMMA, OlympiadBench and MP-DocVQA (20) have a column for each picture of a question.
_NUMBERED: Final = re.compile(r"image_[1-9][0-9]?")
# Columns that a message lists.
_SHOWN: Final = 40


@dataclass(frozen=True)
class FieldMap:
    """Which column holds what. What is not named is found by its usual name, unless the question's column is named.

    A name may lead into a column: ``meta.answer``, ``conversations.1.value``. Of rows that are the values of one JSON
    object, ``_key`` is the key; of rows from several files, ``_file`` is the file's name, and ``_folder`` its folder,
    relative to that of the data. An empty name reads nothing.

    Args:
        question: The question's text, or a list of turns.
        conversations: A list of turns (``{from, value}`` or ``{role, content}``, or pairs ``{user, assistant}``): the
            user's last is the question, what the model says then is the rationale, and the turns before it are shown
            before the question.
        system: What the system says before the first turn, where the turns do not begin with it.
        images: One column of pictures or several; each holds one picture or a list of them, as a path below
            ``image_root``, as bytes, as base64 text, or as what ``datasets`` makes of a PIL picture; or a path with
            columns in it, such as ``images/{id}.png`` or ``{image_id:012}.jpg`` (12 digits, as in COCO). A row without
            one is a question without pictures.
        answer: The gold answer, or a list of all that are right; none for data without answers. Of a chat it is what
            the model says last, whichever turn is named. 0 and 1 are no and yes, too, where all answers are one of them
            and most questions ask for that.
        id: A unique id; none derives one from the question and its pictures, and from the rationale behind a ``~``.
        choices: The options of multiple-choice questions: a list of texts, an object by letter, a list of
            ``{label, text}``, or text that is one of these; or several columns, each with one option. Options in the
            question's own text are found there.
        answer_type: One of ``mstar.types.AnswerType``; a column, or one of these for all. None, or another value in the
            column, infers it from the answer.
        answers: A list of answers that are right, too; without ``answer`` the first of them is the gold answer. Of ten
            of which some are alike (VQA) those that three annotators gave, else the most frequent alone.
        answer_is: How ``answer`` names its option: text, letter, index0 or index1; a column, or one of these for all.
        tolerance: How far a number may be off: a column of objects with ``relative`` or ``absolute``, or one for all.
        precision: Decimals that a float answer is asked for.
        unit: The unit that the answer is asked for in.
        rationale: A response to imitate.
        category: A group for reports.
        context: Text that is shown before the question, such as a table or a hint; one column or several.

    Raises:
        ConfigError: both of ``question`` and ``conversations`` are set, or a tolerance is negative.
    """

    question: str | None = None
    conversations: str | None = None
    system: str | None = None
    images: str | tuple[str, ...] = ()
    answer: str | None = None
    id: str | None = None
    choices: str | tuple[str, ...] | None = None
    answer_type: str | None = None
    answers: str | None = None
    answer_is: str | None = None
    tolerance: str | Tolerance | None = None
    precision: str | None = None
    unit: str | None = None
    rationale: str | None = None
    category: str | None = None
    context: str | tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.question and self.conversations:
            raise ConfigError("fields: set question or conversations, not both: the column that holds the question.")
        if isinstance(self.tolerance, Tolerance):
            require_least("fields.tolerance.", 0, **asdict(self.tolerance))

    def names(self, role: str) -> tuple[str, ...]:
        """The columns of a role, as they are named."""
        value = getattr(self, role)
        if isinstance(value, Tolerance):
            return ()
        return tuple(name for name in ((value,) if isinstance(value, str) else value or ()) if name)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        named = ((item.name, name) for item in fields(self) for name in self.names(item.name))
        return tuple(name for role, whole in named if not self.said_of_all(role) for name in fields_of(whole))

    def said_of_all(self, role: str) -> str | None:
        """The word that stands for all rows in the place of a column; None if the role has a column, or nothing."""
        return word if (word := getattr(self, role)) in _WORDS.get(role, ()) else None

    def complete(self, columns: Sequence[str], where: str) -> tuple[FieldMap, frozenset[str]]:
        """The map with what is not named found by its usual name, and the roles that were found.

        Raises:
            DataError: no column has a usual name of a question, or one that is named does not exist.
        """
        if self.question or self.conversations:
            return self._resolved(columns, where), frozenset()
        found: dict[str, str | tuple[str, ...]] = {}
        for role, usual in _USUAL.items():
            if getattr(self, role) in (None, ()) and (names := _find_usual(usual, columns)):
                found[role] = names[0]
        if "question" in found:
            found.pop("conversations", None)
        elif "conversations" not in found:
            raise DataError(f"{where} has no question by a usual name: name its columns {listed(columns)} in 'fields'.")
        if found.get("question") == "instruction" and "input" in columns and self.context is None:
            # Alpaca's rows: what the instruction is about.
            found["context"] = "input"
        lettered = [letter for letter in _LETTERS if letter in columns] if {"A", "B"} <= {*columns} else []
        options = [lettered, *(_find_usual(names, columns) for names in _LETTERED)]
        several = next((tuple(names) for names in options if len(names) > 1), None)
        if self.choices is None and "choices" not in found and several:
            found["choices"] = several
        numbered = sorted(filter(_NUMBERED.fullmatch, columns), key=lambda name: int(name.partition("_")[2]))
        if self.images == () and "images" not in found and numbered:
            found["images"] = tuple(numbered)
        return replace(self, **found)._resolved(columns, where), frozenset(found)  # type: ignore[arg-type]

    def _resolved(self, columns: Sequence[str], where: str) -> FieldMap:
        """The map with ``{id}`` and the like in templates as the columns that are meant; all of them must exist."""

        def name(match: re.Match[str]) -> str:
            role = match[1]
            known = role in columns or role not in _USUAL
            column = role if known else next(iter(self.names(role)), "_key" if role == "id" else role)
            return f"{{{column}"

        images = tuple(re.sub(r"\{([^{}:]+)", name, image) for image in self.names("images"))
        resolved = replace(self, images=images)
        if missing := not_among(resolved.columns, columns):
            raise DataError(f"{where} lacks the columns {missing} that 'fields' names; it has {listed(columns)}.")
        return resolved

    def explain(self, columns: Sequence[str], guessed: frozenset[str]) -> tuple[ColumnChoice, ...]:
        """Why each of the data's columns was chosen; ``guessed`` are the roles that ``complete`` found."""
        choices = []
        for role in (item.name for item in fields(self)):
            for column in self.names(role):
                others = [repr(name) for name in _find_usual(_USUAL.get(role, ()), columns) if name != column]
                also = f", and so has {', '.join(others)}" if others else ""
                also += ", and is read where the question is a chat" if role == "system" and self.question else ""
                why = f"has a usual name{also}" if role in guessed else "named in 'fields'"
                choices.append(ColumnChoice(role, column, why))
        if isinstance(self.tolerance, Tolerance):
            bounds = ", ".join(f"{bound:g} {kind}" for kind, bound in asdict(self.tolerance).items() if bound)
            choices.append(ColumnChoice("tolerance", bounds or "none", "set in 'fields' for all"))
        return tuple(choices)


def _find_usual(usual: Sequence[str], columns: Sequence[str]) -> list[str]:
    """The columns that have a usual name, in the order of those; a field within a column keeps the usual name."""
    found = {_fold(column): column for column in reversed(columns)} | {column: column for column in columns}
    # A column may itself be called so, as pandas flattens objects.
    wholes = [(name, "", "") if name in found else name.partition(".") for name in usual]
    names = [(found.get(name, found.get(_fold(name))), f"{dot}{rest}") for name, dot, rest in wholes]
    return [f"{name}{rest}" for name, rest in names if name is not None]


def _fold(name: str) -> str:
    """A column's name without regard to case, blanks and the like: TheoremQA has Question, LogicVista imagename."""
    return name if name.startswith("_") else re.sub(r"[\s_-]", "", name).casefold()


def not_among(names: Iterable[str], columns: Sequence[str]) -> list[str]:
    """The names that are no columns, and lead into none (``meta.answer``)."""
    return [name for name in names if not {name, name.partition(".")[0]} & {*columns}]


def listed(columns: Sequence[str]) -> str:
    """The columns for a message: an object of objects has thousands of keys."""
    rest = f" and {len(columns) - _SHOWN:,} more" if len(columns) > _SHOWN else ""
    return f"{list(columns[:_SHOWN])}{rest}"
