"""From the scores of steps to one number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from mstar.errors import ConfigError
from mstar.rewards import MPRM, Aggregation, Likelihood, Oracle, Reward, add_process_rewards, aggregate
from mstar.storage import PromptResponses
from mstar.types import Prompt, Response, ScoredResponse, Verdict, VerdictStatus

from .conftest import response  # type: ignore[import-not-found]

SCORES = (0.5, 0.8, 0.25)


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("min", 0.25), ("mean", 1.55 / 3), ("product", 0.1), ("last", 0.25), ("min_without_answer", 0.5)],
)
def test_an_aggregation_by_hand(aggregation: Aggregation, expected: float) -> None:
    assert aggregate(SCORES, aggregation) == pytest.approx(expected)
    # One score, of the answer's step or of the whole response, is what there is.
    assert aggregate((0.75,), aggregation) == 0.75
    assert aggregate((), aggregation) == 0.0


def test_the_lowest_step_need_not_be_the_last() -> None:
    assert aggregate((0.5, 0.25, 0.8), "min") == 0.25
    assert aggregate((0.5, 0.25, 0.8), "last") == 0.8


class Broken(Reward):
    """Scores by numbers of which one is none."""

    def score(self, groups: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[list[tuple[float, ...]]]:
        """NaN for a step of the prompt that is called bad."""
        return [[(0.5, math.nan if prompt.id == "bad" else 1.0) for _ in rows] for prompt, rows in groups]


def test_scores_that_are_no_numbers_choose_nothing_whatever_the_reward() -> None:
    graded = ScoredResponse(response("a"), Verdict(True, "1", VerdictStatus.GRADED))
    good, bad = (PromptResponses(Prompt(name, "?"), (graded,)) for name in ("good", "bad"))
    assert add_process_rewards([good], Broken())[0].responses[0].process_reward == 0.5
    with pytest.raises(ConfigError, match=r"Broken's scores are not finite numbers \(prompt 'bad' is the first"):
        add_process_rewards([good, bad], Broken())


class Padded(Reward):
    """Scores one response more than there are."""

    def score(self, groups: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[list[tuple[float, ...]]]:
        """A first score that is of no response."""
        return [[(0.1,), *((0.5,) for _ in rows)] for _, rows in groups]


def test_scores_of_other_responses_are_refused() -> None:
    graded = ScoredResponse(response("a"), Verdict(True, "1", VerdictStatus.GRADED))
    with pytest.raises(ConfigError, match=r"Padded\.score gives not one entry for every response"):
        add_process_rewards([PromptResponses(Prompt("p", "?"), (graded,))], Padded())


class Given(Reward):
    """Returns what it is told to."""

    def __init__(self, row: Any) -> None:
        self.row = row

    def score(self, groups: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[list[tuple[float, ...]]]:
        """The same for every prompt."""
        found: Any = self.row and [self.row for _ in groups]
        return found  # type: ignore[no-any-return]


def test_numbers_without_their_tuples_are_refused_and_tensors_are_numbers() -> None:
    graded = ScoredResponse(response("a"), Verdict(True, "1", VerdictStatus.GRADED))
    group = PromptResponses(Prompt("a", "?"), (graded,))
    for row in (None, [0.5], 0.5, [(None,)], ["x"]):
        with pytest.raises(ConfigError, match=r"Given\.score gives not one entry for every response"):
            add_process_rewards([group], Given(row))
    for row in ([[0.5]], [torch.tensor([0.5])], [np.array([0.5], np.float32)]):
        [scored] = add_process_rewards([group], Given(row))[0].responses
        assert (scored.step_scores, type(scored.step_scores[0])) == ((0.5,), float)


def test_only_an_mprm_can_be_retrained_and_it_scores_once_it_has_a_folder() -> None:
    assert [reward.refreshable for reward in (MPRM(), Likelihood(), Oracle())] == [True, False, False]
    assert [reward.ready for reward in (MPRM(), Likelihood(), Oracle())] == [False, True, True]
    assert isinstance(MPRM(), Reward)
