"""Units of measurement and currencies: their spellings, and the factors between those of one dimension."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Final

__all__ = ["CURRENCY", "canonical_unit", "conversion_factor"]

CURRENCY: Final = r"(?:US\$|(?<![A-Za-z])(?:USD|EUR|GBP|Rs\.?)|[$€£¥₹¢])"

# dimension -> unit -> (factor to the dimension's base, spellings; a plural "s" is understood, a "_" is a blank)
_TABLE: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "length": {
        "mm": ("1/1000", "mm millimeter millimetre"), "cm": ("1/100", "cm cms centimeter centimetre 厘米"),
        "m": ("1", "m meter metre 米"), "km": ("1000", "km kms kilometer kilometre 千米 公里"),
        "in": ("127/5000", "inch inches in"), "ft": ("381/1250", "ft foot feet"),
        "yd": ("1143/1250", "yd yds yard"), "mi": ("201168/125", "mi mile"),
    },
    "mass": {
        "mg": ("1/1000", "mg milligram"),
        "g": ("1", "g gm gram gramme 克"), "kg": ("1000", "kg kgs kilo kilogram 千克"),
        "t": ("1000000", "tonne"), "oz": ("45359237/1600000", "oz ounce"), "lb": ("45359237/100000", "lb lbs pound"),
    },
    "time": {
        "ms": ("1/1000", "ms millisecond"), "s": ("1", "s sec secs second"), "min": ("60", "min mins minute"),
        "h": ("3600", "h hr hrs hour"), "day": ("86400", "day 天"), "week": ("604800", "week wk"),
    },
    "months": {"month": ("1", "month mo"), "year": ("12", "year yr yrs 年 岁"), "decade": ("120", "decade")},
    "volume": {"ml": ("1/1000", "ml milliliter millilitre"), "l": ("1", "l liter litre")},
    "angle": {"°": ("1", "° degree deg 度"), "rad": (str(Fraction(180 / math.pi)), "rad radian")},
    "share": {"%": ("1", "% percent percentage per_cent")},
    "dollars": {"$": ("1", "$ us$ usd dollar buck"), "¢": ("1/100", "¢ cent")},
    "euros": {"€": ("1", "€ eur euro")},
    "pounds": {"£": ("1", "£ gbp")},
    "yen": {"¥": ("1", "¥ yen yuan rmb cny jpy 元")},
    "rupees": {"₹": ("1", "₹ rs rupee")},
    "temperature C": {"°c": ("1", "°c celsius degrees_celsius degree_celsius")},
    "temperature F": {"°f": ("1", "°f fahrenheit degrees_fahrenheit degree_fahrenheit")},
    "speed": {
        "m/s": ("1", "m/s meters_per_second"), "km/h": ("5/18", "km/h kph kilometers_per_hour"),
        "cm/s": ("1/100", "cm/s"), "km/s": ("1000", "km/s"), "mph": ("1397/3125", "mph miles_per_hour"),
    },
    "force": {"n": ("1", "newton n")},
    "energy": {"j": ("1", "j joule"), "kj": ("1000", "kj kilojoule")},
    "power": {"w": ("1", "w watt"), "kw": ("1000", "kw kilowatt")},
    "voltage": {"v": ("1", "v volt")},
    "current": {"a": ("1", "ampere amp"), "ma": ("1/1000", "ma milliampere")},
    "resistance": {"ohm": ("1", "ohm ω"), "kohm": ("1000", "kω kiloohm")},
    "frequency": {"hz": ("1", "hz hertz")},
}  # fmt: skip
_POWER: Final = re.compile(
    r"(?P<before>square|sq\.?|cubic|cu\.?)\s+(?P<first>.+)|(?P<last>.+?)\s*(?P<behind>\^\s*\(?[23]\)?|squared|cubed)"
)
_UNITS: Final[dict[str, str]] = {}
_DIMENSIONS: Final[dict[str, tuple[str, Fraction]]] = {}
for _dimension, _members in _TABLE.items():
    for _unit, (_factor, _spellings) in _members.items():
        _DIMENSIONS[_unit] = (_dimension, Fraction(_factor))
        for _name in [spelling.replace("_", " ") for spelling in _spellings.split()]:
            _UNITS[_name] = _unit
            if len(_name) > 3 and _name.isascii():
                _UNITS[f"{_name}s"] = _unit


def canonical_unit(text: str) -> str:
    """One name for a unit, e.g. ``cm^2`` for ``sq. centimetres``; empty if it is none that is known."""
    name = " ".join(text.casefold().split()).strip(" .()[]")
    if name in _UNITS or not name:
        return _UNITS.get(name, "")
    match = _POWER.fullmatch(name)
    base = _UNITS.get((match["first"] or match["last"]).strip(" ."), "") if match is not None else ""
    if match is None or not base or _DIMENSIONS[base][0] != "length":
        return ""
    power = match["before"] or match["behind"]
    return f"{base}^{3 if '3' in power or power.startswith('cu') else 2}"


def conversion_factor(source: str, target: str) -> Fraction | None:
    """What a value in ``source`` is multiplied with to be in ``target``; None if the dimensions differ.

    Degrees may be those of a temperature.

    Args:
        source: A canonical unit.
        target: A canonical unit.
    """
    if "°" in (source, target) and source[0] == target[0]:
        return Fraction(1)
    (base, _, power), (other, _, other_power) = source.partition("^"), target.partition("^")
    (dimension, factor), (other_dimension, other_factor) = _DIMENSIONS[base], _DIMENSIONS[other]
    if dimension != other_dimension or power != other_power:
        return None
    return (factor / other_factor) ** int(power or 1)
