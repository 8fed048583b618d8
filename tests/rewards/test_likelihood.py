"""The likelihood as a reward: that of a token, where it is known."""

from __future__ import annotations

import math

import pytest

from mstar.errors import ConfigError
from mstar.rewards import Likelihood, add_process_rewards
from mstar.storage import PromptResponses
from mstar.types import Prompt, Response, ScoredResponse, Verdict, VerdictStatus

from .conftest import response  # type: ignore[import-not-found]


def test_the_likelihood_is_that_of_a_token() -> None:
    prompt, rows = Prompt("p", "?"), [response("a"), response("a", -200.0, 400)]
    assert Likelihood().score([(prompt, rows)]) == [[(pytest.approx(0.60653066),), (pytest.approx(0.60653066),)]]
    # Unknown is not unlikely: no number stands for it.
    for unknown, name in ((response("a", math.nan), "logprob"), (response("a", -2.0, 0), "num_tokens")):
        with pytest.raises(ConfigError, match=f"sample 0 of the prompt 'p' cannot be scored: '{name}' is missing"):
            Likelihood().score([(prompt, [*rows, unknown])])


def test_a_response_that_was_not_written_has_no_likelihood_and_the_reward_0() -> None:
    """Its prompt was too long for the engine, which says so; the run goes on."""
    unwritten = Response("p", 0, "", 0, False, 1.0, 0.0)
    assert Likelihood().lacks(unwritten) is None
    group = PromptResponses(
        Prompt("p", "?"), (ScoredResponse(unwritten, Verdict(False, None, VerdictStatus.NO_ANSWER)),)
    )
    [scored] = add_process_rewards([group], Likelihood())[0].responses
    assert (scored.step_scores, scored.process_reward) == ((), 0.0)
