from __future__ import annotations

from mstar.types import Example, Fate, Response, ScoredResponse, StepLabels, Verdict, VerdictStatus

FULL = ScoredResponse(
    Response("pool-0-3", 15, "red = 3\n\u2212\u00e9\U0001f3b2\nAnswer: 8", 17, True, 1.3, -4.125),
    Verdict(True, "8", VerdictStatus.GRADED),
    (0.1, 1 / 3, 0.9),
    0.1,
    False,
    Fate.KEPT,
)
BARE = ScoredResponse(
    Response("pool-0-3", 0, "", 0, False, 0.0, float("-inf")), Verdict(False, None, VerdictStatus.NO_ANSWER)
)
EXAMPLES = [Example("b", "two\nlines"), Example("a", ""), Example("b", "two\nlines")]
LABELS = [
    StepLabels("p", "a\nb", ("a\n", "b"), (1, 0), (4, 1), False, -2.5, True),
    StepLabels("q", "c", ("c",), (1,), (1,), True, finished=False),
]
