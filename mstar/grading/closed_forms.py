"""The value of numbers that are written as calculations or in words: ``2√3/3``, ``10^4``, ``three and a half``.

Nothing is executed: the text becomes a syntax tree, of which numbers, roots, factorials, pi and operators are read.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from itertools import takewhile
from typing import Final

_ALLOWED: Final = re.compile(r"(?:[-\d.+*/^()√π× !]|sqrt|\bpi\b)+")
_ROOT: Final = re.compile(r"(?:√|sqrt)\s*(\d+|π|(?=\())")
# A product without a sign: 2√3, 36π, 2(3 + √5).
_FACTORIAL: Final = re.compile(r"(?<![\d.])(\d{1,2})!")
_PRODUCT: Final = re.compile(r"(?<=[\d)P])\s*(?=[RPF(])|(?<=[)P])\s*(?=\d)")
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
_NUMBERS: Final = {word: value for value, word in enumerate(_ONES.split())} | {"a": 1, "none": 0}
_NUMBERS.update({word: 10 * tens for tens, word in enumerate(_TENS.split(), start=2)})
_PARTS: Final = {
    "half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "hundredth": 100,
}  # fmt: skip
_PARTS.update({f"{part}s": value for part, value in _PARTS.items()})
_KNOWN: Final = {"and", *_NUMBERS, *SCALES, *_PARTS}


def evaluate(text: str) -> tuple[Fraction, bool] | None:
    """The value of a closed-form number of at most 80 characters, and whether it is exact.

    Sums and products of plain numbers are refused: they are work left undone, and 2019-20 is no subtraction.
    """
    if len(text) > _MAX_LENGTH or not _ALLOWED.fullmatch(text):
        return None
    code = _ROOT.sub(lambda root: f"R({root[1]})" if root[1] else "R", text)
    code = code.replace("π", "P").replace("pi", "P").replace("^", "**").replace("×", "*")
    irrational = "R" in code or "P" in code
    code = _FACTORIAL.sub(r"F(\1)", code)
    try:
        tree = ast.parse(_PRODUCT.sub("*", code.strip()), mode="eval").body
        return _value(tree, irrational or "F" in code), not irrational
    except (SyntaxError, ValueError, OverflowError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr, irrational: bool) -> Fraction:
    """The node's value (ValueError: none, or one too large); ``irrational``: calculations are no work left undone."""
    match node:
        case ast.Constant(value=int() | float()):
            value = Fraction(ast.unparse(node))
        case ast.Name(id="P"):
            value = Fraction(math.pi)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = -_value(operand, irrational)
        case ast.Call(func=ast.Name(id="R"), args=[inner]):
            value = Fraction(math.sqrt(_value(inner, irrational)))
        case ast.Call(func=ast.Name(id="F"), args=[ast.Constant(value=int() as number)]):
            value = Fraction(math.factorial(number))
        case ast.BinOp(left=left, op=op, right=right):
            value = _combine(_value(left, irrational), op, _value(right, irrational), irrational)
        case _:
            raise ValueError
    if _bits(value) > 2 * _MAX_BITS:
        raise ValueError
    return value


def _combine(first: Fraction, op: ast.operator, second: Fraction, irrational: bool) -> Fraction:
    if isinstance(op, ast.Pow) and second.denominator == 1 and abs(second) * _bits(first) <= _MAX_BITS:
        return first ** int(second)
    if type(op) not in _OPERATORS or not (irrational or isinstance(op, ast.Div)):
        raise ValueError
    return _OPERATORS[type(op)](first, second)


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def to_figures(text: str) -> str:
    """A text whose first words are a number in figures: ``7/2 hours`` for ``three and a half hours``."""
    words = text.replace("-", " ").split()
    sign = "-" if words and words[0].casefold() in ("minus", "negative") else ""
    words = words[len(sign) :]
    run = [word.casefold() for word in takewhile(lambda word: word.casefold() in _KNOWN, words)]
    run = run[: next((place for place, word in enumerate(run, start=1) if word in _PARTS), len(run))]
    while run and run[-1] in ("a", "and"):
        run.pop()
    if run and run[-1] in _PARTS:
        # "Three and a half": what stands before the last "and" is whole. "The third" is an ordinal.
        cut, one = len(run) - run[::-1].index("and") if "and" in run else 0, ["a"] * (run[-1] in ("half", "quarter"))
        whole, count = _add_up(run[: cut - 1]) if cut else 0, _add_up(run[cut:-1] or one)
        value = None if whole is None or count is None else whole + count / _PARTS[run[-1]]
    else:
        value = _add_up(run)
    return text if value is None else f"{sign}{value} {' '.join(words[len(run) :])}"


def _add_up(words: list[str]) -> Fraction | None:
    """``two million five hundred and six``: a scale word multiplies what stands before it."""
    total = current = 0
    for word in words:
        value = _NUMBERS.get(word, 0)
        if word in SCALES:
            current = (current or 1) * SCALES[word]
            if SCALES[word] >= 1000:
                total, current = total + current, 0
        # "Five six" is no eleven.
        elif current % (10 if value < 10 else 100):
            return None
        else:
            current += value
    return Fraction(total + current) if words else None
