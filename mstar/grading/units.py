"""Units of measurement and currencies: their spellings, prefixes and products, and what they are in each other."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from functools import lru_cache
from itertools import product
from typing import Final

CURRENCY: Final = r"(?:US\$|(?<![A-Za-z])(?:USD|EUR|GBP|CHF|Rs\.?)|[$€£₤¥₹¢])"

# symbol -> what it is in others (empty: in none), the prefixes that are read before it, other symbols and names; a
# plural "s" of a name is understood, a "_" is a blank
_UNITS: Final = {
    "m": ("", "nμmcdk", "meter metre 米"), "g": ("", "nμmk", "gm gram gramme 克"), "s": ("", "pnμm", "sec second 秒"),
    "A": ("", "nμmk", "ampere amp 安培 安"), "K": ("", "mk", "kelvin"), "mol": ("", "mμk", "mole"),
    "min": ("60 s", "", "min minute 分钟"), "h": ("60 min", "", "hr hour 小时 时"), "day": ("24 h", "", "day 天"),
    "week": ("7 day", "", "week wk"), "month": ("", "", "month mo"), "year": ("12 month", "", "yr year 年 岁"),
    "decade": ("10 year", "", "decade"), "公里": ("km", "", "kms"), "公斤": ("kg", "", "kgs kilo"),
    "cms": ("cm", "", ""), "t": ("1000 kg", "", "tonne 吨"), "斤": ("500 g", "", ""),
    "L": ("dm^3", "μmcd", "liter litre 升"), "in": ("25.4 mm", "", "inch inches"), "ft": ("12 in", "", "foot feet"),
    "yd": ("3 ft", "", "yard"), "mi": ("1760 yd", "", "mile"), "oz": ("", "", "ounce"), "rpm": ("", "", ""),
    "ha": ("10000 m^2", "", "hectare 公顷"), "acre": ("4840 yd^2", "", "acre"), "Å": ("0.1 nm", "", "å angstrom"),
    "lb": ("16 oz", "", "lbs pound"), "unit": ("", "", "unit"), "mph": ("mi/h", "", ""), "kph": ("km/h", "", ""),
    "N": ("kg*m/s^2", "μmkM", "newton 牛顿 牛"), "J": ("N*m", "nμmkMG", "joule 焦耳 焦"),
    "W": ("J/s", "nμmkMG", "watt 瓦特 瓦"), "V": ("W/A", "nμmkM", "volt 伏特 伏"),
    "Ω": ("V/A", "mkM", "ohm ω 欧姆 欧"), "C": ("A*s", "pnμm", "coulomb"), "F": ("C/V", "pnμm", "farad"),
    "Wb": ("V*s", "m", "weber"), "T": ("Wb/m^2", "nμm", "tesla"), "H": ("Wb/A", "nμm", "henry"),
    "Hz": ("s/s^2", "kMG", "hertz 赫兹"), "Pa": ("N/m^2", "hkMG", "pascal 帕"), "eV": ("", "mkMG", "electronvolt"),
    "bar": ("100 kPa", "m", "bar"), "dB": ("", "", "decibel"), "Nm": ("N*m", "", ""), "Wh": ("W*h", "kMG", ""),
    "cal": ("", "k", "calorie"), "atm": ("", "", "atmosphere"), "B": ("", "kKMGT", "byte"), "rad": ("", "", "radian"),
    "°": ("", "", "degree deg 度"), "°c": ("", "", "celsius degrees_celsius degree_celsius degrees_c degree_c deg_c"),
    "°f": ("", "", "fahrenheit degrees_fahrenheit degree_fahrenheit degrees_f degree_f deg_f"),
    "%": ("", "", "percent percentage per_cent"), "$": ("", "", "us$ us_dollar usd dollar buck 美元"),
    "M": ("mol/L", "mμn", "molar"), "¢": ("0.01 $", "", "cent"), "€": ("", "", "eur euro"), "£": ("", "", "gbp"),
    "¥": ("", "", "yen yuan rmb cny jpy 元"), "角": ("0.1 ¥", "", ""), "₹": ("", "", "rs rupee"),
}  # fmt: skip
_PREFIXES: Final[dict[str, tuple[list[str], int]]] = {
    "": ([""], 0), "p": (["pico"], -12), "n": (["nano"], -9), "μ": (["micro"], -6), "m": (["milli", "毫"], -3),
    "c": (["centi", "厘"], -2), "d": (["deci", "分"], -1), "h": (["hecto"], 2), "k": (["kilo", "千"], 3), "K": ([], 3),
    "M": (["mega"], 6), "G": (["giga"], 9), "T": (["tera"], 12),
}  # fmt: skip
# Prefixed symbols that are read in any case; of others, "mw" may be a product or two units.
_ANY_CASE: Final = "mm cm dm km mg kg ms mL cL dL μL kJ kW kV mV mA kHz MHz kPa kΩ"
_DEGREES: Final = ({"°", "°c"}, {"°", "°f"}, {"C", "°c"}, {"F", "°f"})
_FACTOR: Final = re.compile(
    r"(?P<over>\s*/\s*\(?|\s+per\s+)?(?P<times>\s*\*\s*|[\s-]+)?(?P<before>(?:square|sq\.?|cubic|cu\.?)\s|平方|立方)?\s*"
    r"(?P<name>(?:(?!per\b|squared|cubed)[^\W\d_])+|[°%$€£¥₹¢]+[cf]?)\.?"
    r"(?P<behind>\s*\^\s*\(?-?[1-4]\)?|[23]|\s+(?:squared|cubed))?",
    re.IGNORECASE,
)
_ADJACENT: Final = re.compile(r"(?<=m)(?=s\^)|(?<=[gNJ])(?=(?:m|s|kg|K|C)\^)|(?<=\^-\d)(?=[A-Za-z])")  # ms^-2 is m/s^2
_POWERS: Final = {"square": 2, "sq": 2, "squared": 2, "平方": 2, "cubic": 3, "cu": 3, "cubed": 3, "立方": 3}
_SYMBOLS: Final[dict[str, str]] = {}
_MEASURES: Final[dict[str, tuple[Fraction, dict[str, int]]]] = {}


def canonical_unit(text: str) -> str:
    """One name for a unit, e.g. ``cm^2`` for ``sq. centimetres``; empty if it is none that is known."""
    name = _ADJACENT.sub(
        " ", " ".join(text.split()).replace("° ", "°").replace("μ ", "μ").replace(")/(", "/(").strip(" .()[]")
    )
    if (symbol := _find(name)) or not name:
        return symbol
    place, factors, below = 0, [], False
    while place < len(name):
        factor = _FACTOR.match(name, place)
        symbol = "" if factor is None else _find(factor["name"])
        if factor is None or not symbol or (place == 0) != (factor["over"] is factor["times"] is None):
            return ""
        said = (factor["before"] or factor["behind"] or "1").strip(" ^().").casefold()
        power = (_POWERS.get(said) or int(said)) * (-1 if below or factor["over"] else 1)
        below |= "(" in (factor["over"] or "")
        factors.append(symbol if power == 1 else f"{symbol}^{power}")
        place = factor.end()
    # Of a unit alone, a power is that of a length: the square of a variable is none of a unit.
    powered = len(factors) == 1 and "^" in factors[0].replace("^-", "")
    alone = powered and _MEASURES[symbol][1] not in ({"m": 1}, {"unit": 1})
    # "4 m g" is a product of variables, "4 N m" is none.
    variables = len(factors) > 1 and all(len(own) == 1 and own.islower() for own in factors)
    return "" if alone or variables else "*".join(factors)


def conversion_factor(source: str, target: str) -> Fraction | None:
    """What a value in ``source`` is multiplied with to be in ``target``, both canonical; None if nothing can be."""
    if source == target or {source, target} in _DEGREES:
        return Fraction(1)
    (factor, kinds), (other, others) = measure(source), measure(target)
    if "unit" in (*kinds, *others):
        return Fraction(1) if [*kinds.values()] == [*others.values()] else None
    return factor / other if kinds == others else None


def _find(name: str) -> str:
    """The symbol of a unit's name or symbol, in any case where that says enough."""
    return _SYMBOLS.get(name) or _SYMBOLS.get(name.casefold(), "")


