"""How a run's texts, verdicts and numbers are put before people: hidden characters made visible, a phrase a fate."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

from mstar.steps import split_steps
from mstar.types import Fate, ScoredResponse, VerdictStatus

SCORE_LEVELS: Final = 5
# Numbers as short as they can be, with three significant digits (a loss or a learning rate), and with two decimals.
plain: Final = "{:g}".format
three_digits: Final = "{:.3g}".format
two_decimals: Final = "{:.2f}".format
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Line breaks and tabs are layout; the two joiners belong to the spelling of Persian, Hindi and emoji.
_ALLOWED: Final = frozenset("\n\t\u200c\u200d")
_FATES: Final = {
    Fate.KEPT: "kept",
    Fate.NO_ANSWER: "no answer",
    Fate.WRONG: "wrong answer",
    Fate.TRUNCATED: "cut off",
    Fate.DUPLICATE: "duplicate",
    Fate.NOT_SELECTED: "not selected",
    Fate.NO_GRADIENT: "no gradient",
}
_NO_VERDICT: Final = {
    VerdictStatus.NO_ANSWER: "no answer",
    VerdictStatus.UNGRADEABLE_GOLD: "gold answer not gradeable",
    VerdictStatus.TIMEOUT: "grading timed out",
}


def visible(text: str) -> str:
    r"""Writes control, format and bidirectional-override characters as codes, e.g. ``\u202e``.

    A response is untrusted text: without this it could reorder or hide parts of the line that it is shown in.
    """
    if text.isprintable():
        return text
    return "".join(c if c in _ALLOWED or unicodedata.category(c) not in _HIDDEN else _code(ord(c)) for c in text)


def _code(point: int) -> str:
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"


def describe_fate(fate: Fate | None) -> str:
    """Whether a response was kept, or why not, in two words."""
    return "no selection" if fate is None else _FATES[fate]


def describe_verdict(scored: ScoredResponse) -> str:
    """``right``, ``wrong``, or why there is no verdict."""
    return _NO_VERDICT.get(scored.verdict.status, "right" if scored.verdict.correct else "wrong")


def describe_outcome(scored: ScoredResponse) -> str:
    """Verdict and fate, without saying twice that the answer is wrong or missing."""
    if scored.fate in (Fate.WRONG, Fate.NO_ANSWER):
        return describe_verdict(scored)
    return f"{describe_verdict(scored)} \N{MIDDLE DOT} {describe_fate(scored.fate)}"


def distinct_responses(responses: Iterable[ScoredResponse]) -> list[list[ScoredResponse]]:
    """The copies of every distinct response, in the order that they are shown in: kept ones, right ones, by reward.

    A copy that was kept is the first of its like. The best of the wrong ones comes third, so that it is among the few
    that are shown at first.
    """
    copies: dict[str, list[ScoredResponse]] = {}
    for scored in sorted(responses, key=lambda s: s.fate is not Fate.KEPT):
        copies.setdefault(scored.response.text, []).append(scored)

    def order(same: Sequence[ScoredResponse]) -> tuple[bool, bool, float, int]:
        reward = -1.0 if same[0].process_reward is None else same[0].process_reward
        return (same[0].fate is not Fate.KEPT, not same[0].verdict.correct, -reward, -len(same))

    ordered = sorted(copies.values(), key=order)
    wrong = next((same for same in ordered if not same[0].verdict.correct), None)
    if wrong is not None:
        ordered.remove(wrong)
        ordered.insert(2, wrong)
    return ordered


def scored_steps(scored: ScoredResponse) -> list[tuple[str, float | None]]:
    """The steps of a response, each with its score; without any, where there is not one a step."""
    steps = [step.rstrip("\n") for step in split_steps(scored.response.text)]
    has_scores = len(scored.step_scores) == len(steps)
    return list(zip(steps, scored.step_scores if has_scores else [None] * len(steps), strict=True))


def score_level(score: float) -> int:
    """The colour level of a step score in [0, 1]: 0 (lowest fifth) to ``SCORE_LEVELS - 1``."""
    return min(SCORE_LEVELS - 1, max(0, int(score * SCORE_LEVELS)))


def format_percent(share: float) -> str:
    """A share as a percentage with one decimal, e.g. ``48.0 %``."""
    return f"{100 * share:.1f}\u202f%"


def format_count(value: float) -> str:
    """A count with its thousands set apart."""
    return f"{round(value):,}".replace(",", "\u202f")


def short_percent(value: float) -> str:
    """A share as a percentage with three digits, for axes and legends."""
    return f"{100 * value:.3g}\u202f%"


def format_duration(seconds: float) -> str:
    """Seconds as seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
