"""Formulas: which texts are ones, and whether two of them are equal, which math-verify decides elsewhere."""

from __future__ import annotations

import re
import time
from contextvars import ContextVar
from functools import lru_cache
from typing import Final

from mstar.grading.math_client import MathOutcome, ask, start
from mstar.grading.quantities import parse_quantity

__all__ = ["GradingTimeoutError", "begin", "equivalent", "is_algebra"]

_MAX_LENGTH: Final = 500
_MAX_NESTING: Final = 12
_SIGNS: Final = re.compile(
    r"\\[a-zA-Z]+|(?<!\w)\d+[a-z](?!\w)|[=^√π∞≤≥<>]|(?<=[\w)])\s*[-+*/]\s*(?=[\w(])|[\[({]\s*-?[\w.]+\s*,"
)
_VARIABLE: Final = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z](?![a-zA-Z])|\\[a-zA-Z]+|[√π∞]|[\[({]\s*-?[\w.]+\s*,")
_PROSE: Final = re.compile(r"(?<![\\a-zA-Z])(?!sin|cos|tan|log|exp|sqrt|and|or\b|cm|mm|km|inf)[a-zA-Z]{3,}")
# Powers of powers, long exponents and factorials of more than two digits grow beyond any memory when they are parsed.
_BOMB: Final = re.compile(
    r"(?:\^|\*\*)[^-+=,;\s]{0,40}?(?:\^|\*\*)|(?:\^|\*\*)\s*[({]*-?\d{4,}|\d{30,}|\d{3,}\s*\)?\s*!|!\s*\)?\s*!|\)\s*!"
    r"|(?:exp|\\exp)\s*\{?\(?\s*(?:exp|\\exp)"
)


# Seconds that math-verify may take for one response before its next comparison; the last one has its own limit.
_MAX_SECONDS: Final = 0.3
_SPENT: ContextVar[float] = ContextVar("_SPENT", default=0.0)


class GradingTimeoutError(Exception):
    """math-verify was stopped: too slow, or too much memory."""


def begin() -> None:
    """Tells that the next comparisons are those of another response, whose time begins anew."""
    _SPENT.set(0.0)


def is_algebra(text: str) -> bool:
    """Whether a text is a formula with a variable, a function, an interval or the like, small enough to be parsed."""
    if not text or len(text) > _MAX_LENGTH or not _SIGNS.search(text) or not _VARIABLE.search(text):
        return False
    if _PROSE.search(text) or _BOMB.search(text):
        return False
    depth = deepest = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    return deepest <= _MAX_NESTING and depth == 0


def equivalent(gold: str, answer: str) -> bool:
    """Whether two formulas are equal.

    Args:
        gold: The gold answer, for which ``is_algebra`` holds.
        answer: The answer, likewise.

    Raises:
        GradingTimeoutError: math-verify did not come to an end.
    """
    first, second = parse_quantity(gold), parse_quantity(answer)
    if first is not None and second is not None:
        return abs(first.value - second.value) <= abs(first.value) / 10**9
    start()
    if _SPENT.get() > _MAX_SECONDS:
        raise GradingTimeoutError
    began = time.monotonic()
    outcome = _ask(_as_latex(gold), _as_latex(answer))
    _SPENT.set(_SPENT.get() + time.monotonic() - began)
    if outcome is MathOutcome.STOPPED:
        raise GradingTimeoutError
    return outcome is MathOutcome.EQUAL


@lru_cache(maxsize=4096)
def _ask(gold: str, answer: str) -> MathOutcome:
    return ask(gold, answer)


def _as_latex(text: str) -> str:
    text = text.replace("$", " ").strip()
    text = re.sub(r"√\(([^()]*)\)|√(\w+)", lambda root: rf"\sqrt{{{root[1] or root[2]}}}", text)
    text = (
        text.replace("π", r"\pi ")
        .replace("×", r"\times ")
        .replace("∞", r"\infty ")
        .replace("≤", r"\le ")
        .replace("≥", r"\ge ")
    )
    return text.replace("°", r"^\circ").replace("**", "^")
