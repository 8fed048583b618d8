"""Agreement of an MPRM with human step labels."""

from __future__ import annotations

import pytest

from mstar.errors import DataError
from mstar.evaluation.benchmark_step_files import render_steps
from mstar.evaluation.benchmark_steps import StepResult, best_threshold, macro_f1, score_steps
from mstar.prompts.benchmarks import BenchmarkItem
from mstar.types import Prompt


def rows(keys: dict[str, str], **facets: tuple[str, str]) -> dict[str, BenchmarkItem]:
    return {
        name: BenchmarkItem(Prompt(name, "?"), (facets[name],) if name in facets else (), key)
        for name, key in keys.items()
    }


def test_macro_f1_of_a_hand_made_confusion_matrix() -> None:
    # Right: precision 6/8, recall 6/9. Wrong: precision 4/7, recall 4/6.
    right, wrong, macro = macro_f1([6, 3, 4, 2])
    assert right == pytest.approx(2 * (6 / 8) * (6 / 9) / (6 / 8 + 6 / 9))
    assert wrong == pytest.approx(2 * (4 / 7) * (4 / 6) / (4 / 7 + 4 / 6))
    assert macro == pytest.approx((right + wrong) / 2)
    assert macro_f1([0, 3, 0, 2]) == (0.0, 0.0, 0.0)


def test_the_best_threshold_lies_between_the_classes() -> None:
    results = [StepResult("a", (1, 1, -1, 0), (0.8, 0.6, 0.2, 0.01)), StepResult("b", (-1, 1), (0.4, 0.9))]
    assert best_threshold(results) == pytest.approx(0.5)


def test_equal_scores_cannot_be_cut_apart() -> None:
    assert best_threshold([StepResult("a", (1, -1, 1), (0.5, 0.5, 0.5))]) == 0.0


def test_a_threshold_needs_both_classes() -> None:
    with pytest.raises(DataError, match="all right or all wrong"):
        best_threshold([StepResult("a", (1, 1, 0), (0.5, 0.6, 0.1))])


def test_first_wrong_step_and_neutral_steps() -> None:
    results = [
        StepResult("hit", (1, 0, -1, -1), (0.9, 0.1, 0.2, 0.9)),  # the low neutral step is passed over
        StepResult("late", (1, -1, -1), (0.9, 0.9, 0.1)),
        StepResult("missed", (-1,), (0.9,)),
        StepResult("whole", (1, 1), (0.9, 0.5)),
        StepResult("alarm", (1, 1), (0.9, 0.4)),
    ]
    shown = rows({r.prompt_id: r.prompt_id for r in results}, hit=("data_source", "s"), whole=("data_source", "s"))
    found = score_steps(results, shown, threshold=0.5)
    overall, source = found.scores
    assert (overall.responses, overall.steps, found.neutral) == (5, 11, 1)
    assert overall.first_wrong_accuracy == pytest.approx(1 / 3)
    assert overall.all_right_accuracy == 0.5
    # right called right 5, right called wrong 1, wrong called wrong 2, wrong called right 3
    assert overall.f1_right == pytest.approx(10 / 14)
    assert overall.f1_wrong == pytest.approx(4 / 8)
    assert overall.low <= overall.macro_f1 <= overall.high
    assert (source.group, source.responses, source.first_wrong_accuracy) == ("s", 2, 1.0)
    assert "the threshold 0.5000 (given)" in render_steps(found)
    # ProcessBench's F1: 2 * (1/3 * 1/2) / (1/3 + 1/2).
    assert (overall.first_wrong_f1, found.first_wrong_f1) == (pytest.approx(0.4), pytest.approx(0.4))
    assert "| 33.3 | 50.0 | 40.0 |" in render_steps(found)


def test_the_f1_of_first_wrong_steps_is_the_mean_of_the_parts() -> None:
    results = [StepResult(name, (label,), (score,)) for name, label, score in (
        ("a1", -1, 0.1), ("a2", 1, 0.9), ("b1", -1, 0.9), ("b2", 1, 0.9), ("b3", 1, 0.9),
    )]  # fmt: skip
    shown = rows(
        {r.prompt_id: r.prompt_id for r in results}, **{r.prompt_id: ("part", r.prompt_id[0]) for r in results}
    )
    found = score_steps(results, shown, threshold=0.5, averaged="part")
    # Part a is all found, part b has no first wrong step; all together would be 2/3.
    assert found.first_wrong_f1 == 0.5
    assert "the mean F1 of the two over every part: 50.0." in render_steps(found, title="ProcessBench")
    without = score_steps(results[1:2], shown, threshold=0.5, averaged="part")
    assert without.first_wrong_f1 is None


def test_no_label_is_used_for_its_own_threshold() -> None:
    # Two kinds of questions whose best thresholds differ: 0.3 and 0.7.
    results, keys = [], {}
    for number in range(40):
        low = number % 2 == 0
        scores = (0.4, 0.2) if low else (0.8, 0.6)
        results.append(StepResult(str(number), (1, -1), scores))
        keys[str(number)] = "low" if low else "high"
    found = score_steps(results, rows(keys), resamples=1)
    assert found.chosen
    by_kind = {keys[r.prompt_id]: t for r, t in zip(found.items, found.thresholds, strict=True)}
    # Each kind is judged with the other kind's threshold, and responses to one question with the same.
    assert by_kind == {"low": pytest.approx(0.7), "high": pytest.approx(0.3)}
    assert found.scores[0].macro_f1 == pytest.approx(macro_f1([20, 20, 20, 20])[2])


def test_too_few_labels_are_judged_at_the_middle_and_the_table_says_so() -> None:
    results = [StepResult("a", (1, -1), (0.9, 0.1)), StepResult("b", (1, -1), (0.9, 0.6))]
    one_question = score_steps(results, rows({"a": "same", "b": "same"}))
    right = [StepResult("a", (1,), (0.9,)), StepResult("b", (1,), (0.4,))]
    one_kind = score_steps(right, rows({"a": "a", "b": "b"}))
    assert one_question.thresholds == one_kind.thresholds == (0.5, 0.5)
    assert not one_question.chosen
    assert one_question.scores[0].f1_wrong == pytest.approx(2 / 3)
    assert "the threshold 0.5000 (the middle: a threshold cannot be chosen by labels" in render_steps(one_question)
    assert "all right or all wrong" in render_steps(one_kind)
