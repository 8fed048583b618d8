"""Which responses the policy learns from, and why not the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import nan
from typing import Any

import pytest

from mstar.errors import ConfigError
from mstar.selection import RULES, Balance, Mixed, SelectionRule, Selector
from mstar.types import Fate, Response, ScoredResponse, Verdict, VerdictStatus


def right(
    index: int,
    reward: float | None = None,
    *,
    text: str | None = None,
    logprob: float = -1.0,
    chain: bool | None = None,
    prompt_id: str = "p",
) -> ScoredResponse:
    response = Response(prompt_id, index, f"#{index}" if text is None else text, 5, True, 1.0, logprob)
    return ScoredResponse(response, Verdict(True, "7", VerdictStatus.GRADED), (), reward, chain)


def wrong(index: int, reward: float | None = None) -> ScoredResponse:
    return replace(right(index, reward), verdict=Verdict(False, "3", VerdictStatus.GRADED))


def silent(index: int, reward: float | None = None) -> ScoredResponse:
    return replace(right(index, reward), verdict=Verdict(False, None, VerdictStatus.NO_ANSWER))


def cut(scored: ScoredResponse) -> ScoredResponse:
    return replace(scored, response=replace(scored.response, finished=False))


def kept(selector: Selector, scored: list[ScoredResponse], stage: str = "rollout/1") -> list[int]:
    """The sample indices that are kept."""
    return [s.response.sample_index for s in selector.select(scored, stage=stage) if s.fate is Fate.KEPT]


def test_every_response_gets_its_fate_and_nothing_else_changes() -> None:
    scored = [
        cut(right(0, 0.99, text="a")),
        silent(1, 0.98),
        wrong(2, 0.97),
        right(3, 0.2, text="a"),
        right(4, 0.9, text=" a\n"),
        right(5, 0.5, text="b"),
        right(6, 0.1, text="c"),
        cut(silent(7, 0.9)),
    ]
    selected = Selector().select(scored, stage="rollout/1")
    assert [s.fate for s in selected] == [
        Fate.TRUNCATED,
        Fate.NO_ANSWER,
        Fate.WRONG,
        Fate.KEPT,
        Fate.DUPLICATE,
        Fate.KEPT,
        Fate.NOT_SELECTED,
        Fate.TRUNCATED,
    ]
    assert [replace(s, fate=None) for s in selected] == scored


def test_no_response_and_no_right_response_keep_nothing() -> None:
    assert Selector().select([], stage="rollout/1") == ()
    assert kept(Selector(), [wrong(0), silent(1)]) == []


@pytest.mark.parametrize(("top_k", "expected"), [(1, [2]), (2, [0, 2]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])])
def test_top_k_keeps_the_highest_rewards(top_k: int, expected: list[int]) -> None:
    scored = [right(0, 0.7), right(1, 0.1), right(2, 0.8), right(3, 0.3)]
    assert kept(Selector(top_k=top_k), scored) == expected


def test_top_k_breaks_ties_by_sample_index_and_ranks_nan_last() -> None:
    assert kept(Selector(top_k=1), [right(1, 0.5), right(0, 0.5)]) == [0]
    assert kept(Selector(top_k=1), [right(0, nan), right(1, 0.0)]) == [1]


def test_threshold_keeps_all_above_it() -> None:
    scored = [right(0, 0.6), right(1, 0.61), right(2, 0.99), right(3, nan), wrong(4, 0.99)]
    assert kept(Selector("threshold", top_k=1, threshold=0.6), scored) == [1, 2]


def test_all_keeps_all_distinct_right_ones() -> None:
    scored = [right(0), wrong(1), right(2), right(3, text="#0")]
    assert kept(Selector("all", top_k=1), scored) == [0, 2]
    assert kept(Selector("all", deduplicate=False), scored) == [0, 2, 3]


def test_likelihood_keeps_the_likeliest() -> None:
    scored = [right(0, logprob=-2.0), right(1, logprob=-5.0), right(2, logprob=-0.5), right(3, logprob=-2.0)]
    assert kept(Selector("likelihood"), scored) == [0, 2]
    assert kept(Selector("likelihood", top_k=3), scored) == [0, 2, 3]


@pytest.mark.parametrize("rule", ["likelihood", "mixed"])
def test_an_unknown_likelihood_is_an_error_where_it_is_read(rule: str) -> None:
    with pytest.raises(ConfigError, match="have no log-probabilities"):
        kept(Selector(rule), [right(0, 0.5), right(1, 0.5, logprob=nan)])
    # What cannot be kept anyway need not be known.
    assert kept(Selector(rule), [right(0, 0.5), replace(wrong(1, 0.5), response=right(1, logprob=nan).response)]) == [0]


def test_oracle_takes_whole_chains_first_and_fills_up_with_others() -> None:
    scored = [right(0, chain=False), right(1, chain=True), right(2, chain=False), right(3, chain=True)]
    assert kept(Selector("oracle"), scored) == [1, 3]
    filled = kept(Selector("oracle", top_k=3), scored)
    assert len(filled) == 3
    assert {1, 3} < set(filled)


def test_oracle_chooses_among_whole_chains_at_random() -> None:
    scored = [right(i, chain=True) for i in range(4)]
    chosen = Counter(kept(Selector("oracle", top_k=1, seed=seed), scored)[0] for seed in range(100))
    assert set(chosen) == {0, 1, 2, 3}


def test_random_is_uniform_over_the_right_ones() -> None:
    scored = [right(0), wrong(1), right(2), right(3)]
    counts = Counter(index for seed in range(3000) for index in kept(Selector("random", top_k=1, seed=seed), scored))
    assert set(counts) == {0, 2, 3}
    assert all(900 < count < 1100 for count in counts.values())  # 1000 +- 4 standard errors


def test_random_without_deduplication_keeps_texts_as_often_as_they_are_written() -> None:
    scored = [right(i, text="often") for i in range(9)] + [right(9, text="rare")]
    selectors = [Selector("random", top_k=1, seed=seed, deduplicate=False) for seed in range(500)]
    assert 20 < sum(kept(selector, scored) == [9] for selector in selectors) < 80  # 50 +- 4.5 standard errors
    both = replace(selectors[0], top_k=2)
    assert len(kept(both, scored)) == 2
    assert len(kept(replace(both, deduplicate=True), scored[:9])) == 1


def test_random_depends_on_seed_stage_and_prompt_alone() -> None:
    selector = Selector("random", seed=1)
    scored = [right(i) for i in range(20)]
    chosen = kept(selector, scored)
    assert chosen == kept(Selector("random", seed=1), scored)
    assert chosen == sorted(kept(selector, scored[::-1]))
    assert chosen != kept(Selector("random", seed=2), scored)
    assert chosen != kept(selector, scored, stage="rollout/2")
    assert chosen != kept(selector, [right(i, prompt_id="q") for i in range(20)])


class Copies(SelectionRule):
    """Keeps what is not among the responses."""

    def keep(
        self, eligible: Sequence[ScoredResponse], shuffled: Callable[[], list[ScoredResponse]]
    ) -> Sequence[ScoredResponse]:
        """Copies of all."""
        return [replace(scored) for scored in eligible]


def test_a_rule_that_keeps_copies_is_refused_and_does_not_keep_nothing() -> None:
    with pytest.raises(ConfigError, match="selection 'Copies' keeps what is not among the responses"):
        Selector(Copies()).select([right(0)], stage="rollout/1")


class Bare(SelectionRule):
    """Keeps the first without a list, or says nothing where there is none."""

    def keep(
        self, eligible: Sequence[ScoredResponse], shuffled: Callable[[], list[ScoredResponse]]
    ) -> Sequence[ScoredResponse]:
        """One response, or nothing."""
        bare: Any = eligible[0] if eligible else None
        return bare  # type: ignore[no-any-return]


def test_a_rule_that_returns_no_list_is_refused() -> None:
    for given in ([right(0)], []):
        with pytest.raises(ConfigError, match=r"selection 'Bare' keeps what is not among the responses .* a list of"):
            Selector(Bare()).select(given, stage="rollout/1")


def test_which_rules_need_a_reward_model() -> None:
    needing = {rule for rule in RULES if Selector(rule).needs_reward}
    assert needing == {"top_k", "threshold", "consistency", "mixed"}
    for rule in needing:
        with pytest.raises(ConfigError, match=f"selection '{rule}' needs a reward"):
            Selector(rule).select([right(0)], stage="rollout/1")


def test_oracle_needs_to_know_the_chains() -> None:
    with pytest.raises(ConfigError, match="'oracle' needs data with known right chains"):
        Selector("oracle").select([right(0, chain=True), right(1)], stage="rollout/1")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (
            {"rule": "best"},
            "selection is 'best', but must be one of top_k, threshold, consistency, random, all, likelihood, mixed, or",
        ),
        ({"top_k": 0}, "top_k is 0"),
        ({"threshold": 1.0}, "threshold is 1.0"),
        ({"threshold": nan}, "threshold is nan"),
    ],
)
def test_a_setting_that_cannot_work_is_named(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Selector(**arguments)  # type: ignore[arg-type]


def test_mixed_weighs_reward_and_likelihood_on_one_scale() -> None:
    scored = [right(0, 0.9, logprob=-9.0), right(1, 0.5, logprob=-1.0), right(2, 0.8, logprob=-2.0), right(3, 0.1)]
    assert kept(Selector("mixed", top_k=1), scored) == [2]
    assert kept(Selector(Mixed(top_k=2, weight=1.0)), scored) == [0, 2]
    assert kept(Selector(Mixed(top_k=2, weight=0.0)), scored) == [1, 3]
    # Where all are alike, the order of the samples decides.
    assert kept(Selector(Mixed(top_k=1)), [right(1, 0.5), right(0, 0.5)]) == [0]
    with pytest.raises(ConfigError, match="weight is 2"):
        Mixed(weight=2)


def test_consistency_keeps_the_better_half() -> None:
    scored = [right(0, 0.2), right(1, 0.9), wrong(2, 0.95), right(3, 0.5)]
    assert kept(Selector("consistency", top_k=1), scored) == [1, 3]
    assert kept(Selector("consistency"), [wrong(0, 0.9)]) == []


def test_a_threshold_moves_evenly_to_the_final_one() -> None:
    selector = Selector("threshold", threshold=0.25, final_threshold=0.75)
    assert [selector.at(iteration, 5).threshold for iteration in (1, 2, 3, 5)] == [0.25, 0.375, 0.5, 0.75]
    assert selector.at(1, 1).threshold == 0.75
    assert Selector("threshold").at(3, 5) == Selector("threshold")
    scored = [right(0, 0.5), right(1, 0.7)]
    assert [kept(selector.at(iteration, 5), scored) for iteration in (1, 3, 5)] == [[0, 1], [1], []]
    with pytest.raises(ConfigError, match="selection 'top_k' has no threshold"):
        Selector(final_threshold=0.5)


def test_of_easy_prompts_the_best_are_kept() -> None:
    easy = [right(0, 0.1), right(1, 0.9), right(2, 0.5), wrong(3, 0.9)]
    selector = Selector(balance=Balance(keep_easy=1))
    assert kept(selector, easy) == [1]
    assert kept(selector, [*easy, wrong(4, 0.9)]) == [1, 2]
    assert kept(Selector("threshold", threshold=0.05, balance=Balance(keep_easy=1)), easy) == [1]
    assert kept(Selector(balance=Balance(drop="all_right")), easy[:3]) == []
