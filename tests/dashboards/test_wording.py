from __future__ import annotations

import pytest

from mstar.dashboards.wording import describe_fate, describe_verdict, score_level, visible
from mstar.types import Fate, Response, ScoredResponse, Verdict, VerdictStatus


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b", "a\\u0000b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("one\u2028two\r", "one\\u2028two\\u000d"),
        ("\x1b[31m", "\\u001b[31m"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
        ("line\n\ttab", "line\n\ttab"),
        ("中文 é क्\u200dष 👩\u200d🔬", "中文 é क्\u200dष 👩\u200d🔬"),
    ],
)
def test_hidden_characters_are_written_as_codes(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_score_levels_are_fifths() -> None:
    assert [score_level(s) for s in (-0.1, 0.0, 0.19, 0.2, 0.5, 0.79, 0.8, 1.0, 1.2)] == [
        0, 0, 0, 1, 2, 3, 4, 4, 4,
    ]  # fmt: skip


def test_every_fate_and_status_has_its_own_words() -> None:
    response = Response("p", 0, "x", 1, True, 1.0, 0.0)
    verdicts = {describe_verdict(ScoredResponse(response, Verdict(False, None, s))) for s in VerdictStatus}
    assert len(verdicts) == len(VerdictStatus)
    assert describe_verdict(ScoredResponse(response, Verdict(True, "1", VerdictStatus.GRADED))) == "right"
    assert len({describe_fate(fate) for fate in (*Fate, None)}) == len(Fate) + 1
