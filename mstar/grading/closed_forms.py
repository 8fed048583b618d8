"""The value of numbers that are written as calculations or in words: ``2√3/3``, ``10^4``, ``three and a half``.

Nothing is executed: the text becomes a syntax tree, of which numbers, roots, pi and five operators are read.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Final

__all__ = ["SCALES", "evaluate", "parse_words"]

_ALLOWED: Final = re.compile(r"(?:[-\d.+*/^()√π× ]|sqrt|\bpi\b)+")
_ROOT: Final = re.compile(r"(?:√|sqrt)\s*(\d+|π|(?=\())")
# A product without a sign: 2√3, 36π, 2(3 + √5).
_PRODUCT: Final = re.compile(r"(?<=[\d)P])\s*(?=[RP(])|(?<=[)P])\s*(?=\d)")
_OPERATORS: Final[dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
_MAX_LENGTH: Final = 80
_MAX_BITS: Final = 1200

SCALES: Final = {
    "dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "lakh": 10**5, "crore": 10**7, "万": 10**4, "亿": 10**8,
}  # fmt: skip
_ONES: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS: Final = "twenty thirty forty fifty sixty seventy eighty ninety"
_BELOW_HUNDRED: Final = {word: value for value, word in enumerate(_ONES.split())} | {
    f"{ten} {word}".removesuffix(" zero"): 10 * tens + value
    for tens, ten in enumerate(_TENS.split(), start=2)
    for value, word in enumerate(_ONES.split()[:10])
}
_PARTS: Final = {
    "half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "hundredth": 100,
}  # fmt: skip


class _UnreadableError(Exception):
    """The text is no number, or one too large to be an answer."""


def evaluate(text: str) -> tuple[Fraction, bool] | None:
    """The value of a closed-form number, and whether it is exact.

    Sums and products of plain numbers are refused: they are work left undone, and 2019-20 is no subtraction.

    Args:
        text: At most 80 characters; longer text is refused.
    """
    if len(text) > _MAX_LENGTH or not _ALLOWED.fullmatch(text):
        return None
    code = _ROOT.sub(lambda root: f"R({root[1]})" if root[1] else "R", text)
    code = code.replace("π", "P").replace("pi", "P").replace("^", "**").replace("×", "*")
    irrational = "R" in code or "P" in code
    try:
        return _value(ast.parse(_PRODUCT.sub("*", code.strip()), mode="eval").body, irrational), not irrational
    except (SyntaxError, ValueError, _UnreadableError, OverflowError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr, irrational: bool) -> Fraction:
    """The node's value; ``irrational``: calculations are no work left undone."""
    match node:
        case ast.Constant(value=int() | float()):
            value = Fraction(ast.unparse(node))
        case ast.Name(id="P"):
            value = Fraction(math.pi)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = -_value(operand, irrational)
        case ast.Call(func=ast.Name(id="R"), args=[inner]):
            value = Fraction(math.sqrt(_value(inner, irrational)))
        case ast.BinOp(left=left, op=op, right=right):
            value = _combine(_value(left, irrational), op, _value(right, irrational), irrational)
        case _:
            raise _UnreadableError
    if _bits(value) > 2 * _MAX_BITS:
        raise _UnreadableError
    return value


def _combine(first: Fraction, op: ast.operator, second: Fraction, irrational: bool) -> Fraction:
    if isinstance(op, ast.Pow) and second.denominator == 1 and abs(second) * _bits(first) <= _MAX_BITS:
        return first ** int(second)
    if type(op) not in _OPERATORS or not (irrational or isinstance(op, ast.Div)):
        raise _UnreadableError
    return _OPERATORS[type(op)](first, second)


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def parse_words(text: str) -> Fraction | None:
    """The value of a number in English words, such as ``two thirds`` or ``one and a half``; None for anything else."""
    words = text.casefold().replace("-", " ").split()
    if not words or len(words) > 12:
        return None
    if words[0] in ("minus", "negative"):
        value = parse_words(" ".join(words[1:]))
        return None if value is None else -value
    return Fraction(0) if words == ["none"] else _add_up(words)


def _add_up(words: list[str]) -> Fraction | None:
    """A whole number, a part of one, or the sum of both: the greatest scale word divides it."""
    part = _PARTS.get(words[-1]) or _PARTS.get(words[-1].removesuffix("s"))
    scale = max(words, key=lambda word: SCALES.get(word, 0))
    if part is not None and "and" in words:
        cut, factor = words.index("and"), 1
    elif part is not None:
        count = _count(words[:-1])
        return None if count is None else count / part
    elif scale in SCALES:
        cut, factor = words.index(scale), SCALES[scale]
    else:
        value = _BELOW_HUNDRED.get(" ".join(words))
        return None if value is None else Fraction(value)
    before, after = words[:cut], words[cut + 1 :]
    after = after[1:] if after[:1] == ["and"] else after
    count = _count(before)
    rest = _add_up(after) if after else Fraction(0)
    return None if count is None or rest is None or rest >= factor else count * factor + rest


def _count(words: list[str]) -> Fraction | None:
    """How many of a part or a scale: one where nothing is said, as in ``half`` and ``a million``."""
    return Fraction(1) if words in ([], ["a"]) else _add_up(words)
