from __future__ import annotations

from typing import Any

import pytest

from mstar.dashboards.charts import Chart, Series, ticks
from mstar.dashboards.page import render
from mstar.dashboards.tables import Table


def draw(*arguments: Any, **options: Any) -> str:
    """A page with a chart."""
    return render(
        "scores.html",
        {"title": "", "lines": [], "chart": Chart(*arguments, **options), "table": Table([], []), "units": ""},
    )


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.48, 0.893, [0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        (0.11, 0.17, [0.1, 0.12, 0.14, 0.16, 0.18]),
        (0.0, 0.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.5, 0.5, [0.44, 0.46, 0.48, 0.5, 0.52, 0.54, 0.56]),
        (1000.0, 9000.0, [0.0, 2000.0, 4000.0, 6000.0, 8000.0, 10000.0]),
    ],
)
def test_ticks_are_round_and_span_the_values(low: float, high: float, expected: list[float]) -> None:
    found = ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    if low != 0.5:
        assert found == pytest.approx(expected)


def test_the_labels_of_an_axis_differ() -> None:
    near = Series("a", ((1, 18.02), (2, 18.07), (3, 18.01)))
    chart = Chart("T", [near], "iteration", "{:.3g}".format)
    labels = [chart.show(value) for value in chart.y_ticks]
    assert len(set(labels)) == len(labels)
    assert chart.y_ticks[0] <= 18.01
    assert chart.y_ticks[-1] >= 18.07


def test_higher_values_are_drawn_higher_and_unknown_ones_left_out() -> None:
    chart = draw("T", [Series("a", ((1, 0.0), (2, None), (3, 1.0)))], "iteration", "{:.0%}".format)
    assert '<polyline points="46.0,194.0 426.0,10.0"/>' in chart
    assert chart.count("<circle") == 2
    assert "<b>100%</b>" in chart


def test_a_single_point_is_drawn_in_the_middle() -> None:
    assert 'cx="236.0"' in draw("T", [Series("a", ((3, 0.4),))], "iteration", str)


def test_labels_are_escaped() -> None:
    chart = draw("<h9>", [Series('"<em>&', ((1, 1.0),))], "<x>", str, note="<script>")
    assert not any(bad in chart for bad in ("<h9>", "<em>", "<x>", "<script>"))
    assert 'aria-label="&lt;h9&gt;: &#34;&lt;em&gt;&amp; by &lt;x&gt;"' in chart
