"""Scores of a benchmark: groups, circular evaluation, votes and intervals."""

from __future__ import annotations

import pytest

from mstar.evaluation.benchmark import ItemResult, grade_items
from mstar.evaluation.benchmark_files import render_scores
from mstar.grading import AnswerGrader, MathVistaGrader
from mstar.types import AnswerType, Prompt, Response
from tests.evaluation.benchmark_items import item, score, scored


def test_a_question_counts_only_if_every_rotation_is_right() -> None:
    items = [item("a/0", True), item("a/1", True), item("b/0", True), item("b/1", False), item("c/0", True)]
    result = score(items)
    assert (result.rows, result.questions) == (5, 3)
    assert result.value("greedy") == pytest.approx(2 / 3)


def test_samples_of_rotations_are_taken_together() -> None:
    # Sample 1 is right in both rotations, sample 2 in the first alone; each rotation has a right one.
    items = [
        item("a/0", True, [(True, "A", 0.9), (True, "A", 0.1)]),
        item("a/1", True, [(True, "B", 0.2), (False, "C", 0.8)]),
    ]
    result = score(items)
    assert result.value("sampled") == 0.5
    assert result.value("pass@2") == 1.0
    assert result.value("best_of_2") == 0.0
    assert result.value("weighted_vote@2") == 0.0


def test_votes_of_one_question() -> None:
    samples = [(False, "x", 0.2), (False, "x", 0.2), (True, "y", 0.9), (False, "z", 0.3)]
    result = score([item("a", False, samples)])
    values = {s.metric: s.score for s in result.scores}
    assert values == {
        "greedy": 0.0, "sampled": 0.25, "pass@4": 1.0, "majority@4": 0.0, "best_of_4": 1.0, "weighted_vote@4": 1.0,
    }  # fmt: skip


def test_without_rewards_there_is_no_vote_by_them() -> None:
    one = ItemResult("a", scored("a", 0, True), (scored("a", 1, True),))
    assert [s.metric for s in score([one]).scores] == ["greedy", "sampled", "pass@1", "majority@1"]


def test_groups_count_their_own_questions_and_their_mean_weighs_them_alike() -> None:
    items = [item(name, right) for name, right in zip("abcd", (True, False, False, True), strict=True)]
    facets = {name: [("category", "big")] for name in "abc"} | {"d": [("category", "small"), ("skill", "s")]}
    facets["a"] = [("category", "big"), ("skill", "s"), ("skill", "t")]
    result = score(items, facets, averaged="category")
    found = {(s.dimension, s.group): (s.questions, s.score) for s in result.scores}
    assert found == {
        ("all", ""): (4, 0.5),
        ("category", "big"): (3, pytest.approx(1 / 3)),
        ("category", "small"): (1, 1.0),
        ("skill", "s"): (2, 1.0),
        ("skill", "t"): (1, 1.0),
        ("mean of category", ""): (4, pytest.approx(2 / 3)),
    }


def test_intervals_hold_the_score_and_shrink_with_questions() -> None:
    few = score([item(str(i), i % 2 == 0) for i in range(20)]).scores[0]
    many = score([item(str(i), i % 2 == 0) for i in range(500)]).scores[0]
    assert few.low < few.score < few.high
    # 1.96 standard errors of a share of 0.5, each way.
    assert few.high - few.low == pytest.approx(2 * 1.96 * 0.5 / 20**0.5, rel=0.2)
    assert many.high - many.low == pytest.approx(2 * 1.96 * 0.5 / 500**0.5, rel=0.2)


def test_the_mean_of_groups_is_resampled_within_each() -> None:
    # Half of the large group is right, and all of the small one: only the large one varies, at half its weight.
    items = [item(str(i), i % 2 == 0 or i >= 100) for i in range(104)]
    facets = {str(i): [("category", "small" if i >= 100 else "large")] for i in range(104)}
    mean = next(s for s in score(items, facets, averaged="category").scores if s.dimension == "mean of category")
    assert mean.score == pytest.approx(0.75)
    assert mean.high - mean.low == pytest.approx(2 * 1.96 * 0.5 * 0.5 / 100**0.5, rel=0.15)


def test_two_scoring_modes_differ_where_the_published_rules_guess() -> None:
    prompt = Prompt("a", "Which?", answer="red", answer_type=AnswerType.MULTI_CHOICE, choices=("red", "blue"))
    response = Response("a", 0, "It cannot be determined.", 5, True, 0.0, -1.0)
    [graded] = grade_items([prompt], [[response]], {"ours": AnswerGrader(), "official": MathVistaGrader()})
    result = score([graded], scorings=("ours", "official"))
    assert result.value("greedy") == 0.0
    assert result.statuses["ours"]["no_answer"] == 1
    # An answer that is none becomes the nearest choice, here the right one by luck.
    assert result.value("greedy", "official") == 1.0
    text = render_scores(result)
    assert "## Scoring: official" in text
    assert "- greedy: 100.0 (official) against 0.0 (ours), +100.0 points." in text
