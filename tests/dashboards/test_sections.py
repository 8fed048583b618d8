"""The sections of a report."""

from __future__ import annotations

from mstar.dashboards import sections
from mstar.dashboards.run_data import IterationData, RunData

from .conftest import COUNTS  # type: ignore[import-not-found]


def test_a_vote_s_share_in_what_is_called_right_is_said() -> None:
    report = {
        "prompts": 1000,
        "pseudo_labels": COUNTS,
        "funnel": {"generated": 4000, "correct": 3000},
        "labelled": {"funnel": {"generated": 1600, "correct": 400}},
    }
    said = sections.votes(RunData("r", iterations=(IterationData(1, report), IterationData(2))))
    assert said.startswith("In iteration 1, 600 of 1\u202f000 prompts were voted on, and 20 got no answer")
    assert "Of the responses to the others, 25.0\u202f% are right." in said
    assert sections.votes(RunData("r", iterations=(IterationData(1, {"pseudo_labels": None}),))) == ""
