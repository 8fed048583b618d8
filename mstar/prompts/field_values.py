"""The values of a row's fields: text, answers, and pictures in any of their forms.

Every reader raises ``RowError`` where the field holds what it cannot read.
"""

from __future__ import annotations

import ast
import base64
import binascii
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

from mstar.prompts.quarantine import Reason, RowError
from mstar.types import PICTURE, AnswerIs, Tolerance

# How the base64 text of PNG, JPEG, GIF, WebP and BMP files begins.
_BASE64: Final = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk")
# A text with more characters is no path.
_LONGEST: Final = 4096
TEXTS: Final = ("text", "value", "content", "option", "choice", "answer")
# How a picture is wrapped: by datasets, in a part of a chat's turn, as an address.
_WRAPPERS: Final = ("bytes", "path", "image", "image_url", "url", "base64")
# Qwen-VL's first form: Picture 1: <img>a.png</img>
_TAG: Final = re.compile(r"<img>(.*?)</img>")
# {id}, or {image_id:012}, filled with zeros to 12 digits as the names of COCO's pictures are.
_FIELD: Final = re.compile(r"\{([^{}]+?)(?::0([0-9]+))?\}")


def look_up(values: Any, name: str) -> Any:
    """The value of a column, or of a field within it: ``meta.answer``, ``conversations.1.value``; None if not there.

    What pandas writes for a missing value (NaN) is not there either.
    """
    for part in [name] if isinstance(values, Mapping) and name in values else name.split("."):
        values = parse(values)
        if isinstance(values, Mapping):
            values = values.get(part)
        elif isinstance(values, list) and part.isdecimal() and int(part) < len(values):
            values = values[int(part)]
        else:
            return None
    return None if isinstance(values, float) and math.isnan(values) else values


def parse(value: Any) -> Any:
    """A list or an object that is written as text, in JSON or as Python writes it; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        for read in (json.loads, ast.literal_eval):
            try:
                return read(value.strip())
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    return value


def parse_texts(value: Any) -> Any:
    """A list of texts that is written as text (MMMU: ``['5', 'five']``); anything else as it is.

    One of numbers is an answer that is a list (MathVista: ``[2014, 2016]``).
    """
    texts = parse(value)
    return texts if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts) else value


def read_text(value: Any, column: str | None) -> str:
    """A cell as text: of text itself, of a number, and of nothing ""."""
    match value:
        case None:
            return ""
        case str():
            return value.strip()
        case bool():
            return str(value)
        case int() | float():
            return repr(value)
        case _:
            raise RowError(Reason.WRONG_TYPE, f"the column '{column}' holds a {type(value).__name__}, not text")


def read_texts(value: Any, column: str) -> tuple[str, ...]:
    """The texts of a cell: one, or those of a list; of an object its text. Empty ones are left out."""
    if isinstance(value, Mapping):
        value = next((value[name] for name in TEXTS if value.get(name) is not None), value)
    if isinstance(value, list | tuple):
        items = [pick(item, TEXTS) if isinstance(item, Mapping) else item for item in value]
        return tuple(text for item in items if (text := read_text(item, column)))
    return (text,) if (text := read_text(value, column)) else ()


def read_answer_is(value: Any, _: str) -> AnswerIs | None:
    """How an answer names its option; None if nothing is said."""
    if value is None or value == "":
        return None
    if value in list(AnswerIs):
        return AnswerIs(value)
    raise RowError(Reason.WRONG_TYPE, f"answer_is is {value!r}; it is one of {', '.join(AnswerIs)}")


def read_tolerance(value: Any, _: str) -> Tolerance | None:
    """How far a number may be off, of ``{"relative": 0.05}`` or ``{"absolute": 0.1}``; None if nothing is said."""
    if value is None or value == "":
        return None
    value = parse(value)
    fits = isinstance(value, dict) and set(value) <= {"relative", "absolute"}
    limits = {name: limit for name, limit in value.items() if limit is not None} if fits else {}
    if not fits or not all(isinstance(limit, int | float) and 0 <= limit < math.inf for limit in limits.values()):
        raise RowError(Reason.WRONG_TYPE, f"the tolerance {value!r} is no object with 'relative' or 'absolute'")
    return Tolerance(**limits) if limits else None


def read_precision(value: Any, _: str) -> int | None:
    """Decimals that a number is asked for; None if nothing is said."""
    if value is None or value == "":
        return None
    # Parquet has numbers beside nulls as floats; CSV has text.
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, int | float) and 0 <= value <= 50 and value == int(value):
        return int(value)
    raise RowError(Reason.WRONG_TYPE, f"the precision {value!r} is no number of decimals")


def pick(values: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first value of these names that is there; None if none is."""
    return next((values[name] for name in names if values.get(name) is not None), None)


