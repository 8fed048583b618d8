"""What a reward is good for, as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from mstar.dashboards.charts import Series, line_chart
from mstar.dashboards.markup import escape
from mstar.dashboards.page import wrap_page
from mstar.evaluation.best_of_n import RULES, BestOfN, RuleScore

__all__ = ["render_score_page"]


def render_score_page(title: str, lines: Sequence[tuple[str, str]], result: BestOfN) -> str:
    """The page as a string.

    Args:
        title: What was scored.
        lines: What is known of it, as names and texts.
        result: The accuracies.
    """
    facts = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>' for name, text in lines)
    main = f'<section id="facts"><h2>Scores</h2><table class="text">{facts}</table></section>'
    if result.scores:
        series = [Series(rule, tuple((s.n, s.accuracy) for s in result.scores if s.rule == rule)) for rule in RULES]
        chart = line_chart("Accuracy by N", series, "responses to choose from", lambda value: f"{value:.0%}")
        head = "".join(f"<th>{escape(name)}</th>" for name in ("N", "prompts", *RULES))
        rows = "".join(_row(n, scores) for n, scores in result.by_n.items())
        main += (
            f'<section id="accuracy"><h2>What it is good for</h2>{chart}'
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            '<p class="lead">With 95 % bootstrap intervals over prompts.</p></section>'
        )
    return wrap_page(title, label="M-STaR scores", kind="scores", main=main)


def _row(n: int, scores: Sequence[RuleScore]) -> str:
    cells = "".join(f"<td>{s.accuracy:.1%} ({s.low:.1%} to {s.high:.1%})</td>" for s in scores)
    return f"<tr><td>{n}</td><td>{scores[0].prompts}</td>{cells}</tr>"
