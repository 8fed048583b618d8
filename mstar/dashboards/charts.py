"""Line charts: the scales of what the template ``parts.html`` draws as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final

# Of a line with more points, the points are not drawn one by one.
_MOST_DOTS: Final = 40


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart.

    Attributes:
        points: (x, y) in order of x; a point whose y is None is left out.
    """

    label: str
    points: tuple[tuple[float, float | None], ...]

    @property
    def known(self) -> list[tuple[float, float]]:
        """The points that are drawn."""
        return [(x, y) for x, y in self.points if y is not None]

    @property
    def dotted(self) -> bool:
        """Whether its points are drawn one by one."""
        return len(self.known) <= _MOST_DOTS


@dataclass(frozen=True)
class Chart:
    """A chart with its title and legend.

    Attributes:
        series: The lines; at least one point of one of them must be known.
        show: Writes a value of the vertical axis.
        whole_x: Whether x takes whole numbers only (iterations).
    """

    title: str
    series: Sequence[Series]
    x_label: str
    show: Callable[[float], str]
    note: str = ""
    whole_x: bool = True

    width: ClassVar = 440
    height: ClassVar = 230
    # What the axes enclose.
    left: ClassVar = 46
    right: ClassVar = 426
    top: ClassVar = 10
    bottom: ClassVar = 194

    def place_x(self, x: float) -> float:
        """Where a value of x is drawn."""
        low, high = self._x_range
        return round(self.left + (x - low) / (high - low) * (self.right - self.left), 1)

    def place_y(self, y: float) -> float:
        """Where a value of y is drawn."""
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return round(self.top + (high - y) / (high - low) * (self.bottom - self.top), 1)

    @property
    def x_ticks(self) -> list[float]:
        """The values that the horizontal axis has."""
        if self.whole_x:
            return self._xs[:: -(-len(self._xs) // 10)]
        low, high = self._x_range
        return [tick for tick in ticks(low, high, 8) if low <= tick <= high]

    @cached_property
    def y_ticks(self) -> list[float]:
        """The values that the vertical axis has."""
        known = [y for line in self.series for _, y in line.known]
        found = ticks(min(known), max(known))
        # Of values that are that near to each other, a wider axis says so.
        while len({self.show(value) for value in found}) < len(found):
            margin = found[-1] - found[0]
            found = ticks(found[0] - margin, found[-1] + margin)
        return found

    def told(self, line: Series) -> str:
        """What the legend says of a line: its last value; nothing without any."""
        return self.show(line.known[-1][1]) if line.known else ""

    @cached_property
    def _xs(self) -> list[float]:
        return sorted({x for line in self.series for x, _ in line.points})

    @cached_property
    def _x_range(self) -> tuple[float, float]:
        low, high = self._xs[0], self._xs[-1]
        return (low, high) if low < high else (low - 0.5, high + 0.5)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers, about ``count`` of them, that span [low, high]."""
    if high <= low:
        low, high = (low - abs(low) / 10, high + abs(high) / 10) if low else (0.0, 1.0)
    raw = (high - low) / (count - 1)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = unit * next(factor for factor in (1, 2, 5, 10) if raw <= 1.25 * factor * unit * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]
