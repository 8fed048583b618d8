"""What the tests of a server ask it by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mstar.endpoint import ChatClient

Connect = Callable[..., ChatClient]


def body(text: str, seed: int = 0) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "seed": seed}
