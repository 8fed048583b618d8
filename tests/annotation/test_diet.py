"""What a diet leaves of step labels, against hand-computed values."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any, Final

import pytest

from mstar.annotation import PublicStepLabels
from mstar.annotation.diet import LabelDiet, apply_diet, information
from mstar.annotation.label_table import LabelTable
from mstar.errors import ConfigError, DataError
from mstar.types import StepLabels

pytestmark = pytest.mark.usefixtures("own_cache")


def label(prompt_id: str, *counts: int, text: str = "", total: int = 4) -> StepLabels:
    steps = (*(f"step {text}{place}\n" for place in range(len(counts) - 1)), "end")
    return StepLabels(prompt_id, "".join(steps), steps, counts, (total,) * len(counts), correct=counts[-1] > 0)


def left(*labels: StepLabels, others: list[StepLabels] | None = None, **settings: Any) -> list[StepLabels]:
    second = None if others is None else LabelTable.held(others)
    return list(apply_diet(LabelTable.held(labels), LabelDiet(**settings), second))


def test_the_balanced_information_score_by_hand() -> None:
    # Half of the steps are right, on average by three of four continuations.
    assert information(label("p", 4, 2, 0, 0), 0.05) == pytest.approx((0.25 + 0.05) * 0.75)
    assert information(label("p", 4, 4), 0.05) == pytest.approx(0.05)
    assert information(label("p", 0, 0), 0.05) == pytest.approx(0.05)


def test_the_most_informative_share_is_kept_in_order() -> None:
    labels = [label("p", 4, 4), label("q", 4, 0), label("r", 1, 0), label("s", 0, 0)]
    assert left(*labels, keep=0.5) == [labels[1], labels[2]]
    assert left(*labels) == labels
    assert left(*labels, keep=0.01) == [labels[1]]


def test_prompts_of_which_the_policy_is_unsure_are_skipped() -> None:
    # The first steps of a reach the answer in (3 + 1) / 8 of the continuations, that of b in 1 / 4.
    a, b = [label("a", 3, 4), label("a", 1, 0, text="x")], label("b", 1, 0)
    assert left(a[0], b, a[1], confidence=0.5) == a
    with pytest.raises(DataError, match="leaves no step labels"):
        left(b, confidence=0.5)


def test_labels_are_softened_before_the_first_error_of_wrong_responses_alone() -> None:
    right, wrong = label("a", 2, 0, 1, 4), label("a", 4, 2, 3, 0, 0, text="x")
    assert left(right, wrong, soften=2)[0].soft_labels == (1, 1, 1, 1)
    # The prompt's confidence is (2 + 4) / 8.
    assert left(right, wrong, soften=2)[1].soft_labels == pytest.approx((1, 0.5 / 0.75, 1, 0, 0), abs=1e-3)
    assert left(right, wrong, soften=0)[1].soft_labels == (1, 1, 1, 0, 0)
    # It is the same where the first response is not kept.
    assert left(right, wrong, soften=2, keep=0.5) == left(right, wrong, soften=2)[1:]
    unlabelled = replace(right, num_total=(4, 0, 4, 4))
    assert left(unlabelled, soften=2)[0].num_total == (1, 0, 1, 1)


def test_the_lines_of_a_step_that_are_not_its_last_one_do_not_count() -> None:
    wrong = replace(label("a", 0, 4, 0, 2, 0), num_total=(0, 4, 0, 4, 4), correct=False)
    assert left(wrong, confidence=0.9) == [wrong]
    [softened] = left(wrong, soften=2)
    assert (softened.num_correct, softened.num_total) == ((0, 1, 0, 1, 0), (0, 1, 0, 2, 1))


def test_verdicts_are_not_softened_away() -> None:
    judged = label("a", 1, 0, 0, 1, text="x", total=1)  # a judge's alone; the last step has the answer's
    cut = label("a", 12, 0, 3, text="y", total=16)  # VisualPRM400K without its last step
    assert left(judged, soften=0)[0].soft_labels == (1, 0, 0, 0)
    assert left(cut, soften=0)[0].soft_labels == (1, 0, 0)


def test_only_labels_on_which_two_policies_agree_are_kept() -> None:
    labels = [label("a", 2, 1, 0), label("a", 4, 4, text="only one has it"), label("b", 0, 0)]
    others = [label("a", 1, 0, 0, total=8), label("b", 3, 1)]
    [kept] = left(*labels, others=others)
    assert kept.response == labels[0].response
    assert (kept.soft_labels[0], kept.soft_labels[2]) == (0.5, 0.0)
    assert isnan(kept.soft_labels[1])


def test_a_step_that_the_other_policy_does_not_label_is_no_agreement() -> None:
    labels = [label("a", 2, 0, 0), label("b", 0, 0)]
    others = [replace(label("a", 1, 0, 0), num_total=(4, 0, 4)), label("b", 0, 0, total=0)]
    [kept] = left(*labels, others=others)
    assert (kept.num_correct, kept.num_total) == ((2, 0, 0), (4, 0, 4))


# A question, its steps, and whether each is right: a row in each published form.
FORMS: Final[dict[str, Callable[[str, Sequence[str], Sequence[int]], dict[str, Any]]]] = {
    "math_shepherd": lambda asked, steps, right: {
        "input": f"{asked} " + "\n".join(f"Step {n}: {s} ки" for n, s in enumerate(steps, 1)),
        "label": f"{asked} " + "\n".join(f"Step {n}: {s} {'-+'[r]}" for n, (s, r) in enumerate(zip(steps, right), 1)),  # noqa: B905
    },
    "mm_prm": lambda asked, steps, right: {
        "conversations": [
            {"from": "human", "value": f"Question: {asked}\nProcess: {''.join(f'{step}<prm>' for step in steps)}"},
            {"from": "gpt", "value": [float(r) for r in right]},
        ]
    },
    "stepwise": lambda asked, steps, right: {
        "prompt": asked,
        "completions": list(steps),
        "labels": [*map(bool, right)],
    },
    "visualprm_raw": lambda asked, steps, right: {
        "question": asked,
        "steps_with_score": [
            {"step": step, "score": float(r), "num_mc_correct": r, "num_mc_total": 1}
            for step, r in zip(steps, right, strict=True)
        ],
    },
    "visualprm": lambda asked, steps, right: {
        "conversations": [
            turn
            for n, (step, r) in enumerate(zip(steps, right, strict=True))
            for turn in (
                {"from": "human", "value": step if n else f"### Question:\n{asked}\n\n### Solution Process:\n{step}"},
                {"from": "gpt", "value": "-+"[r]},
            )
        ]
    },
}


@pytest.mark.parametrize("form", list(FORMS))
def test_labels_of_every_published_form_go_on_the_same_diet(tmp_path: Path, form: str) -> None:
    # Of the first question a balanced response and one that is all right, of the second one of which all is wrong.
    rows = [("How much?", "abc", (1, 1, 0)), ("How much?", "def", (1, 1, 1)), ("How many?", "gh", (0, 0))]
    seconds = [("How much?", "abc", (1, 0, 0)), ("How many?", "gh", (1, 1))]

    def public(name: str, given: Sequence[tuple[str, str, Sequence[int]]]) -> LabelTable:
        path = tmp_path / f"{name}.jsonl"
        lines = [json.dumps(FORMS[form](asked, [f"{s}." for s in steps], right)) for asked, steps, right in given]
        path.write_text("\n".join(lines))
        return PublicStepLabels(str(path)).load()

    labels = public("labels", rows)

    def counts(diet: LabelDiet, others: LabelTable | None = None) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        return sorted((label.num_correct, label.num_total) for label in apply_diet(labels, diet, others))

    assert counts(LabelDiet(keep=0.4)) == [((1, 1, 0), (1, 1, 1))]
    assert counts(LabelDiet(confidence=0.5)) == [((1, 1, 0), (1, 1, 1)), ((1, 1, 1), (1, 1, 1))]
    assert counts(LabelDiet(soften=1)) == [((0, 0), (1, 1)), ((1, 1, 0), (1, 1, 1)), ((1, 1, 1), (1, 1, 1))]
    assert counts(LabelDiet(), public("seconds", seconds)) == [((1, 0, 0), (1, 0, 1))]


@pytest.mark.parametrize("settings", [{"confidence": 1.0}, {"keep": 0.0}, {"smoothing": -1.0}, {"soften": -1}])
def test_settings_that_cannot_work(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="diet"):
        LabelDiet(**settings)
