"""A response and its reasoning steps."""

from __future__ import annotations

import re
from typing import Final

_BOUNDARY: Final = re.compile(r"(?<=\S)[^\S\n]*\n(?:[^\S\n]*\n)*")


def split_steps(response: str) -> tuple[str, ...]:
    """Splits a response into steps, one a line; blank lines belong to the step before them.

    Joined without a separator the steps are the response again, so that every step boundary is also a prefix of the
    response that a policy can continue.

    Returns:
        The steps, each with its trailing line break; empty for a response without any visible character.
    """
    if not response.strip():
        return ()
    ends = [match.end() for match in _BOUNDARY.finditer(response) if response[match.end() :].strip()]
    starts = [0, *ends]
    return tuple(response[a:b] for a, b in zip(starts, [*ends, len(response)], strict=True))