@lru_cache(maxsize=1024)
def measure(unit: str) -> tuple[Fraction, dict[str, int]]:
    """What a canonical unit is: how much, of which kinds, each to which power."""
    total, kinds = Fraction(1), Counter[str]()
    for part in unit.split("*"):
        symbol, _, power = part.partition("^")
        factor, own = _MEASURES[symbol]
        total *= factor ** int(power or 1)
        for kind, number in own.items():
            kinds[kind] += number * int(power or 1)
    return total, {kind: number for kind, number in kinds.items() if number}


def _add(symbol: str, definition: str, prefixes: str, names: list[str]) -> None:
    number, _, unit = definition.rpartition(" ")
    own, kinds = measure(canonical_unit(unit)) if unit else (Fraction(1), {symbol: 1})
    for prefix in ("", *prefixes):
        spelt, power = _PREFIXES[prefix]
        name = prefix + symbol
        _MEASURES[name] = Fraction(number or 1) * Fraction(10) ** power * own, kinds
        # Before anything else in another case: "Nm" is not "nm".
        _SYMBOLS[name] = _SYMBOLS[name.replace("μ", "u")] = name
        if name in _ANY_CASE.split() or (not prefix and symbol not in "AKCFTB"):
            _SYMBOLS.setdefault(name.casefold(), name)
        for before, word, end in product(spelt, names, ("", "s")):
            if before.isascii() == word.isascii() or not prefix:
                _SYMBOLS.setdefault(before + word + end, name)


for _symbol, (_definition, _prefixes, _names) in _UNITS.items():
    _add(_symbol, _definition, _prefixes, [name.replace("_", " ") for name in _names.split()])
