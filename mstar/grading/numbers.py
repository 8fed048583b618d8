"""Answers that are one number: when two numbers are the same answer."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Final

from mstar.grading.base import AnswerReader
from mstar.grading.plain_text import clean_latex, normalise
from mstar.grading.quantities import CAPITALS, Quantity, format_number, parse_quantity
from mstar.grading.units import canonical_unit, conversion_factor
from mstar.types import Prompt

# "(Unit: $)", "How many hours", "in square metres?"
_UNIT_ASKED: Final = re.compile(
    r"(?i)\(\s*units?\s*:\s*([^()]{1,20})\)|\bhow many (\w+)|\bin ((?:square |cubic )?[\w/^]{1,12})(?=\s*(?:[?.,)]|$))"
)
# "x = 5", "the total = 3 + 4 = 7": what a calculation comes to. Two statements are no calculation.
_CALCULATION: Final = re.compile(r"[^=≈,;\n]{1,80}(?:[=≈][^=≈,;\n]{1,80})*[=≈]\s*(?P<result>[^=≈]+)")
_SEVERAL: Final = re.compile(
    r"(?i)\b(?:or|and|if|let|assume|suppose|not|is|has|at|when|for|because|since)\b|\\pm|≠|\d[a-zA-Z]\s*[=≈]"
)
_MAX_LENGTH: Final = 1200


class NumberReader(AnswerReader):
    """Reads answers that are one number.

    Args:
        prompt: Where the number is asked for: its unit, and the tolerance, which counts instead of the precision.
        precision: Decimals that count; None compares the exact values.
        whole: Whether it must be a whole number.
    """

    def __init__(self, answer: str | None, prompt: Prompt, precision: int | None = None, whole: bool = False) -> None:
        question, tolerance = normalise(prompt.question).casefold(), prompt.tolerance
        named = [group for groups in _UNIT_ASKED.findall(question) for group in groups]
        asked = next(filter(None, map(canonical_unit, [clean_latex(normalise(prompt.unit or "")), *named])), "")
        gold = None if answer is None else read_quantity(answer)
        self._gold = None if gold is not None and whole and gold.value.denominator != 1 else gold
        self._precision = precision if tolerance is None else None
        self._tolerance = tolerance
        self._unit = (gold.unit if gold is not None else "") or asked  # a gold number is not converted
        self._is_percentage = self._unit == "%" or "percent" in question
        self._in_wan = "万" in question  # "多少万元", and an answer with it
        self._is_count = not self._is_percentage and "how many" in question
        self.gold = None if self._gold is None else format_number(self._round(self._gold.value))

    def read(self, text: str) -> str | None:
        """The number that a text is; see the interface."""
        # "0.2T" may be a label, but not where the answer is in tesla.
        if self._unit in {*CAPITALS}:
            text = re.sub(f"(?<![a-zA-Z]){self._unit}", f" {self._unit}", text)
        found = read_quantity(text)
        if found is None:
            return None
        # "1/3 ≈ 0.33" says both, where the one is the other rounded.
        before, about, _ = clean_latex(normalise(text)).partition("≈")
        if about and (said := read_quantity(before)) is not None and said.value.denominator > 1:
            close = abs(said.value - found.value) <= abs(said.value) / 40
            found = said if close and self._is_gold(said.value, said.exact) else found
        value = found.value
        if found.unit and self._unit and (factor := conversion_factor(found.unit, self._unit)) is not None:
            value *= factor
        # A percentage is no count.
        elif found.unit and (self._unit or (found.unit == "%" and self._is_count)):
            return f"{format_number(self._round(value))} {found.unit}"
        values = self._readings(value, found.unit)
        if self.gold is not None and any(self._is_gold(value, found.exact) for value in values):
            return self.gold
        return format_number(self._round(values[0]))

    def _readings(self, value: Fraction, unit: str) -> list[Fraction]:
        """The values that a number may have with and without its percent sign."""
        if unit == "%" and not self._is_percentage:
            # Of a share below one, 0.25 % is no other way to write 0.25.
            share = self._gold is not None and 0 < abs(self._gold.value) < 1
            return [value / 100] if share else [value, value / 100]
        if self._is_percentage and not unit and self._gold is not None and self._gold.unit == "%":
            return [value, value * 100]
        return [value, value / 10**4] if self._in_wan else [value]

    def _is_gold(self, value: Fraction, exact: bool) -> bool:
        if self._gold is None:
            return False
        gold = self._gold.value
        if self._tolerance is not None:
            allowed = abs(gold) * Fraction(self._tolerance.relative) + Fraction(self._tolerance.absolute)
            return abs(value - gold) <= allowed * (1 + Fraction(1, 10**12))
        # 1.3333333333 for 4/3: as many decimals as one writes.
        written_out = "/" in format_number(gold) and "/" not in format_number(value)
        exact = exact and self._gold.exact and not written_out
        return abs(self._round(value) - self._round(gold)) <= (0 if exact else abs(gold) / 10**9)

    def _round(self, value: Fraction) -> Fraction:
        """Half away from zero: what one learns at school, and what questions ask for."""
        if self._precision is None:
            return value
        rounded = Fraction(int(abs(value) * 10**self._precision + Fraction(1, 2)), 10**self._precision)
        return -rounded if value < 0 else rounded


@lru_cache(maxsize=4096)
def read_quantity(text: str) -> Quantity | None:
    """The number that a text is, with its unit, or that a calculation in it comes to; None for anything else."""
    text = clean_latex(normalise(text[:_MAX_LENGTH])).strip()
    calculation = _CALCULATION.fullmatch(text)
    if calculation is not None and not _SEVERAL.search(text):
        text = calculation["result"]
    return parse_quantity(text)
