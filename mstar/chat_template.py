"""What a chat template must be able to do, and the messages that it is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from jinja2 import TemplateError, TemplateSyntaxError

from mstar.errors import ConfigError, DataError, counted
from mstar.thoughts import OPEN_TURN
from mstar.types import PICTURE, Prompt, Turn

# How a list of parts looks where a template writes it down as it is, in Python or as JSON.
_PARTS: Final = re.compile(r"""["']type["']\s*:\s*["'](?:text|image)["']""")
_MARK: Final = "\u241eresponse\u241e"
# A template is a program: what is wrong with it may be any of these. Those of Jinja are TemplateErrors.
_FAULTS: Final = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_ANSWER_HINT: Final = (
    "\nThe correct answer is {answer}. Write the reasoning steps that lead to it, one a line, and end with the answer."
)


def tokenizer_of(processor: Any) -> Any:
    """The tokenizer of a processor; a model of text has it alone."""
    return getattr(processor, "tokenizer", processor)


def check_template(processor: Any, apply: Callable[..., str]) -> None:
    """Renders a question with a picture, to find out before anything is written that the template cannot.

    Args:
        processor: The processor, or the tokenizer of a model of text.
        apply: Applies its template to messages, with the beginning of the answer's turn if ``open_turn``.

    Raises:
        ConfigError: it cannot, or the question or its picture is not what comes out.
    """
    text: dict[str, Any] = {"type": "text", "text": _MARK}
    answer = {"role": "assistant", "content": [text]}
    try:
        with_picture, without = (
            apply([{"role": "user", "content": content}], open_turn=True)
            for content in ([{"type": "image"}, text], [text])
        )
        answered = apply([{"role": "user", "content": [text]}, answer], open_turn=False)
    except _FAULTS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, TemplateSyntaxError):
            reason = f"line {error.lineno}: {reason}"
        raise _useless(processor, f"cannot be applied ({reason})") from error
    if _PARTS.search(with_picture) or _PARTS.search(answered):
        raise _useless(processor, "takes the content of a turn as one text, not as a list of pictures and text")
    if _MARK not in without or answered.count(_MARK) != 2:
        raise _useless(processor, "leaves out the text of a turn whose content is a list of parts")
    # A tokenizer alone is that of a model of text.
    if with_picture == without and processor is not tokenizer_of(processor):
        raise _useless(processor, "has no place for a picture")


def takes_system_parts(apply: Callable[..., str]) -> bool:
    """Whether a system turn can be a list of parts; False where it comes out whole as one text alone (Gemma 4).

    Args:
        apply: As for ``check_template``.
    """
    question = {"role": "user", "content": [{"type": "text", "text": "question"}]}

    def comes_out(content: Any) -> bool:
        try:
            text = apply([{"role": "system", "content": content}, question], open_turn=True)
        except _FAULTS:
            return False
        return _MARK in text and not _PARTS.search(text)

    return comes_out([{"type": "text", "text": _MARK}]) or not comes_out(_MARK)


def keeps_places(apply: Callable[..., str], end: str) -> bool:
    """Whether a template shows a picture where it stands between two texts of a turn, and ends no turn there.

    Those of LLaVA 1.5, LLaVA-NeXT and LLaVA-OneVision have all pictures of a turn before all of its texts.

    Args:
        apply: As for ``check_template``.
        end: The token that ends an answer.
    """
    before, after = "\u241ebefore\u241e", "\u241eafter\u241e"
    first, last = ({"type": "text", "text": text} for text in (before, after))
    try:
        placed, bare = (
            apply([{"role": "user", "content": content}], open_turn=True)
            for content in ([first, {"type": "image"}, last], [first, last])
        )
    except TemplateError:
        return False
    between, nothing = (text.partition(before)[2].rpartition(after)[0] for text in (placed, bare))
    return between != nothing and end not in between


def _useless(processor: Any, fault: str) -> ConfigError:
    place = getattr(tokenizer_of(processor), "name_or_path", "") or type(processor).__name__
    return ConfigError(
        f"the chat template of '{place}' {fault}, so prompts cannot be rendered: mend its chat_template "
        "(chat_template.jinja), or take that of the model that it was made of."
    )


