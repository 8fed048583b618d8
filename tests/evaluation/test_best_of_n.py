"""What a reward is good for, by hand; from rows to pages it is in tests/cli/test_score_command.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from mstar.evaluation.best_of_n import measure_best_of_n, render_best_of_n
from mstar.storage import PromptResponses, write_responses
from mstar.types import Prompt, Response, ScoredResponse, Verdict, VerdictStatus

# The rewards of each prompt's responses, which answer x, x, y and z; y is right.
REWARDS = {"a": (0.2, 0.2, 0.9, 0.1), "b": (0.5, 0.5, 0.9, 0.1), "c": (0.95, 0.5, 0.9, 0.1)}


def test_each_rule_chooses_in_its_own_way(tmp_path: Path) -> None:
    groups = [
        PromptResponses(Prompt(name, "?", answer="y"), tuple(
            ScoredResponse(Response(name, place, said, 1, True, 1.0, -1.0),
                           Verdict(said == "y", said, VerdictStatus.GRADED), (reward,), reward)
            for place, (said, reward) in enumerate(zip("xxyz", rewards, strict=True))
        ))
        for name, rewards in REWARDS.items()
    ]  # fmt: skip
    write_responses(tmp_path / "scores-00000.parquet", groups, always=("vote",))
    found = measure_best_of_n([tmp_path / "scores-00000.parquet"], resamples=10)
    accuracies = {score.rule: score.accuracy for score in found.by_n[4]}
    # x has the most votes; with rewards y has more in prompt a; x has the highest reward in prompt c.
    expected = {"random": 1 / 4, "majority": 0.0, "weighted vote": 1 / 3, "best of N": 2 / 3, "oracle": 1.0}
    leads = {"weighted vote - majority": 1 / 3, "best of N - majority": 2 / 3}
    assert accuracies == pytest.approx(expected | leads)
    assert "Compare within a row" not in render_best_of_n(found, "t")
    short = PromptResponses(Prompt("d", "?", answer="y"), groups[0].responses[:2])
    write_responses(tmp_path / "scores-00001.parquet", [short], always=("vote",))
    both = measure_best_of_n(sorted(tmp_path.glob("scores-*.parquet")), resamples=10)
    assert "its rows are of fewer" in render_best_of_n(both, "t")


def test_rules_are_compared_on_the_same_prompts(tmp_path: Path) -> None:
    """The vote is wrong in half of the prompts, in which the reward is right: a sure lead over an unsure accuracy."""
    groups = [
        PromptResponses(Prompt(f"{easy}{number}", "?", answer="y"), tuple(
            ScoredResponse(Response(f"{easy}{number}", place, said, 1, True, 1.0, -1.0),
                           Verdict(said == "y", said, VerdictStatus.GRADED), (reward,), reward)
            for place, (said, reward) in enumerate(zip("yyyz" if easy else "xxyz", (0.5, 0.5, 0.9, 0.1), strict=True))
        ))
        for easy in (True, False) for number in range(20)
    ]  # fmt: skip
    write_responses(tmp_path / "scores-00000.parquet", groups, always=("vote",))
    found = measure_best_of_n([tmp_path / "scores-00000.parquet"], resamples=200)
    scores = {score.rule: score for score in found.by_n[4]}
    vote, best, lead = (scores[rule] for rule in ("majority", "best of N", "best of N - majority"))
    assert (vote.accuracy, lead.accuracy) == (0.5, 0.5)
    assert (lead.low, lead.high) == pytest.approx((1 - vote.high, 1 - vote.low))
    text = render_best_of_n(found, "t")
    assert "| best of N - majority |" in text
    assert f"| +50.0 ({100 * lead.low:+.1f} to {100 * lead.high:+.1f}) |" in text
    # All prompts agree: that is no interval.
    assert (best.low, best.high) == (1.0, 1.0)
    assert "| 100.0 |" in text
    assert "100.0-100.0" not in text


def test_votes_are_those_of_the_files_where_they_are_known(tmp_path: Path) -> None:
    """Two of three right answers differ; of the responses in the file beside it no vote is known."""
    for number, votes in enumerate((("96", "98", "80", "80", ""), (None,) * 5)):
        responses = tuple(
            ScoredResponse(Response(str(number), place, said, 1, True, 1.0, -1.0),
                           Verdict(said != "80", "100" if said != "80" else "80", VerdictStatus.GRADED, vote), (), 0.5)
            for place, (said, vote) in enumerate(zip(("96", "98", "80", "80", "103"), votes, strict=True))
        )  # fmt: skip
        group = PromptResponses(Prompt(str(number), "?", answer="100"), responses[:4] if number == 0 else responses)
        write_responses(tmp_path / f"scores-{number}.parquet", [group], always=("vote",))
    one, other = (tmp_path / f"scores-{number}.parquet" for number in (0, 1))
    assert {s.rule: s.accuracy for s in measure_best_of_n([one], resamples=10).by_n[4]}["majority"] == 0.0
    assert {s.rule: s.accuracy for s in measure_best_of_n([other], resamples=10).by_n[4]}["majority"] == 1.0
    assert {s.rule: s.accuracy for s in measure_best_of_n([one, other], resamples=10).by_n[4]}["majority"] == 0.5
