"""Economical ways to continue prefixes: which are drawn, when they stop, and what the labels then are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest

from mstar.annotation import AnnotationSettings
from mstar.annotation.continuations import Count, Drawn, count_continuations
from mstar.errors import DataError
from mstar.generation import Engine, Request
from mstar.grading import AnswerGrader
from mstar.types import Prompt, Response

PROMPT = Prompt("p", "How many?", answer="3")


class ScriptedEngine(Engine):
    """The n-th continuation of a prefix is right where its script has a 1; every one takes 10 tokens."""

    max_new_tokens = 40

    def __init__(self, scripts: dict[str, str]) -> None:
        self.scripts = scripts
        self.drawn: dict[str, list[int]] = {prefix: [] for prefix in scripts}

    def start(self, policy: Any, renderer: Any) -> None: ...

    def update_weights(self, policy: Any) -> None: ...

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        rows = []
        for request in requests:
            self.drawn[request.prefix] += [sample.index for sample in request.samples]
            rows.append([
                Response("p", s.index, f"Answer: {3 if self.scripts[request.prefix][s.index] == '1' else 0}",
                         10, True, 1.0, 0.0)
                for s in request.samples
            ])  # fmt: skip
        return rows


def count(
    scripts: dict[str, str],
    continuing: Literal["all", "ahead", "search"],
    chains: Sequence[Sequence[str]] | None = None,
    right: Sequence[bool] | None = None,
    **settings: Any,
) -> tuple[dict[str, tuple[int, int]], ScriptedEngine, int]:
    engine = ScriptedEngine(scripts)
    given = AnnotationSettings(**{"num_continuations": 8, **settings}, continuing=continuing)
    drawn, given_chains = Drawn(), [("p", chain) for chain in chains or [list(scripts)]]
    right = right or [False] * len(given_chains)
    found = count_continuations([PROMPT], given_chains, right, engine, AnswerGrader(), given, drawn)
    assert drawn.num_responses == sum(len(places) for places in engine.drawn.values())
    return {prefix: (c.num_correct, c.num_total) for (_, prefix), c in found.items()}, engine, drawn.num_tokens


def test_continuations_that_are_not_those_that_were_asked_for_label_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generate = ScriptedEngine.generate
    monkeypatch.setattr(
        ScriptedEngine, "generate", lambda self, requests: [row[1:] for row in generate(self, requests)]
    )
    with pytest.raises(DataError, match="7 responses to the prompt 'p' that are not the 8 samples"):
        count({"a": "11110000"}, "all")


def test_all_draws_every_continuation_of_every_distinct_prefix_once() -> None:
    counts, engine, tokens = count({"a": "11110000", "b": "00000001"}, "all", [["a", "b"], ["a"]])
    assert counts == {"a": (4, 8), "b": (1, 8)}
    assert engine.drawn == {"a": list(range(8)), "b": list(range(8))}
    assert tokens == 160


def test_ahead_stops_where_one_is_right_and_one_outcome_is_ahead() -> None:
    scripts = {
        "right": "11111111", "wrong": "00000000", "close": "10101010", "late": "10000000", "later": "00000100"
    }  # fmt: skip
    counts, engine, tokens = count(scripts, "ahead", lead=3)
    # After 3, 4, 5, 6, 7 and 8: 1 against 4 is ahead by three. While none is right, the next one may be.
    assert counts == {"right": (3, 3), "wrong": (0, 8), "close": (4, 8), "late": (1, 5), "later": (1, 6)}
    assert engine.drawn["late"] == [0, 1, 2, 3, 4]
    assert tokens == 10 * (3 + 8 + 8 + 5 + 6)
    # Hard labels are those of all continuations.
    every, _, _ = count(scripts, "all")
    assert [right > 0 for right, _ in counts.values()] == [right > 0 for right, _ in every.values()]


def test_ahead_with_a_lead_beyond_the_limit_draws_all() -> None:
    counts, _, _ = count({"a": "11"}, "ahead", num_continuations=2, lead=3)
    assert counts == {"a": (2, 2)}


def test_search_finds_the_first_prefix_that_nothing_saves() -> None:
    scripts = {"1": "11111111", "2": "00010000", "3": "00000000", "4": "00000000", "5": "00000000"}
    counts, engine, tokens = count(scripts, "search")
    assert counts == {"1": (1, 1), "2": (1, 1), "3": (0, 1), "4": (0, 1), "5": (0, 1)}
    # The middle, then the middle of what is before it, and the one between; a right one settles a prefix.
    assert {prefix: len(drawn) for prefix, drawn in engine.drawn.items()} == {"1": 0, "2": 4, "3": 8, "4": 0, "5": 0}
    assert tokens == 120


@pytest.mark.parametrize("first_wrong", [0, 1, 2, 3])
def test_search_at_the_edges(first_wrong: int) -> None:
    scripts = {str(place): ("1" if place < first_wrong else "0") * 8 for place in range(3)}
    counts, _, _ = count(scripts, "search")
    assert [counts[str(place)][0] for place in range(3)] == [int(place < first_wrong) for place in range(3)]


def test_search_leaves_right_responses_alone() -> None:
    scripts = {"a": "00000000", "ab": "00000000", "ac": "00000000"}
    counts, engine, _ = count(scripts, "search", [["a", "ab"], ["a", "ac"]], [True, False])
    # The right response is a right continuation of the prefix that the wrong one shares.
    assert counts == {"a": (1, 1), "ab": (1, 1), "ac": (0, 1)}
    assert engine.drawn["ab"] == []


def test_search_of_responses_that_share_a_prefix_draws_it_once() -> None:
    counts, engine, _ = count(
        {"a": "11111111", "ab": "00000000", "ac": "10000000"}, "search", [["a", "ab"], ["a", "ac"]]
    )
    assert counts == {"a": (1, 1), "ab": (0, 1), "ac": (1, 1)}
    assert engine.drawn == {"a": [0], "ab": list(range(8)), "ac": [0]}


def test_a_response_of_one_step_has_no_prefixes() -> None:
    assert count({}, "search", [[]])[0] == {}


def test_what_is_settled() -> None:
    assert [Count(c, 5).is_settled(3) for c in range(6)] == [False, True, False, False, True, True]


@pytest.mark.parametrize("order", [1, -1])
def test_search_of_responses_that_share_a_prefix_believes_the_one_that_saw_it_saved(order: int) -> None:
    scripts = {"a": "11111111", "ab": "00000000", "abc": "10000000", "abcd": "00000000", "abx": "00000000"}
    chains = [["a", "ab", "abc", "abcd"], ["a", "ab", "abx"]][::order]
    counts, _, _ = count(scripts, "search", chains)
    assert counts == {"a": (1, 1), "ab": (1, 1), "abc": (1, 1), "abcd": (0, 1), "abx": (0, 1)}
