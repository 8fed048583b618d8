"""The main results of a run."""

from __future__ import annotations

from typing import Any

import pytest

from mstar.dashboards.overview import headline, warnings
from mstar.dashboards.prompt_sample import PromptSample
from mstar.dashboards.run_data import IterationData, RunData


def test_responses_whose_files_are_gone_count_among_the_sampled() -> None:
    done = tuple(IterationData(n, {"funnel/generated": 1000.0, "funnel/kept": 300.0}) for n in (1, 2, 3, 4))
    cards = dict(headline(RunData("r", iterations=done, sample=PromptSample((), 60, 1000))))
    assert (cards["responses sampled"], cards["responses kept"]) == ("4\u202f000", "1\u202f200")
    begun = RunData("r", iterations=(IterationData(1),), sample=PromptSample((), 60, 1000))
    assert dict(headline(begun))["responses sampled"] == "1\u202f000"


def test_the_policy_before_the_first_iteration_is_no_last_iteration() -> None:
    before, first = (IterationData(n, {"dynamics/greedy_accuracy": 0.25 + n / 2}) for n in (0, 1))
    card = "validation accuracy, iteration 1"
    assert card not in dict(headline(RunData("r", iterations=(before, IterationData(1)))))
    assert dict(headline(RunData("r", iterations=(before, first))))[card] == "75.0\u202f%"


@pytest.mark.parametrize(
    ("finished", "settings", "said"),
    [
        ({}, {"trainer": {"max_epochs": 30}}, "2 of 30, not finished"),
        ({}, {"trainer": {"max_epochs": None}}, "2, not finished"),
        ({"max_epochs": 2, "limit": "trainer.max_epochs"}, {"trainer": {"max_epochs": 30}}, "2"),
        ({"max_epochs": 30, "limit": "EarlyStopping"}, {}, "2 of 30, ended by EarlyStopping"),
        ({}, {}, "2"),
    ],
)
def test_how_far_a_run_came_and_whether_it_is_finished(finished: Any, settings: Any, said: str) -> None:
    done = tuple(IterationData(n, {"seconds": {"train": 1.0}}) for n in (1, 2))
    run = RunData("r", iterations=(IterationData(0), *done), finished=finished, settings=settings)
    assert dict(headline(run))["iterations"] == said


def test_an_iteration_in_training_is_not_done() -> None:
    begun = IterationData(1, {"seconds": {"generate": 1.0}})
    assert dict(headline(RunData("r", iterations=(begun,))))["iterations"] == "0, not finished"


def test_a_policy_that_collapsed_or_is_past_its_best_is_warned_of_until_it_is_not() -> None:
    said = {"collapse": "the policy has collapsed", "peak": {"block": {"first": 2}, "fallen": "the policy has fallen"}}
    ill, well = {"prompts": 4, **said}, {"prompts": 4, "peak": {"fallen": None}}
    reports = {0: {"dynamics": {"k": 4}}, 1: well, 2: ill, 3: {}}
    run = RunData("r", iterations=tuple(IterationData(n, report) for n, report in reports.items()))
    assert warnings(run) == ["Iteration 2: the policy has collapsed.", "Iteration 2: the policy has fallen."]
    assert warnings(RunData("r", iterations=(*run.iterations, IterationData(4, well)))) == []
    assert warnings(RunData("r", iterations=run.iterations[:1])) == []
