"""Prompts as the messages of a chat completion."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mstar.chat_template import prompt_messages
from mstar.types import ImageReference, Prompt

if TYPE_CHECKING:
    from PIL import Image


def chat_messages(prompt: Prompt, *, show_answer: bool = False) -> list[dict[str, Any]]:
    """The turns of a prompt and its question, with the pictures in them where they stand.

    Args:
        show_answer: Whether the gold answer is shown, as ``Renderer.render_prompt`` shows it.

    Raises:
        DataError: the prompt has no answer to show, marks for other pictures than it has, or a picture that cannot be
            decoded.
    """
    pictures = iter(prompt.images)
    messages = prompt_messages(prompt, show_answer=show_answer)
    return [{"role": message["role"], "content": _content(message["content"], pictures)} for message in messages]


def _content(parts: list[dict[str, Any]], pictures: Iterator[ImageReference]) -> str | list[dict[str, Any]]:
    if all(part["type"] == "text" for part in parts):
        # Many servers take a system turn as a text alone.
        return "".join(part["text"] for part in parts)
    return [
        part if part["type"] == "text" else {"type": "image_url", "image_url": {"url": data_url(next(pictures).load())}}
        for part in parts
    ]


def data_url(picture: Image.Image, **options: int) -> str:
    """A picture as a URL, in PNG, which loses nothing; the options are those that Pillow writes it with."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
