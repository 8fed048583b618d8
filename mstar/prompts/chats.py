"""Chat rows: turns with their pictures, in the forms of LLaVA, Qwen and OpenAI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from mstar.errors import counted
from mstar.prompts.field_values import is_filled, parse, pick, read_image, read_images, take_tags
from mstar.prompts.quarantine import Reason, RowError
from mstar.prompts.question_text import has_placeholder
from mstar.types import PICTURE, Turn

_ROLES: Final[Mapping[str, Literal["system", "user", "assistant"]]] = {
    "system": "system",
    "developer": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
}
_SPOKEN: Final = ("from", "role", "assistant")
_TEXT: Final = ("text", "input_text", "output_text")
# Where a part has its text and its picture; LLaMA-Factory's newer rows have both under "value".
_SAID: Final = ("text", "value")
_PICTURE: Final = ("image", "image_url", "url", "path", "base64", "bytes", "value")
_IMAGE: Final = ("image", "image_url", "input_image")
_KINDS: Final = (*_TEXT, *_IMAGE, "video", "audio")
# What a turn may have beside its content: pictures (Ollama), and what would be lost without a word.
_OWN_IMAGES: Final = ("image", "images")
_LOST: Final = ("video", "videos", "audio", "audios", "reasoning_content", "thinking")


@dataclass(frozen=True, slots=True)
class Chat:
    """The turns of a row.

    Attributes:
        turns: All turns up to the question, with a mark or a placeholder where a picture stands. The last is the
            question, by the user.
        response: What the model says then, or None.
        images: The pictures in the turns themselves, in their order; empty if they are in a column of their own.
    """

    turns: tuple[Turn, ...]
    response: str | None
    images: tuple[str | bytes, ...]


def is_chat(value: Any) -> bool:
    """Whether a cell holds turns."""
    turns = value if isinstance(value, list) else []
    return bool(turns) and all(isinstance(turn, Mapping) and any(name in turn for name in _SPOKEN) for turn in turns)


def read_chat(value: Any) -> Chat:
    """The turns of a cell; the user's last is the question, and what the model says then is the response.

    Raises:
        RowError: it is no list of ``{from, value}`` or ``{role, content}``, a turn is by somebody else (a tool), the
            question is missing, or something is neither text nor a picture.
    """
    turns, images = [], list[str | bytes | None]()
    for speaker, content, turn in _split(value):
        if (role := _ROLES.get(speaker.lower())) is None:
            raise RowError(Reason.WRONG_TYPE, f"a turn of the conversation is by '{speaker}', and no prompt has such")
        placed: list[str | bytes | None] = []
        text, own = _read_content(content, placed), read_images(turn, _OWN_IMAGES)
        if own and not has_placeholder(text):
            text = PICTURE * len(own) + text
        images += [*placed, *own] if any(placed) or not own else own
        turns.append(Turn(role, text))
    if turns and not turns[-1].text:
        # Arrow fills in what other rows have.
        turns.pop()
    response = turns.pop().text if turns and turns[-1].role == "assistant" else None
    if not turns or turns[-1].role != "user":
        raise RowError(Reason.EMPTY_QUESTION, "the conversation has no turn of the user before the model's last")
    given = tuple(image for image in images if image is not None)
    if given and len(given) != len(images):
        raise RowError(
            Reason.PICTURE_COUNT, f"the turns place {counted(len(images), 'picture')}, and the row has {len(given):,}"
        )
    return Chat(tuple(turns), response, given)


def read_turns(value: Any) -> list[tuple[str, str]]:
    """The turns of a cell as (speaker, text), without regard to pictures in them; raises as ``read_chat``."""
    return [(speaker, _read_content(content, [])) for speaker, content, _ in _split(value)]


def _split(value: Any) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Who speaks, what is said, and the whole turn, turn by turn."""
    if not isinstance(value, list) or not all(isinstance(turn, Mapping) for turn in value):
        raise RowError(Reason.WRONG_TYPE, "the conversation is no list of turns")
    for turn in value:
        if (lost := next((name for name in _LOST if is_filled(turn.get(name))), None)) is not None:
            detail = f"a turn of the conversation has '{lost}' beside what it says, and prompts have no place for that"
            raise RowError(Reason.WRONG_TYPE, detail)
        if "user" in turn and "assistant" in turn:
            # The Cauldron and FineVision have a question and its answer in one.
            yield "user", turn["user"] or "", turn
            yield "assistant", turn["assistant"] or "", {}
            continue
        speaker = turn.get("from") if turn.get("from") is not None else turn.get("role")
        content = turn.get("value") if turn.get("value") is not None else turn.get("content")
        if not isinstance(speaker, str) or not isinstance(content, str | list | None):
            raise RowError(Reason.WRONG_TYPE, "a turn of the conversation is not {from, value} or {role, content}")
        yield speaker, content, turn


def _are_parts(value: Any) -> bool:
    """Whether what was written as text is the parts of a turn, and no list that is spoken of."""
    parts = value if isinstance(value, list) else []
    return bool(parts) and all(isinstance(part, Mapping) and part.get("type") in _KINDS for part in parts)


def _read_content(content: str | list[Any] | None, images: list[str | bytes | None]) -> str:
    """The text of a turn, with a mark where a picture stands; the pictures are added to ``images``."""
    if isinstance(content, str) and '"type"' in content and _are_parts(parts := parse(content)):
        content = parts
    if not isinstance(content, list):
        text, tagged = take_tags(content or "", "conversation")
        images += tagged
        return text.strip()
    text = ""
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else "text"
        said = part if isinstance(part, str) else pick(part, _SAID) if isinstance(part, Mapping) else None
        if isinstance(said, str) and (kind in _TEXT or (kind is None and not is_filled(part.get("image")))):
            # Two texts in a row are lines of their own.
            text += f"\n{said}" if text and not text.endswith(PICTURE) else said
        elif isinstance(part, Mapping) and (kind in _IMAGE or (kind is None and "image" in part and not said)):
            images.append(read_image(pick(part, _PICTURE), "conversation"))
            text += PICTURE
        else:
            raise RowError(Reason.WRONG_TYPE, f"a part of a turn is of the type '{kind}', neither text nor a picture")
    return text.strip()
