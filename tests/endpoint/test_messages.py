"""Prompts as the messages of a chat completion."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from mstar.endpoint.messages import chat_messages, data_url
from mstar.types import PICTURE, Prompt, Turn


class Red:
    uri = "red.png"

    def load(self) -> Image.Image:
        return Image.new("RGB", (3, 2), "red")


def test_turns_without_pictures_are_texts_and_the_others_parts() -> None:
    prompt = Prompt("p", f"Which colour is {PICTURE}?", images=(Red(),), turns=(Turn("system", "Be brief."),))
    system, user = chat_messages(prompt)
    assert system == {"role": "system", "content": "Be brief."}
    before, picture, after = user["content"]
    assert (before["text"], after["text"]) == ("Which colour is ", "?")
    decoded = read(picture["image_url"]["url"])
    assert decoded.size == (3, 2)
    assert decoded.getpixel((0, 0)) == (255, 0, 0)


def test_a_picture_loses_nothing_whatever_the_options() -> None:
    noisy = Image.effect_noise((16, 16), 80).convert("RGB")
    assert read(data_url(noisy)).tobytes() == read(data_url(noisy, compress_level=1)).tobytes() == noisy.tobytes()


def read(url: str) -> Any:
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))
