"""One number with its unit."""

from __future__ import annotations

from fractions import Fraction

import pytest

from mstar.grading.quantities import Quantity, format_number, parse_quantity


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("1,234.50", Fraction("1234.5"), ""),
        ("1 1/2 hours", Fraction(3, 2), "h"),
        ("about 3.2e-4 m", Fraction("0.00032"), "m"),
        ("6.02 × 10^23", Fraction(602) * 10**21, ""),
        ("$2.5 million", 2_500_000, "$"),
        ("-5 °C", -5, "°c"),
        ("3 out of 14", Fraction(3, 14), ""),
        ("12 red apples", 12, ""),
        ("40%", 40, "%"),
    ],
)
def test_numbers_with_units(text: str, value: Fraction | int, unit: str) -> None:
    assert parse_quantity(text) == Quantity(Fraction(value), unit)


@pytest.mark.parametrize("text", ["5x", "7 or 9", "3 plus 4", "2nd", "red", "12A", "1990s", "5 times more", ""])
def test_what_is_no_number(text: str) -> None:
    assert parse_quantity(text) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(12), "12"),
        (Fraction(-1, 8), "-0.125"),
        (Fraction(1, 3), "1/3"),
        (Fraction(1, 10**40), f"0.{'0' * 39}1"),
    ],
)
def test_one_form_of_a_number(value: Fraction, text: str) -> None:
    assert format_number(value) == text
