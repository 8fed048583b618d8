"""Settings of a benchmark that contradict each other."""

from __future__ import annotations

import pytest

from mstar.callbacks import BenchmarkCallback
from mstar.errors import ConfigError
from mstar.grading import MathVistaGrader


def test_an_official_grader_that_would_grade_nothing_is_refused() -> None:
    for scoring in ("official", "both"):
        assert BenchmarkCallback(scoring=scoring, official_grader=MathVistaGrader()).official_grader is not None  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=r"benchmark\.official_grader grades nothing while benchmark\.scoring is ours"
    ):
        BenchmarkCallback(official_grader=MathVistaGrader())
