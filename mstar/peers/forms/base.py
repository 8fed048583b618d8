"""What a form is: for each kind of row the file that holds it, and how a row looks there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from mstar.chat_template import place_pictures
from mstar.errors import DataError
from mstar.peers.pictures import Pictures
from mstar.peers.rows import Kept, LabelledSteps, PeerRow
from mstar.rewards.published.base import INSTRUCTION, placed_question
from mstar.thoughts import unopened_thought
from mstar.types import PICTURE, Prompt, Turn

Row = dict[str, Any]
# What stands for a medium in the text of these peers, LLaMA-Factory, ms-swift and verl, wherever it is.
_MARKS: Final = (PICTURE, "<video>", "<audio>")


@dataclass(frozen=True, slots=True)
class PeerTable:
    """One file of a form.

    Attributes:
        to_row: Makes its row of one of the run's; raises DataError if the form has no place for it.
        columns: Of a Parquet file its columns beside the pictures, by whether any row has some; None for JSON lines.
    """

    file: str
    to_row: Callable[[Any, Pictures], Row]
    columns: Callable[[bool], pa.Schema] | None = None


@dataclass(frozen=True, slots=True)
class PeerForm:
    """How a peer wants its data.

    Attributes:
        tables: Its files by the kind of their rows; kinds that are not there have no place in it.
        extras: Makes of the names of the files that were written, with their numbers of rows, and of the export's
            folder what else is written: JSON by name.
    """

    tables: Mapping[type[PeerRow], PeerTable]
    extras: Callable[[Mapping[str, int], Path], Mapping[str, Any]] = lambda files, folder: {}


def arrow_schema(columns: pa.Schema, with_pictures: bool) -> pa.Schema:
    """The columns of a Parquet file, with what tells ``datasets`` which of them has pictures.

    One without any would have TRL ask for a processor.
    """
    from datasets import Features, Image

    named = dict(Features.from_arrow_schema(columns))
    return Features(named | ({"images": [Image()]} if with_pictures else {})).arrow_schema


def message_row(messages: Sequence[Mapping[str, Any]], prompt: Prompt, pictures: Pictures) -> Row:
    """Messages about a prompt, with the paths of its pictures."""
    return {"messages": messages, "images": [pictures.path(image) for image in prompt.images], "prompt_id": prompt.id}


def marked_turns(prompt: Prompt, turns: Sequence[Turn] | None = None) -> list[dict[str, str]]:
    """A prompt as messages of text with ``<image>`` where a picture stands.

    Other turns may be said in the place of its own and its question.

    Raises:
        DataError: the text has another number of marks than there are pictures, or marks of a video or a sound.
    """
    said = (*prompt.turns, Turn("user", prompt.question)) if turns is None else turns
    for turn in said:
        # Where there are pictures, their marks are counted below.
        _refuse_marks(turn.text, "prompt", _MARKS[bool(prompt.images) :])
    return [
        {"role": message["role"], "content": "".join(part.get("text", PICTURE) for part in message["content"])}
        for message in place_pictures(said, prompt)
    ]


def answered(row: Kept) -> list[dict[str, str]]:
    """A prompt and its response as messages."""
    return [*marked_turns(row.prompt), {"role": "assistant", "content": whole_text(row.response)}]


def whole_text(response: str) -> str:
    """A response with its thought opened, which its chat template may have done and the peers' programs look for.

    Raises:
        DataError: something in it stands for a picture, a video or a sound.
    """
    opening = unopened_thought(response)
    return (f"{opening}\n" if opening else "") + require_text(response)


def require_text(text: str) -> str:
    """A response or a step of one, in which nothing stands for a picture, a video or a sound.

    Raises:
        DataError: something does.
    """
    _refuse_marks(text, "response", _MARKS)
    return text


def _refuse_marks(text: str, what: str, marks: Sequence[str]) -> None:
    for mark in marks:
        if mark in text:
            raise DataError(f"the {what} has '{mark}' in it, which would stand for what is shown there, and nothing is")


def judged_steps(row: LabelledSteps) -> list[dict[str, str]]:
    """Labelled steps as a chat in the words of VisualPRM's data: one step a turn, answered with ``+`` or ``-``."""
    first, *others = map(require_text, row.steps)
    asked = [f"### Question:\n{placed_question(row.prompt)}\n\n### Solution Process:\n{first}", *others]
    marks = ["+" if good else "-" for good in row.labels]
    turns = [
        turn for text, mark in zip(asked, marks, strict=True) for turn in (Turn("user", text), Turn("assistant", mark))
    ]
    return marked_turns(row.prompt, [Turn("system", INSTRUCTION), *turns])


def judged_row(row: LabelledSteps, pictures: Pictures) -> Row:
    """The same with the paths of the pictures."""
    return message_row(judged_steps(row), row.prompt, pictures)
