"""Closed-form numbers such as ``2√3/3``, ``36π`` or ``10^4``: a bounded reader that executes nothing."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Final

__all__ = ["evaluate"]

_TOKEN: Final = re.compile(r"\s*(\d+(?:\.\d+)?|\*\*|[-+*/^()×√π]|sqrt|pi)")
_IRRATIONAL: Final = re.compile(r"√|π|sqrt|\bpi\b")
_MAX_LENGTH: Final = 80
_MAX_DEPTH: Final = 8
_MAX_BITS: Final = 1200


class _UnreadableError(Exception):
    """The text is no closed-form number, or one too large to be an answer."""


def evaluate(text: str) -> tuple[Fraction, bool] | None:
    """The value of a closed-form number, and whether it is exact.

    It reads numbers, signs, products, quotients, powers with whole exponents, roots and pi. Sums, differences and
    products of plain numbers are refused: they are work left undone, and a telephone number is no subtraction.

    Args:
        text: At most 80 characters; longer text is refused.
    """
    if len(text) > _MAX_LENGTH:
        return None
    tokens: list[str] = []
    position = 0
    stripped = text.strip()
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if match is None:
            return None
        tokens.append(match[1])
        position = match.end()
    try:
        reader = _Reader(tokens, bool(_IRRATIONAL.search(stripped)))
        value = reader.sum(0)
    except (_UnreadableError, OverflowError, ZeroDivisionError):
        return None
    return (value, reader.exact) if not reader.tokens else None


class _Reader:
    """Recursive descent over the tokens, which are consumed from the end of a reversed list."""

    def __init__(self, tokens: list[str], irrational: bool) -> None:
        self.tokens = tokens[::-1]
        self.irrational = irrational
        self.exact = True

    def peek(self) -> str:
        return self.tokens[-1] if self.tokens else ""

    def sum(self, depth: int) -> Fraction:
        if depth > _MAX_DEPTH:
            raise _UnreadableError
        value = self.product(depth)
        while self.peek() in ("+", "-"):
            if not self.irrational:
                raise _UnreadableError
            sign = -1 if self.tokens.pop() == "-" else 1
            value += sign * self.product(depth)
        return value

    def product(self, depth: int) -> Fraction:
        value = self.signed(depth)
        while self.peek() and self.peek() not in ("+", "-", ")"):
            operator = self.peek()
            if operator == "/":
                self.tokens.pop()
                value /= self.signed(depth)
                continue
            if operator in ("*", "×"):
                self.tokens.pop()
            # "2 3" is no product and "2*3" is one that was left undone, but 4*10^3 is a number.
            scientific = self.peek() == "10" and len(self.tokens) > 1 and self.tokens[-2] in ("^", "**")
            if not (self.irrational or scientific) or (operator[0].isdigit() and not scientific):
                raise _UnreadableError
            value *= self.signed(depth)
        return self.bounded(value)

    def signed(self, depth: int) -> Fraction:
        if self.peek() in ("+", "-"):
            negative = self.tokens.pop() == "-"
            if self.peek() in ("+", "-"):
                raise _UnreadableError
            value = self.power(depth)
            return -value if negative else value
        return self.power(depth)

    def power(self, depth: int) -> Fraction:
        base = self.atom(depth)
        if self.peek() not in ("^", "**"):
            return base
        self.tokens.pop()
        bracketed = self.peek() == "("
        exponent = self.sum(depth + 1) if bracketed else self.exponent()
        if self.peek() in ("^", "**") or exponent.denominator != 1:
            raise _UnreadableError
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if abs(exponent) * bits > _MAX_BITS:
            raise _UnreadableError
        return base ** int(exponent)

    def exponent(self) -> Fraction:
        sign = -1 if self.peek() == "-" and self.tokens.pop() else 1
        if not self.peek().isdigit():
            raise _UnreadableError
        return Fraction(sign * int(self.tokens.pop()))

    def atom(self, depth: int) -> Fraction:
        token = self.tokens.pop() if self.tokens else ""
        if token[:1].isdigit():
            return self.bounded(Fraction(token))
        if token in ("π", "pi"):
            self.exact = False
            return Fraction(math.pi)
        if token == "(":  # noqa: S105 - a bracket, not a password
            value = self.sum(depth + 1)
            if not self.tokens or self.tokens.pop() != ")":
                raise _UnreadableError
            return value
        if token in ("√", "sqrt"):
            return self.root(self.atom(depth + 1) if depth < _MAX_DEPTH else Fraction(-1))
        raise _UnreadableError

    def root(self, value: Fraction) -> Fraction:
        if value < 0:
            raise _UnreadableError
        numerator, denominator = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if numerator**2 == value.numerator and denominator**2 == value.denominator:
            return Fraction(numerator, denominator)
        self.exact = False
        return Fraction(math.sqrt(value))

    def bounded(self, value: Fraction) -> Fraction:
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > 2 * _MAX_BITS:
            raise _UnreadableError
        return value