def find_answer_turn(processor: Any, apply: Callable[..., str]) -> tuple[int, str, str]:
    """The token that ends an answer in the chat template, the white space before it, and the thought open there.

    Raises:
        ConfigError: nothing ends an answer.
    """
    tokenizer = tokenizer_of(processor)
    question = {"role": "user", "content": [{"type": "text", "text": "question"}]}
    answer = {"role": "assistant", "content": [{"type": "text", "text": _MARK}]}
    before, _, after = apply([question, answer], open_turn=False).rpartition(_MARK)
    open_turn = apply([question], open_turn=True)
    # Where the two begin otherwise (an empty thought, a system prompt), nothing is known of a gap.
    gap = before.removeprefix(open_turn) if before.startswith(open_turn) else ""
    gap = gap if gap.isspace() else ""
    thought = found.group() if (found := OPEN_TURN.search(open_turn)) else ""
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    for token in tokenizer(after, add_special_tokens=False)["input_ids"]:
        if token in special:
            return int(token), gap, thought
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            f"the chat template of {type(processor).__name__} puts no special token after a response and "
            "its tokenizer has no eos_token, so the end of a response cannot be learned: set an eos_token."
        )
    return int(tokenizer.eos_token_id), gap, thought


def prompt_messages(prompt: Prompt, *, show_answer: bool = False) -> list[dict[str, Any]]:
    """The turns of a prompt and its question as messages, with its pictures in their places.

    With ``show_answer``, the gold answer and the request to reason towards it are added (M-STaR: warm-up).

    Raises:
        DataError: ``show_answer`` is set and the prompt has no answer, or its text has marks for other pictures.
    """
    question = prompt.question
    if show_answer:
        if prompt.answer is None:
            raise DataError(
                f"prompt '{prompt.id}' has no answer, which answer-conditioned sampling shows to the model: "
                "give it one, or leave it out."
            )
        question += _ANSWER_HINT.format(answer=prompt.shown_answers[0])
    return place_pictures([*prompt.turns, Turn("user", question)], prompt)


def place_pictures(turns: Sequence[Turn], prompt: Prompt) -> list[dict[str, Any]]:
    """The turns as messages, with the pictures where their marks stand, or before the user's first text.

    Raises:
        DataError: there are marks, but not one for each picture.
    """
    count, marks = len(prompt.images), sum(turn.text.count(PICTURE) for turn in turns)
    if count and marks not in (0, count):
        raise DataError(
            f"the text of prompt '{prompt.id}' has '{PICTURE}' {marks} times, and it has {counted(count, 'picture')}: "
            "write it once for each, or not at all."
        )
    image = {"type": "image"}
    first = next(place for place, turn in enumerate(turns) if turn.role == "user")
    messages = []
    for place, turn in enumerate(turns):
        # Without pictures the mark is text, and the model's own placeholder is still refused.
        pieces = turn.text.split(PICTURE) if count and marks else [turn.text]
        content = [image] * count if count and not marks and place == first else []
        for number, piece in enumerate(pieces):
            content += [image] * bool(number)
            if piece or len(pieces) == 1:
                content.append({"type": "text", "text": piece})
        messages.append({"role": turn.role, "content": content})
    return messages


def plain_system(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with every system turn without pictures as one text (``takes_system_parts``)."""
    return [
        {**message, "content": "".join(part["text"] for part in message["content"])}
        if message["role"] == "system" and all(part["type"] == "text" for part in message["content"])
        else message
        for message in messages
    ]


def pictures_first(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages as templates need them that do not keep places (``keeps_places``).

    Where a picture stands behind text, its turn has all its pictures first and then one text with ``image 1`` and so on
    in their places, numbered through all turns.
    """
    moved, number = [], 0
    for message in messages:
        pictures = [part for part in message["content"] if part["type"] == "image"]
        text = ""
        for part in message["content"]:
            number += part["type"] == "image"
            text += part.get("text", f"image {number}")
        if message["content"][: len(pictures)] != pictures:
            message = {**message, "content": [*pictures, {"type": "text", "text": text}]}
        moved.append(message)
    return moved
