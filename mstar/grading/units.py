"""Units of measurement and currencies: their spellings, and the commonest conversions."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

CURRENCY: Final = r"(?:US\$|(?<![A-Za-z])(?:USD|EUR|GBP|CHF|Rs\.?)|[$€£₤¥₹¢])"

# unit -> spellings; a plural "s" is understood, a "_" is a blank
_SPELLINGS: Final = {
    "mm": "mm millimeter millimetre 毫米", "cm": "cm cms centimeter centimetre 厘米", "m": "m meter metre 米",
    "dm": "dm decimeter decimetre 分米", "km": "km kms kilometer kilometre 千米 公里", "in": "inch inches in",
    "ft": "ft foot feet", "yd": "yd yds yard", "mi": "mi mile", "mg": "mg milligram 毫克", "g": "g gm gram gramme 克",
    "kg": "kg kgs kilo kilogram 千克 公斤", "t": "tonne 吨", "jin": "斤", "oz": "oz ounce", "lb": "lb lbs pound",
    "ms": "ms millisecond 毫秒", "s": "s sec secs second 秒", "min": "min mins minute 分钟", "h": "h hr hrs hour 小时",
    "day": "day 天", "week": "week wk", "month": "month mo", "year": "year yr yrs 年 岁", "decade": "decade",
    "ml": "ml milliliter millilitre 毫升", "l": "l liter litre 升", "°": "° degree deg 度",
    "rad": "rad radian", "%": "% percent percentage per_cent", "$": "$ us$ usd dollar buck", "¢": "¢ cent",
    "€": "€ eur euro", "£": "£ gbp", "¥": "¥ yen yuan rmb cny jpy 元", "jiao": "角", "₹": "₹ rs rupee", "ev": "ev",
    "°c": "°c celsius degrees_celsius degree_celsius", "°f": "°f fahrenheit degrees_fahrenheit degree_fahrenheit",
    "m/s": "m/s 米/秒 meters_per_second", "km/h": "km/h kph 千米/时 千米/小时 kilometers_per_hour", "mol": "mol mole",
    "cm/s": "cm/s", "km/s": "km/s", "mph": "mph miles_per_hour", "n": "newton n", "j": "j joule", "kj": "kj kilojoule",
    "w": "w watt", "kw": "kw kilowatt", "v": "v volt", "kv": "kv kilovolt", "mv": "millivolt", "a": "ampere amp",
    "ma": "ma milliampere", "ohm": "ohm ω", "kohm": "kω kiloohm", "hz": "hz hertz", "pa": "pa pascal", "kpa": "kpa",
    "m/s2": "m/s^2 meters_per_second_squared", "cm/s2": "cm/s^2", "kg/m3": "kg/m^3", "g/cm3": "g/cm^3", "g/ml": "g/ml",
    "g/l": "g/l", "g/mol": "g/mol", "kj/mol": "kj/mol", "mol/l": "mol/l", "n/c": "n/c", "v/m": "v/m", "j/kg": "j/kg",
    "w/m2": "w/m^2", "n/m": "n/m", "kg*m/s": "kg*m/s", "rad/s": "rad/s", "μm": "μm micrometer",
}  # fmt: skip
# Units that differ by a factor, each in the smallest of them.
_CONVERTIBLE: Final[tuple[dict[str, int], ...]] = (
    {"mm": 1, "cm": 10, "dm": 100, "m": 1000, "km": 10**6}, {"g": 1, "jin": 500, "kg": 1000, "t": 10**6},
    {"s": 1, "min": 60, "h": 3600, "day": 86400}, {"¢": 1, "$": 100}, {"jiao": 1, "¥": 10}, {"ml": 1, "l": 1000},
    {"cm/s": 1, "m/s": 100, "km/s": 10**5}, {"j": 1, "kj": 1000}, {"mv": 1, "v": 1000, "kv": 10**6},
)  # fmt: skip
_LENGTHS: Final = (*_CONVERTIBLE[0], "in", "ft", "yd", "mi")
_POWER: Final = re.compile(
    r"(?P<before>square\s|sq\.?\s|cubic\s|cu\.?\s|平方|立方)\s*(?P<first>.+)|(?P<last>.+?)\s*(?P<behind>\^\s*\(?[23]\)?|squared|cubed)"
)
_INVERSE: Final = re.compile(r"[* ]+(\w+)\^\(?-(\d)\)?")  # "m s^-2" is m/s^2
_UNITS: Final[dict[str, str]] = {}
for _unit, _spellings in _SPELLINGS.items():
    for _name in [spelling.replace("_", " ") for spelling in _spellings.split()]:
        _UNITS[_name] = _unit
        if len(_name) > 3 and _name.isascii():
            _UNITS[f"{_name}s"] = _unit


def canonical_unit(text: str) -> str:
    """One name for a unit, e.g. ``cm^2`` for ``sq. centimetres``; empty if it is none that is known."""
    name = " ".join(text.casefold().split()).replace(" / ", "/").replace(" * ", "*").strip(" .()[]")
    name = _INVERSE.sub(r"/\1^\2", name).removesuffix("^1")
    if name in _UNITS or not name:
        return _UNITS.get(name, "")
    match = _POWER.fullmatch(name)
    base = _UNITS.get((match["first"] or match["last"]).strip(" ."), "") if match is not None else ""
    if match is None or base not in _LENGTHS:
        return ""
    power = match["before"] or match["behind"]
    return f"{base}^{3 if '3' in power or power[:1] in 'c立' else 2}"


def conversion_factor(source: str, target: str) -> Fraction | None:
    """What a value in ``source`` is multiplied with to be in ``target``, both canonical; None if nothing can be.

    Degrees may be those of a temperature.
    """
    if source == target or ("°" in (source, target) and source[:1] == target[:1]):
        return Fraction(1)
    (base, _, power), (other, _, other_power) = source.partition("^"), target.partition("^")
    for units in _CONVERTIBLE:
        if base in units and other in units and power == other_power:
            return Fraction(units[base], units[other]) ** int(power or 1)
    return None
