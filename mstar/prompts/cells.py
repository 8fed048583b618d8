"""What stands in a cell of a data set: text, turns of a conversation, and pictures in any of their forms."""

from __future__ import annotations

import base64
import binascii
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mstar.prompts.quarantine import Reason, RowError

__all__ = ["clean_path", "first_turns", "read_images", "read_text", "read_turns"]

# How the base64 text of PNG, JPEG, GIF, WebP and BMP files begins.
_BASE64: Final = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk")
_HUMAN: Final = ("human", "user")
_MODEL: Final = ("gpt", "assistant", "model")


def read_text(value: Any, column: str | None) -> str:
    """A cell as text: of text itself, of a number, and of nothing "".

    Raises:
        RowError: it is anything else.
    """
    match value:
        case None:
            return ""
        case str():
            return value.strip()
        case bool():
            return str(value)
        case float() if math.isnan(value):
            return ""
        case int() | float():
            return repr(value)
        case _:
            raise RowError(Reason.WRONG_TYPE, f"the column '{column}' holds a {type(value).__name__}, not text")


def first_turns(turns: Any) -> tuple[str, str | None]:
    """What the user says first in a conversation, and what the model says after it.

    Raises:
        RowError: it is no list of ``{from, value}`` or ``{role, content}``.
    """
    asked: str | None = None
    for speaker, text in read_turns(turns):
        if asked is None and speaker in _HUMAN:
            asked = text
        elif asked is not None and speaker in _MODEL:
            return asked, text or None
    return asked or "", None


def read_turns(turns: Any) -> list[tuple[str, str]]:
    """The turns of a conversation as (speaker, text).

    Raises:
        RowError: it is no list of ``{from, value}`` or ``{role, content}``.
    """
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        raise RowError(Reason.WRONG_TYPE, "the conversation is no list of turns")
    read = []
    for turn in turns:
        speaker = turn.get("from", turn.get("role"))
        content = turn.get("value", turn.get("content"))
        if isinstance(content, list):
            parts = [part.get("text") for part in content if isinstance(part, Mapping)]
            content = "\n".join(part for part in parts if isinstance(part, str))
        if not isinstance(speaker, str) or not isinstance(content, str | None):
            raise RowError(Reason.WRONG_TYPE, "a turn of the conversation is not {from, value} or {role, content}")
        read.append((speaker, (content or "").strip()))
    return read


def read_images(values: Mapping[str, Any], columns: Sequence[str]) -> list[str | bytes]:
    """The pictures of a row in their order: a path, or the bytes of the file.

    Raises:
        RowError: one is missing or empty, or is neither a path nor a picture.
    """
    found: list[str | bytes] = []
    for column in columns:
        value = values.get(column)
        if value is None and len(columns) > 1:
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            found.append(_read_image(item, column))
    return found


def _read_image(value: Any, column: str) -> str | bytes:
    if isinstance(value, Mapping) and ("bytes" in value or "path" in value):
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    match value:
        case None | "":
            raise RowError(Reason.MISSING_IMAGE, f"the column '{column}' names no picture")
        case bytes() | bytearray():
            if not value:
                raise RowError(Reason.EMPTY_IMAGE, f"the picture in the column '{column}' has no bytes")
            return bytes(value)
        case str():
            return _from_base64(value) or value
        case _:
            raise RowError(Reason.WRONG_TYPE, f"the column '{column}' holds a {type(value).__name__}, not a picture")


def _from_base64(text: str) -> bytes | None:
    """The bytes of a picture in base64, or None if the text is no such thing (but a path)."""
    declared = text.startswith("data:")
    if declared:
        text = text.partition(",")[2]
    elif len(text) < 60 or not text.startswith(_BASE64):
        return None
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        if declared or len(text) > 4096:
            raise RowError(Reason.BROKEN_IMAGE, f"the base64 text of the picture is damaged: {error}") from error
        return None


def clean_path(path: str, root: str) -> str:
    """A path relative to the image folder; an absolute one is made so, and a leading ``./`` is dropped."""
    return os.path.relpath(path, root) if os.path.isabs(path) else path.removeprefix("./")
