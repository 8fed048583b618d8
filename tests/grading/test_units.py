"""Units as what they are made of."""

from __future__ import annotations

from fractions import Fraction

import pytest

from mstar.grading.units import canonical_unit, conversion_factor


@pytest.mark.parametrize(
    ("spellings", "unit"),
    [
        (("cm^2", "sq. centimetres", "square cm", "平方厘米", "cm squared"), "cm^2"),
        (("m/s", "metres per second", "m s^-1", "meter/sec"), "m*s^-1"),
        (("kW", "kilowatts", "千瓦"), "kW"),
        (("N m", "N*m", "newton-metre"), "N*m"),
        (("hours", "hr", "小时"), "h"),
        (("USD", "$", "dollars"), "$"),
    ],
)
def test_spellings_of_a_unit(spellings: tuple[str, ...], unit: str) -> None:
    assert {canonical_unit(spelling) for spelling in spellings} == {unit}


@pytest.mark.parametrize("text", ["", "apples", "x^2", "m g", "s^2", "per"])
def test_what_is_none(text: str) -> None:
    assert canonical_unit(text) == ""


@pytest.mark.parametrize(
    ("source", "target", "factor"),
    [
        ("km*h^-1", "m*s^-1", Fraction(5, 18)),
        ("mV", "V", Fraction(1, 1000)),
        ("J", "N*m", 1),
        ("h", "min", 60),
        ("L", "cm^3", 1000),
        ("kg*m*s^-2", "N", 1),
        ("N*m^-1", "N*m", None),
        ("h", "day", Fraction(1, 24)),
        ("kg", "m", None),
        ("%", "$", None),
    ],
)
def test_what_units_are_in_each_other(source: str, target: str, factor: Fraction | int | None) -> None:
    assert conversion_factor(source, target) == factor
