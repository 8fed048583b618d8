"""The main results of a run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer

from mstar.callbacks.iteration_log import IterationLog
from mstar.dashboards import sections
from mstar.dashboards.overview import headline, warnings
from mstar.dashboards.prompt_sample import PromptSample
from mstar.dashboards.run_data import IterationData, RunData, read_run
from mstar.iteration.iteration import IterationResult
from mstar.iteration.report import IterationReport
from mstar.storage import RunDirectory

from .conftest import COUNTS  # type: ignore[import-not-found]


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


def test_without_dynamics_the_right_samples_are_named_and_no_accuracy() -> None:
    votes = {"labelled": {"funnel": {"generated": 20, "correct": 5}}, "pseudo_labels": COUNTS}
    funnel = {"prompts": 1000, "funnel": {"generated": 40, "correct": 30}}
    for report, share in ((funnel, "75.0\u202f%"), (funnel | votes, "25.0\u202f%")):
        run = RunData("r", iterations=(IterationData(1, funnel), IterationData(2, report), IterationData(3)))
        assert dict(headline(run))["right samples, iteration 2"] == share
        [chart] = [chart for chart in sections.dynamics(run) if chart.title == "Right samples"]
        assert chart.told(chart.series[0]) == share.replace(".0", "")
    measured = IterationData(2, funnel | {"dynamics": {"greedy_accuracy": 0.5}})
    assert not [name for name, _ in headline(RunData("r", iterations=(measured,))) if name.startswith("right samples")]


@pytest.mark.parametrize(
    ("finished", "settings", "said"),
    [
        ({}, {"trainer": {"max_epochs": 30}}, ("iterations, not finished", "2 of 30")),
        ({}, {"trainer": {"max_epochs": None}}, ("iterations, not finished", "2")),
        ({"max_epochs": 2, "limit": "trainer.max_epochs"}, {"trainer": {"max_epochs": 30}}, ("iterations", "2")),
        ({"max_epochs": 30, "limit": "EarlyStopping"}, {}, ("iterations, ended by EarlyStopping", "2 of 30")),
        ({}, {}, ("iterations", "2")),
    ],
)
def test_how_far_a_run_came_and_whether_it_is_finished(finished: Any, settings: Any, said: Any) -> None:
    done = tuple(IterationData(n, {"seconds": {"train": 1.0}}) for n in (1, 2))
    run = RunData("r", iterations=(IterationData(0), *done), finished=finished, settings=settings)
    assert headline(run) == [said]


def test_an_iteration_in_training_is_not_done() -> None:
    begun = IterationData(1, {"seconds": {"generate": 1.0}})
    assert headline(RunData("r", iterations=(begun,))) == [("iterations, not finished", "0")]


def test_a_policy_that_collapsed_or_is_past_its_best_is_warned_of_until_it_is_not(tmp_path: Path) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    for number, right in enumerate((900, 600, 900), 1):
        counts = Counter(prompts=500, generated=1000, correct=right)
        log = IterationLog(RunDirectory(tmp_path), trainer, number)
        log.iteration_done(IterationResult((), IterationReport(number, 1.0, counts, counts), ()))
    _, ill, well = read_run(tmp_path, 1).iterations
    before, begun = IterationData(0, {"dynamics": {"k": 4}}), IterationData(3)
    collapsed, fallen = warnings(RunData("r", iterations=(before, ill, begun)))
    assert collapsed.startswith("Iteration 2: since the first iteration the policy has collapsed: 60% of the responses")
    assert fallen.startswith("Iteration 2: the policy is past its best: 60.0% of the responses are right, and 90.0%")
    assert warnings(RunData("r", iterations=(ill, well))) == []
    assert warnings(RunData("r", iterations=(before,))) == []
