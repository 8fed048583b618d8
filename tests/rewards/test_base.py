"""From the scores of steps to one number."""

from __future__ import annotations

import pytest

from mstar.errors import ConfigError
from mstar.rewards import MPRM, Aggregation, Likelihood, Oracle, Reward, aggregate
from mstar.types import Prompt, Response

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


def response(text: str, logprob: float = -2.0, num_tokens: int = 4) -> Response:
    return Response("p", 0, text, num_tokens, True, 1.0, logprob)


def test_the_likelihood_is_that_of_a_token() -> None:
    rows = [response("a"), response("a", -200.0, 400), response("a", float("nan"))]
    assert Likelihood().score([(Prompt("p", "?"), rows)]) == [
        [(pytest.approx(0.60653066),), (pytest.approx(0.60653066),), (0.0,)]
    ]


def test_the_oracle_knows_what_the_data_knows() -> None:
    known = Prompt("p", "?", reference_responses=("right",))
    assert Oracle().score([(known, [response("right"), response("wrong")])]) == [[(1.0,), (0.0,)]]
    with pytest.raises(ConfigError, match="prompt 'q' lacks"):
        Oracle().score([(Prompt("q", "?"), [response("right")])])


def test_only_an_mprm_can_be_retrained_and_it_scores_once_it_has_a_folder() -> None:
    assert [reward.refreshable for reward in (MPRM(), Likelihood(), Oracle())] == [True, False, False]
    assert [reward.ready for reward in (MPRM(), Likelihood(), Oracle())] == [False, True, True]
    assert isinstance(MPRM(), Reward)
