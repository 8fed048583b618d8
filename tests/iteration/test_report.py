"""What an iteration's report counts, and what is concluded from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from mstar.dashboards.run_data import IterationData
from mstar.iteration.decline import find_collapse, find_fall
from mstar.iteration.report import IterationReport
from mstar.selection import Advantages, SampleMethod, Voting
from mstar.storage import PromptResponses
from mstar.types import Fate, Prompt, Response, ScoredResponse, Verdict, VerdictStatus

# Answers to a prompt whose right one is 1: half of a policy's responses to two kinds of prompts, hard and easy.
HARD, EASY = ["1"] * 4 + ["2"] * 2 + ["3"] * 2 + ["4", "5"], ["1"] * 6 + ["2", "3", "4", "5"]


def group(name: str, answers: Sequence[str]) -> PromptResponses:
    scored = (
        ScoredResponse(
            Response(name, place, f"#{place}", 10, True, 1.0, -5.0),
            Verdict(answer == "1", answer, VerdictStatus.GRADED),
            fate=Fate.NOT_SELECTED,
        )
        for place, answer in enumerate(answers)
    )
    return PromptResponses(Prompt(name, "?", (), "1"), tuple(scored))


def report(iteration: int, answers: Callable[[int], Sequence[str]], voting: Voting | None = None) -> dict[str, Any]:
    """That of 1,200 prompts; with a vote, every second pair of them has no label."""
    parts = [IterationReport(iteration, 1.0), IterationReport(iteration, 1.0)]
    for number in range(1200):
        found, voted = group(f"p{number}", answers(number)), voting is not None and number % 4 >= 2
        parts[number % 3 == 0].count(voting.label(found) if voted and voting else found, voted=voted)
    total = IterationReport(iteration, 1.0)
    for part in parts:
        total.merge(part)
    # The number of votes, without which a report is that of labelled prompts.
    total.counts["voted"] = 600 if voting is not None else 0
    return total.as_dict()


def conclusions(*reports: dict[str, Any]) -> tuple[str | None, str | None]:
    return find_collapse(reports[0], reports[-1]), find_fall(reports)


@pytest.mark.parametrize("voting", [Voting(), Voting(min_share=0.5, ties=False), Voting(min_share=0.75)])
def test_a_vote_on_half_of_the_prompts_says_nothing_of_how_often_the_policy_is_right(voting: Voting) -> None:
    first, second = report(1, lambda n: (HARD, EASY)[n % 2]), report(2, lambda n: (HARD, EASY)[n % 2], voting)
    assert "labelled" not in first
    assert second["labelled"] == {
        "prompts": 600, "funnel": {"generated": 6000, "correct": 3000}, "right_chain_accuracy": None,
        "all_wrong_fraction": 0.0,
    }  # fmt: skip
    assert conclusions(first, second) == (None, None)


def test_a_policy_that_agrees_with_itself_on_wrong_answers_has_fallen() -> None:
    first, second = report(1, lambda n: EASY), report(2, lambda n: ["2"] * 7 + ["1"] * 3, Voting())
    assert second["funnel"]["correct"] == 6000
    collapse, fallen = conclusions(first, second)
    # Few prompts may be left that were not voted on: only the rule that knows how sure it is goes by their share.
    assert collapse is None
    assert fallen is not None
    assert "30.0% of the responses are right" in fallen


def test_a_prompt_whose_right_answers_were_cut_off_has_none_right_in_every_share() -> None:
    whole = group("p", ["1"] * 4)
    cut = tuple(replace(s, response=replace(s.response, finished=False)) for s in whole.responses)
    found = IterationReport(1, 1.0)
    found.count(replace(whole, responses=cut), voted=False)
    read = found.as_dict()
    assert read["funnel"]["correct"] == 4
    assert [row["accuracy"] for row in read["by_pass_rate"].values()] == [0.0]
    assert (read["all_right_fraction"], read["all_wrong_fraction"]) == (0.0, 1.0)


def test_further_samples_of_hard_prompts_are_no_change_of_the_policy() -> None:
    """The same policy with and without them: half of the prompts get as many again, which are all wrong and long."""

    def count(*, further: bool) -> dict[str, Any]:
        counted = IterationReport(1, 1.0)
        for number in range(1200):
            found = group(f"p{number}", (["1"] + ["2"] * 9, ["1"] * 9 + ["2"])[number % 2])
            more = group(f"p{number}", ["1"] * 10 + ["2"] * 10).responses[10:] if further and number % 2 == 0 else ()
            long = tuple(replace(s, response=replace(s.response, num_tokens=90), fate=Fate.KEPT) for s in more)
            prompt = replace(found.prompt, category=("hard", "easy")[number % 2])
            counted.count(replace(found, prompt=prompt, responses=(*found.responses, *long)), num_samples=10)
        return counted.as_dict()

    plain, drawn = count(further=False), count(further=True)
    assert (plain["funnel"]["generated"], drawn["funnel"]["generated"]) == (12_000, 18_000)
    assert (drawn["funnel"]["kept"], drawn["by_category"]["hard"]["kept"]) == (6_000, 6_000)
    assert conclusions(plain, drawn) == (None, None)
    for name in ("entropy", "response_length", "all_wrong_fraction", "right_chain_accuracy"):
        assert drawn[name] == plain[name]
    for name in ("by_category", "by_pass_rate"):
        for kind, tally in drawn[name].items():
            assert tally | {"kept": 0} == plain[name][kind]
    shares = [IterationData(1, report).values["right_samples"] for report in (plain, drawn)]
    assert shares == [0.5, 0.5]


def test_what_is_kept_is_compared_with_a_choice_at_random_of_right_responses_without_copies() -> None:
    # One right chain in four right responses, one of them with five copies; two in two.
    prompts = {
        "a": [(Fate.KEPT, True), *[(Fate.NOT_SELECTED, False)] * 3, *[(Fate.DUPLICATE, True)] * 5, (Fate.WRONG, False)],
        "b": [(Fate.KEPT, True), (Fate.KEPT, True)],
    }
    counted = IterationReport(1, 1.0)
    for name, fates in prompts.items():
        found = group(name, ["2" if fate is Fate.WRONG else "1" for fate, _ in fates])
        pairs = zip(found.responses, fates, strict=True)
        responses = tuple(replace(s, fate=fate, chain_correct=chain) for s, (fate, chain) in pairs)
        counted.count(replace(found, responses=responses))
    found_in = counted.as_dict()
    assert found_in["kept_chain_accuracy"] == 1.0
    assert found_in["random_chain_accuracy"] == pytest.approx((1 / 4 + 2) / 3)
    nothing_left_out = IterationReport(1, 1.0)
    nothing_left_out.count(replace(found, responses=responses))
    assert nothing_left_out.as_dict()["random_chain_accuracy"] is None


@pytest.mark.parametrize("method", ["grpo", "nft"])
def test_a_choice_is_one_among_right_responses(method: SampleMethod) -> None:
    found = group("p", EASY)
    advantages = Advantages(method)
    counted = IterationReport(1, 1.0)
    counted.count(replace(found, responses=advantages.select(found.responses, stage="test")))
    assert counted.counts["kept"] == 10
    # Not selected, like those whose grading ran out of time.
    counted.count(replace(found, responses=tuple(s for s in found.responses if not s.verdict.correct)))
    assert counted.as_dict()["choice"] == {"prompts": 0, "of": 1}
