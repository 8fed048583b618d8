from __future__ import annotations

from mstar.types import Response


def response(text: str, logprob: float = -2.0, num_tokens: int = 4) -> Response:
    return Response("p", 0, text, num_tokens, True, 1.0, logprob)
