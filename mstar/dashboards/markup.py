"""The pieces of HTML and the number formats that the report's sections share; every text is escaped here."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mstar.dashboards.wording import visible

__all__ = [
    "Show",
    "bar_cell",
    "cell",
    "escape",
    "format_count",
    "format_duration",
    "grid",
    "is_number",
    "known_points",
    "mapping",
    "plain",
    "sequence",
    "short_percent",
    "table",
    "three_digits",
    "two_decimals",
]

Show = Callable[[float], str]


def escape(value: object) -> str:
    """A value as HTML text, hidden characters written as codes."""
    return html.escape(visible(str(value)), quote=True)


def table(head: str, rows: Sequence[str]) -> str:
    """A table that scrolls sideways where the screen is too narrow.

    Args:
        head: The cells of the header row, as HTML.
        rows: The rows, as HTML.
    """
    body = "".join(rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def grid(charts: Sequence[str]) -> str:
    """Charts beside and below each other; nothing if there are none."""
    drawn = "".join(charts)
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def cell(value: Any, show: Show) -> str:
    """A table cell with a number, or a dash for anything else."""
    return f"<td>{escape(show(value))}</td>" if is_number(value) else '<td class="none">–</td>'


def bar_cell(text: str, share: float, small: str = "") -> str:
    """A table cell with a bar under its text.

    Args:
        text: The cell's text.
        share: The bar's length, in [0, 1].
        small: A second text, set smaller.
    """
    width = min(1.0, max(0.0, share))
    extra = f" <small>{escape(small)}</small>" if small else ""
    return f'<td class="bar" style="--share:{width:.3f}">{escape(text)}{extra}</td>'


def known_points(pairs: Iterable[tuple[float, Any]]) -> tuple[tuple[float, float | None], ...]:
    """The (x, y) pairs whose y is a number."""
    return tuple((float(x), float(y)) for x, y in pairs if is_number(y))


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number."""
    # NaN and the infinities differ from themselves when subtracted.
    return isinstance(value, int | float) and not isinstance(value, bool) and value - value == 0


def mapping(value: Any) -> Mapping[str, Any]:
    """A JSON value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> Sequence[Any]:
    """A JSON value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def format_count(value: float) -> str:
    """A count with its thousands set apart."""
    return f"{round(value):,}".replace(",", "\u202f")


def plain(value: float) -> str:
    """A number as short as it can be."""
    return f"{value:g}"


def three_digits(value: float) -> str:
    """A number with three significant digits, e.g. a loss or a learning rate."""
    return f"{value:.3g}"


def two_decimals(value: float) -> str:
    """A number with two decimals."""
    return f"{value:.2f}"


def short_percent(value: float) -> str:
    """A share as a percentage with three digits, for axes and legends."""
    return f"{100 * value:.3g}\u202f%"


def format_duration(seconds: float) -> str:
    """Seconds as seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
