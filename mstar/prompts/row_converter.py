"""A row of a data set as a prompt, by the map of its columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeVar

from mstar.prompts.chats import Chat, is_chat, read_chat, read_turns
from mstar.prompts.field_map import FieldMap
from mstar.prompts.field_values import (
    clean_path,
    is_filled,
    look_up,
    parse,
    read_answer_is,
    read_images,
    read_precision,
    read_text,
    read_texts,
    read_tolerance,
    take_tags,
)
from mstar.prompts.prompt_table import PromptRecord, content_id
from mstar.prompts.quarantine import Reason, RowError
from mstar.prompts.question_text import (
    VERDICTS,
    answer_type_of,
    find_choices,
    has_placeholder,
    is_empty,
    mark_pictures,
    name_pictures,
    read_choices,
    read_gold,
    render_choices,
    settle_votes,
    without_letters,
)
from mstar.types import AnswerIs, Prompt, Tolerance, Turn

Placeholders = Literal["places", "words"]
T = TypeVar("T")

# What a row may show beside pictures, or in their place, from a column of its own; and how a text says where.
_MEDIA: Final = ("video", "videos", "audio", "audios")
_MEDIUM: Final = re.compile(r"<(?:video|audio|\|(?:video|audio)_pad\|)>", re.IGNORECASE)


@dataclass(frozen=True)
class RowConverter:
    """Makes a prompt of a row."""

    fields: FieldMap
    # The roles whose columns were not named by the user: values there that make no sense are not read.
    guessed: frozenset[str]
    root: str
    placeholders: Placeholders
    # Whether 1 and 0 are yes and no.
    verdicts: bool = False
    # What is taken out of the questions.
    drop: tuple[str, ...] = ()

    def __call__(self, values: Mapping[str, Any]) -> PromptRecord:
        """The prompt; ``RowError`` where the row cannot be used."""
        ignored: list[tuple[str, str]] = []

        def read(role: str, reader: Callable[[Any, str], T], nothing: T) -> T:
            """What the column of a role holds; nothing if it has none, or a guessed one makes no sense."""
            name = getattr(self.fields, role)
            if not name:
                return nothing
            try:
                return reader(look_up(values, name) if isinstance(name, str) else None, role)
            except RowError as error:
                if role not in self.guessed:
                    raise
                ignored.append((role, error.detail))
                return nothing

        turns, said, images = self._chat(values)
        # What a column of a usual name holds beside a plain question may be anything.
        plain = self.fields.question and not is_chat(look_up(values, self.fields.question))
        known = turns[0].role == "system" or (plain and "system" in self.guessed)
        if not known and (system := read("system", read_text, "")):
            turns.insert(0, Turn("system", system))
        turns = [replace(turn, text=self._cut(turn.text)) if turn.role == "user" else turn for turn in turns]
        kind = self.fields.said_of_all("answer_type") or read("answer_type", lambda value, _: value, None)
        said_is = self.fields.said_of_all("answer_is")
        answer_is = AnswerIs(said_is) if said_is else read("answer_is", read_answer_is, None)
        of_all = self.fields.tolerance if isinstance(self.fields.tolerance, Tolerance) else None
        none: tuple[str, ...] = ()
        choices, labels = read("choices", lambda *_: read_options(values, self.fields), (none, none))
        if "" in choices:
            letter = chr(ord("A") + choices.index(""))
            raise RowError(Reason.WRONG_TYPE, f"option {letter} has no text, and prompts show options as text alone")
        column = self.fields.answer or ""
        # Of a chat it is what the model says to the question, the user's last turn, whichever turn is named.
        chat = self.fields.conversations or self.fields.question or ""
        value = said if column.startswith(f"{chat}.") else look_up(values, column)
        gold, solution = read_gold(value, column, kind, choices) if column else (none, None)
        others = read("answers", lambda value, name: read_texts(parse(value), name), none)
        answers = (*settle_votes(gold), *settle_votes(others))
        if self.verdicts:
            answers = tuple(form for gold in answers for form in (VERDICTS.get(gold, gold), gold))
        answer = next(iter(answers), None)
        if answer is None and (name := self.fields.answer or self.fields.answers):
            raise RowError(Reason.NO_ANSWER, f"the column '{name}' is empty")
        if answer in labels and answer not in choices:
            answer, answer_is = chr(ord("A") + labels.index(answer)), AnswerIs.LETTER
        context = read("context", lambda *_: _texts(values, self.fields.names("context")), none)
        choices, turns, images = self._ask(context, turns, images, choices, answer)
        shown = tuple(clean_path(item, self.root) if isinstance(item, str) else item for item in images)
        *before, question = turns
        rationale = read("rationale", _read_response, None) or said or solution
        said_before = (text for turn in before for text in (turn.role, turn.text))
        given_id = read("id", read_text, "")
        if self.fields.id and not given_id and "id" not in self.guessed:
            raise RowError(Reason.WRONG_TYPE, f"the column '{self.fields.id}' is empty, but an id is needed")
        prompt = Prompt(
            id=given_id,
            question=question.text,
            answer=answer,
            answer_type=answer_type_of(kind, answer, choices),
            answers=tuple(dict.fromkeys(other for other in answers[1:] if other not in (answer, answers[0]))),
            answer_is=answer_is,
            tolerance=of_all or read("tolerance", read_tolerance, None),
            choices=choices,
            precision=read("precision", read_precision, None),
            unit=read("unit", read_text, "") or None,
            rationale=rationale,
            category=", ".join(read("category", read_texts, none)),
            turns=tuple(before),
        )
        asked = content_id(question.text, None, *shown, *said_before)
        content = f"{asked}~{content_id(rationale)}" if rationale else asked
        return PromptRecord(prompt, content, shown, "id" in self.guessed, tuple(ignored))

    def _chat(self, values: Mapping[str, Any]) -> tuple[list[Turn], str | None, list[str | bytes]]:
        """The turns up to the question, what the model says then, and the pictures."""
        name = self.fields.conversations or self.fields.question or ""
        value = look_up(values, name)
        images = read_images(values, self.fields.names("images"))
        if self.fields.conversations or is_chat(value):
            chat = read_chat(parse(value))
        else:
            text, tagged = take_tags(read_text(value, name), name)
            chat = Chat((Turn("user", text),), None, tuple(image for image in tagged if image is not None))
        medium = next((name for name in _MEDIA if is_filled(values.get(name))), None)
        blind = not (chat.images or images) or any(_MEDIUM.search(turn.text) for turn in chat.turns)
        if medium is not None and blind:
            raise RowError(Reason.WRONG_TYPE, f"the row shows its '{medium}', and prompts have pictures alone")
        if chat.images and images and list(chat.images) != images:
            detail = f"pictures stand in the turns and in the column '{self.fields.names('images')[0]}', and differ"
            raise RowError(Reason.PICTURE_COUNT, detail)
        shown = list(chat.images) or images
        placed = self.placeholders == "places" and shown and has_placeholder(chat.response or "")
        if placed and not any(has_placeholder(turn.text) for turn in chat.turns):
            detail = "the pictures stand in what the model says, and would be shown before the question"
            raise RowError(Reason.PICTURE_COUNT, detail)
        return list(chat.turns), chat.response or None, shown

    def _cut(self, question: str) -> str:
        for text in self.drop:
            question = question.replace(text, "")
        return question

    def _ask(
        self,
        context: tuple[str, ...],
        turns: list[Turn],
        images: list[str | bytes],
        choices: tuple[str, ...],
        answer: str | None,
    ) -> tuple[tuple[str, ...], list[Turn], list[str | bytes]]:
        """The options, the turns as they are shown, and the pictures in their order."""
        question = turns[-1].text
        if is_empty(question):
            raise RowError(Reason.EMPTY_QUESTION, "the question is empty")
        inside = find_choices(question, None if choices else answer)
        if choices and len(inside) != len(choices):
            question = render_choices(question, choices)
        question = "\n".join([*context, question])
        texts = [*(turn.text for turn in turns[:-1]), question]
        choices = choices or inside
        if self.placeholders == "words":
            texts, choices = [name_pictures(text).strip() for text in texts], tuple(map(name_pictures, choices))
        else:
            first = next(place for place, turn in enumerate(turns) if turn.role == "user")
            texts, order = mark_pictures(texts, len(images), first)
            images = [images[place] for place in order]
        return choices, [Turn(turn.role, text) for turn, text in zip(turns, texts, strict=True)], images


def read_options(values: Mapping[str, Any], fields: FieldMap) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The options and their labels: of one column, or of several with one each, where empty ones are none."""
    names = fields.names("choices")
    if len(names) == 1 and not isinstance(fields.choices, tuple):
        return read_choices(look_up(values, names[0]), names[0])
    return without_letters(_texts(values, names)), ()


def _texts(values: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    """What some columns hold, those left out that hold nothing."""
    texts = (read_text(look_up(values, name), name) for name in names)
    return tuple(text for text in texts if text and text.casefold() != "nan")


def _read_response(value: Any, name: str) -> str | None:
    """A response, or the last turn of a chat; of several solutions (OlympiadBench) the first. Numbers are a box."""
    if is_chat(value):
        return read_turns(value)[-1][1] or None
    if isinstance(value, list):
        return next(iter(read_texts([item for item in value if not isinstance(item, int | float)], name)), None)
    return read_text(value, name) or None
