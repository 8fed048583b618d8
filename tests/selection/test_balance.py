"""How much is learned from easy and hard prompts."""

from __future__ import annotations

import pytest

from mstar.errors import ConfigError
from mstar.selection import Balance, pass_rate
from mstar.types import Response, ScoredResponse, Verdict, VerdictStatus


def responses(right: int, of: int = 4, name: str = "p") -> list[ScoredResponse]:
    return [
        ScoredResponse(
            Response(name, index, f"#{index}", 5, True, 1.0, -1.0), Verdict(index < right, "1", VerdictStatus.GRADED)
        )
        for index in range(of)
    ]


def test_by_default_it_changes_nothing() -> None:
    assert [Balance().limit(responses(right)) for right in range(5)] == [4] * 5
    assert Balance().share_out([responses(0), responses(4)], 4) == [0, 0]
    assert pass_rate([]) == 0.0
    assert [s.weight for s in Balance().repeat(responses(1))] == [1.0] * 4


def test_easy_prompts_give_fewer_responses() -> None:
    balance = Balance(drop="all_right", easy=0.5, keep_easy=1)
    assert [balance.limit(responses(right)) for right in range(5)] == [4, 4, 1, 1, 0]


@pytest.mark.parametrize(
    ("extra", "given"),
    [(0.25, [0, 4, 1, 0, 0]), (0.5, [0, 4, 4, 0, 2]), (1.0, [0, 4, 4, 0, 4])],
    ids=["the hardest first", "then by the id", "at most as many again"],
)
def test_hard_prompts_get_further_samples(extra: float, given: list[int]) -> None:
    rights = {"a": 3, "b": 0, "c": 1, "d": 2, "e": 1}
    groups = [responses(right, name=name) for name, right in rights.items()]
    assert Balance(extra_samples=extra).share_out(groups, 4) == given


def test_what_is_kept_of_hard_prompts_counts_several_times() -> None:
    balance = Balance(repeat_hard=3)
    assert [balance.repeat(responses(right))[0].weight for right in range(5)] == [3.0, 3.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"easy": 0.2}, "hard is 0.25 and easy is 0.2"),
        ({"keep_easy": 0}, "keep_easy is 0"),
        ({"extra_samples": 2.0}, "extra_samples is 2.0"),
        ({"repeat_hard": 0}, "repeat_hard is 0"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Balance(**options)  # type: ignore[arg-type]
