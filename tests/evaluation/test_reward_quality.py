"""How well rewards rank: which responses count as good, and what copies count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mstar.evaluation.reward_quality import reward_quality, warn_of_likelihood
from mstar.grading import AnswerGrader, grade_response
from mstar.types import Prompt, Response, ScoredResponse

RIGHT, LUCKY, WRONG = "1 + 2 = 3\nAnswer: 3", "1 + 2 = 5\nAnswer: 3", "1 + 2 = 4\nAnswer: 4"
REWARDS = {RIGHT: 0.8, LUCKY: 0.3, WRONG: 0.5}
LOGPROBS = {RIGHT: -2.0, LUCKY: -1.0, WRONG: -3.0}


def rated(prompt: Prompt, *texts: str) -> list[ScoredResponse]:
    drawn = [Response(prompt.id, i, text, 9, True, 1.0, LOGPROBS[text]) for i, text in enumerate(texts)]
    graded = [grade_response(prompt, response, AnswerGrader()) for response in drawn]
    return [replace(scored, process_reward=REWARDS[scored.response.text]) for scored in graded]


def test_without_known_chains_the_answer_is_the_truth() -> None:
    quality = reward_quality([rated(Prompt("a", "1 + 2?", answer="3"), LUCKY, WRONG, RIGHT)])
    # LUCKY counts as good: 0.8 and 0.3 against 0.5.
    assert quality.auc == 0.5
    assert (quality.auc_within_correct, quality.compared_correct) == (None, 0)


def test_copies_count_once_in_the_quality() -> None:
    known = Prompt("a", "1 + 2?", answer="3", reference_responses=(RIGHT,))
    assert reward_quality([rated(known, RIGHT, LUCKY, WRONG)]).likelihood_auc_within == 0.5
    many = rated(known, RIGHT, LUCKY, WRONG, WRONG, WRONG, LUCKY)
    assert reward_quality([many]).likelihood_auc_within == 0.5


def test_of_likelihoods_that_are_not_known_nothing_is_said() -> None:
    known = Prompt("a", "1 + 2?", answer="3", reference_responses=(RIGHT,))
    first, *others = rated(known, RIGHT, LUCKY, WRONG)
    quality = reward_quality([[replace(first, response=replace(first.response, logprob=float("nan"))), *others]])
    assert quality.auc_within == 1.0
    found = (quality.likelihood_auc_within, quality.likelihood_auc_within_correct, quality.likelihood_lead)
    assert found == (None, None, None)


def test_the_lead_of_the_likelihood_is_below_0_where_the_reward_ranks_better() -> None:
    # The reward has RIGHT (0.8) above LUCKY (0.3), the likelihood LUCKY (-1) above RIGHT (-2).
    prompts = [Prompt(name, "1 + 2?", answer="3", reference_responses=(RIGHT,)) for name in "ab"]
    quality = reward_quality([rated(prompt, RIGHT, LUCKY) for prompt in prompts])
    assert (quality.likelihood_lead, quality.likelihood_lead_error) == (-1.0, 0.0)


@pytest.mark.parametrize(
    ("lead", "error", "warned"),
    [(0.05, 0.02, True), (0.05, 0.03, False), (-0.05, 0.02, False), (0.02, 0.0, True), (None, None, False)],
)
def test_a_likelihood_that_surely_ranks_better_is_a_warning(lead: Any, error: Any, warned: bool) -> None:
    warning = warn_of_likelihood({"likelihood_lead": lead, "likelihood_lead_error": error}, refreshes=False)
    assert (warning is not None) == warned
    assert warn_of_likelihood({}, refreshes=False) is None


def test_a_run_that_refreshes_its_mprm_is_told_to_do_so_more_often() -> None:
    quality = {"likelihood_lead": 0.05, "likelihood_lead_error": 0.02}
    told = [warn_of_likelihood(quality, refreshes=refreshes) or "" for refreshes in (False, True)]
    assert ["refresh it (rollout" in said for said in told] == [True, False]
    assert "refresh it more often (rollout.refresh_reward_model)" in told[1]
