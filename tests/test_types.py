"""The data vocabulary."""

from __future__ import annotations

import pytest

from mstar.types import StepLabels


def labels(num_correct: tuple[int, ...], num_total: tuple[int, ...]) -> StepLabels:
    return StepLabels("p", "a\nb\nc", ("a\n", "b\n", "c"), num_correct, num_total, correct=True)


def test_soft_and_hard_labels_follow_from_the_counts() -> None:
    label = labels((0, 1, 1), (4, 4, 1))
    assert label.soft_labels == (0.0, 0.25, 1.0)
    assert label.hard_labels == (False, True, True)


def test_soft_labels_need_as_many_totals_as_counts() -> None:
    with pytest.raises(ValueError, match="zip"):
        _ = labels((0, 1, 1), (4, 4)).soft_labels
