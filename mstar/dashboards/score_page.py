"""What a reward is good for, as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from mstar.dashboards.charts import Chart, Series
from mstar.dashboards.page import render
from mstar.dashboards.tables import Cell, Row, Table
from mstar.evaluation.best_of_n import LEADS, RULES, UNITS, BestOfN


def render_score_page(title: str, lines: Sequence[tuple[str, str]], result: BestOfN) -> str:
    """A page of what a reward reaches, under what is known of the responses."""
    series = [Series(rule, tuple((s.n, s.accuracy) for s in result.scores if s.rule == rule)) for rule in RULES]
    chart = Chart("Accuracy by N", series, "responses to choose from", "{:.0%}".format) if result.scores else None
    rows = [Row(n, [Cell(str(value)) for value in (scores[0].prompts, *scores)]) for n, scores in result.by_n.items()]
    table = Table(("N", "prompts", *RULES, *LEADS), rows)
    return render("scores.html", {"title": title, "lines": lines, "chart": chart, "table": table, "units": UNITS})