def is_nothing(value: Any) -> bool:
    """Whether a value is None, "" or NaN."""
    return value is None or value == "" or value != value


def is_filled(value: Any) -> bool:
    """Whether a cell, or anything in it, is more than nothing: 0, "", NaN, and lists and objects of these."""
    if isinstance(value, Mapping | list | tuple):
        return any(map(is_filled, value.values() if isinstance(value, Mapping) else value))
    return bool(value) and value == value  # not NaN


def read_images(values: Mapping[str, Any], columns: Sequence[str]) -> list[str | bytes]:
    """The pictures of a row in their order: a path, or the bytes of the file. Cells without one are passed over.

    Args:
        columns: The columns; one with braces is a path with the values of columns in it (``images/{id}.png``).
    """
    found: list[str | bytes] = []
    for column in columns:
        value = _fill(column, values) if "{" in column else look_up(values, column)
        found += (image for item in _items(value) if (image := read_image(item, column)) is not None)
    return found


def fields_of(name: str) -> list[str]:
    """The columns that a name reads: itself, or those in the braces of a template."""
    return [field[1] for field in _FIELD.finditer(name)] if "{" in name else [name]


def _fill(template: str, values: Mapping[str, Any]) -> str | None:
    """The path that a template makes of a row; None if one of its columns is empty."""
    parts = {name: read_text(look_up(values, name), name) for name in fields_of(template)}
    if not all(parts.values()):
        return None
    return _FIELD.sub(lambda field: parts[field[1]].zfill(int(field[2] or 0)), template)


def _items(value: Any) -> Iterator[Any]:
    value = parse(value) if isinstance(value, str) and len(value) < 1 << 16 else value
    if isinstance(value, list | tuple):
        for item in value:
            yield from _items(item)
    else:
        yield value


def read_image(value: Any, column: str) -> str | bytes | None:
    """One picture: a path or bytes; None for nothing."""
    while isinstance(value, Mapping) and any(name in value for name in _WRAPPERS):
        value = pick(value, _WRAPPERS)
    match value:
        case None | "":
            return None
        case Mapping() if not any(value.values()):
            return None
        case bytes() | bytearray():
            if not value:
                raise RowError(Reason.EMPTY_IMAGE, f"the picture in the column '{column}' has no bytes")
            return bytes(value)
        case str() if value.startswith(("http://", "https://")):
            detail = f"the column '{column}' holds the address '{value[:200]}', and pictures are not fetched"
            raise RowError(Reason.MISSING_IMAGE, detail)
        case str():
            path = unquote(value.removeprefix("file://")) if value.startswith("file://") else value
            return _from_base64(value) or path
        case _:
            raise RowError(Reason.WRONG_TYPE, f"the column '{column}' holds a {type(value).__name__}, not a picture")


def take_tags(text: str, column: str) -> tuple[str, list[str | bytes | None]]:
    """A text with a mark where it names a picture as ``<img>a.png</img>``, and those pictures."""
    return _TAG.sub(PICTURE, text), [read_image(path.strip(), column) for path in _TAG.findall(text)]


def _from_base64(text: str) -> bytes | None:
    """The bytes of a picture in base64, or None if the text is no such thing (but a path)."""
    declared = text.startswith("data:")
    if declared:
        text = text.partition(",")[2]
    elif len(text) <= _LONGEST and (len(text) < 60 or not text.startswith(_BASE64)):
        return None
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        if declared or len(text) > _LONGEST:
            raise RowError(Reason.BROKEN_IMAGE, f"the base64 text of the picture is damaged: {error}") from error
        return None


def clean_path(path: str, root: str) -> str:
    """A path relative to the image folder; an absolute one is made so, and a leading ``./`` is dropped."""
    if not os.path.isabs(path):
        return path.removeprefix("./")
    # Where the image folder is a link, or in one, the path may name the place that it leads to.
    real = os.path.realpath(root)
    inside = path.startswith(f"{real}{os.sep}") and not path.startswith(f"{root}{os.sep}")
    return os.path.relpath(path, real if inside else root)
