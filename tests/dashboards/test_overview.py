"""The main results of a run."""

from __future__ import annotations

from mstar.dashboards.overview import headline
from mstar.dashboards.prompt_sample import PromptSample
from mstar.dashboards.run_data import IterationData, RunData


def test_responses_whose_files_are_gone_count_among_the_sampled() -> None:
    done = tuple(IterationData(n, {"funnel/generated": 1000.0, "funnel/kept": 300.0}) for n in (1, 2, 3, 4))
    cards = dict(headline(RunData("r", iterations=done, sample=PromptSample((), 60, 1000))))
    assert (cards["responses sampled"], cards["responses kept"]) == ("4\u202f000", "1\u202f200")
    begun = RunData("r", iterations=(IterationData(1, {}, complete=False),), sample=PromptSample((), 60, 1000))
    assert dict(headline(begun))["responses sampled"] == "1\u202f000"


def test_the_policy_before_the_first_iteration_is_no_last_iteration() -> None:
    before, first = (IterationData(n, {"dynamics/greedy_accuracy": 0.25 + n / 2}) for n in (0, 1))
    card = "validation accuracy, last iteration"
    assert card not in dict(headline(RunData("r", iterations=(before, IterationData(1, {}, complete=False)))))
    assert dict(headline(RunData("r", iterations=(before, first))))[card] == "75.0\u202f%"
