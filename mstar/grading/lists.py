"""Answers that are several values: lists in an order, sets in any, and boxes in a picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from mstar.grading.base import AnswerReader
from mstar.grading.formulas import are_equal, as_interval, is_formula, same_spelling
from mstar.grading.numbers import read_quantity
from mstar.grading.plain_text import clean_latex, fold, normalise
from mstar.grading.quantities import format_number

_SEPARATOR: Final = re.compile(r"[\[({\])}]|\s*(?:[,;&、和与]|\band\b|\bor(?=\s+\w+\s*=)|\\cup|\n\s*(?:[-*•]\s+)?)\s*")
_OR: Final = re.compile(r"或者?|\bor\b")
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_WIDE_SEPARATOR: Final = re.compile(r",\s|;|\band\b")
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?")
_NUMBERS: Final = re.compile(rf"{_NUMBER.pattern}(?:[\s,;()\[\]]+{_NUMBER.pattern})+")
_BULLET: Final = re.compile(r"^[-*•]\s+")
_MAX_LENGTH: Final = 600
_MAX_ITEMS: Final = 40
_MAX_DEPTH: Final = 3


class ListReader(AnswerReader):
    """Reads answers that are several values.

    Args:
        answer: The gold answer, ``[a, b]`` or ``a, b``, or None.
        ordered: Whether the order of the values matters.
        written: Whether the gold answer's brackets say something: [0, 1] is no [0, 1), and {1, 2} no point (1, 2).
    """

    takes_any_text = True

    def __init__(self, answer: str | None, ordered: bool = True, written: bool = False) -> None:
        self._ordered = ordered
        self._is_either = "或" in (answer or "")
        self._items = self._split(answer or "")
        self._is_numeric = bool(self._items) and all(map(read_quantity, self._items))
        values = [found.value for found in map(read_quantity, self._items) if found is not None]
        rises = values[:1] < values[1:] if self._is_numeric else any(map(is_formula, self._items))
        kinds = ("[)", "(]", "{}", "()") if ordered else ("[)", "(]", "()")
        self._others = () if not written else kinds if not ordered or (len(self._items) == 2 and rises) else kinds[:2]
        bracketed = answer is not None and answer.strip()[:1] in ("[", "{", "\\")
        self.gold = _join(self._items, ordered) if len(self._items) > 1 or (self._items and bracketed) else None

    def read(self, text: str) -> str | None:
        """The values that a text lists; see the interface."""
        if len(text) > _MAX_LENGTH:
            return None
        text = as_interval(text) if self._others else text
        items, outer = self._split(text), clean_latex(normalise(text)).strip(" .")
        if f"{outer[:1]}{outer[-1:]}" in self._others:
            return fold(outer)
        if self.gold is not None and self._is_gold(items):
            return self.gold
        if self._is_numeric and not all(map(read_quantity, items)):
            return None
        return _join(items, self._ordered) if len(items) > 1 or (items and len(self._items) == 1) else None

    def _split(self, text: str) -> list[str]:
        return split_items(_OR.sub(";", text) if self._is_either else text)

    def _is_gold(self, items: list[str]) -> bool:
        if _join(items, self._ordered) == self.gold:
            return True
        if len(items) != len(self._items) or not all(map(is_formula, items)):
            return False
        if self._ordered:
            return all(map(are_equal, self._items, items))
        return all(any(are_equal(own, item) for item in items) for own in self._items)


class BoxReader(AnswerReader):
    """Reads boxes ``[x1, y1, x2, y2]`` in a picture: right where the intersection is half of the union or more."""

    def __init__(self, answer: str | None) -> None:
        self._box = None if answer is None else _read_box(answer)
        self.gold = None if self._box is None else _show(self._box)

    def read(self, text: str) -> str | None:
        """The gold box, if the text is one that covers it, else the text's box; see the interface."""
        box = _read_box(text)
        covers = box is not None and self._box is not None and _overlap(self._box, box) >= 0.5
        return self.gold if covers else None if box is None else _show(box)


def _read_box(text: str) -> tuple[float, ...] | None:
    # A label or a confidence beside the box may be a number, too.
    text = normalise(text[:_MAX_LENGTH]).replace("bbox_2d", "")
    runs = [text] if len(_NUMBER.findall(text)) == 4 else _NUMBERS.findall(text)
    numbers = [float(number) for run in runs for number in _NUMBER.findall(run)]
    return tuple(numbers) if len(numbers) == 4 and numbers[0] < numbers[2] and numbers[1] < numbers[3] else None


def _show(box: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:g}' for value in box)}]"


def _overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


def split_items(text: str) -> list[str]:
    """The items at the outermost level, an item that is a list itself as one."""
    text = _BULLET.sub("", clean_latex(normalise(text)).strip().strip("`\"'.。 "))
    if _WIDE_SEPARATOR.search(text):
        text = _THOUSANDS.sub("", text)
    parts: list[str] = []
    depth = start = 0
    for match in _SEPARATOR.finditer(text):
        if match[0] in "[({":
            depth += 1
        elif match[0] in "])}":
            depth -= 1
        elif depth == 0:
            parts.append(text[start : match.start()])
            start = match.end()
    if not parts and _is_bracketed(text):
        return split_items(text[1:-1])
    items = [item.strip(" \"'") for item in (*parts, text[start:])]
    return [item for item in items if item][:_MAX_ITEMS]


def _is_bracketed(text: str) -> bool:
    return text[:1] in tuple("[({") and text[-1:] in tuple("])}")


def _join(items: list[str], ordered: bool, depth: int = 0) -> str:
    forms = [own_form(item, depth) for item in items]
    return f"[{', '.join(forms if ordered else sorted(forms))}]"


def own_form(item: str, depth: int = 0) -> str:
    """A list, a number or words in one form, whatever they are spelt like."""
    if depth < _MAX_DEPTH and _is_bracketed(item) and "," in item:
        return _join(split_items(item), True, depth + 1)
    number = read_quantity(item)
    if number is None:
        return same_spelling(item) if is_formula(item) else fold(item)
    return format_number(number.value) if number.exact else f"{float(number.value):.9g}"
