"""A reward and a selection rule as a stranger adds them: one file each, named by its class path."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from mstar.__main__ import main
from mstar.provenance import _own_source
from mstar.storage import RunDirectory, read_responses
from mstar.types import Fate, ScoredResponse

REWARD = '''
from mstar.rewards import Reward


class Brevity(Reward):
    """Prefers short responses, by the lengths of their lines."""

    def __init__(self, scale: float = 40.0) -> None:
        self.scale = scale

    def score(self, groups):
        return [
            [tuple(1 / (1 + len(line) / self.scale) for line in response.text.splitlines()) for response in responses]
            for _, responses in groups
        ]
'''
RULE = '''
from mstar.selection import SelectionRule


class Worst(SelectionRule):
    """Keeps those with the lowest reward."""

    needs_reward = True

    def __init__(self, count: int = 1) -> None:
        self.count = count

    def keep(self, eligible, shuffled):
        return sorted(eligible, key=lambda scored: scored.process_reward)[: self.count]
'''


@pytest.fixture
def strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brevity_reward.py").write_text(REWARD)
    (tmp_path / "worst_rule.py").write_text(RULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("brevity_reward", "worst_rule"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def read(root: Path, iteration: int = 1) -> tuple[dict[str, list[ScoredResponse]], dict[str, Any]]:
    run = RunDirectory(root)
    rows: dict[str, list[ScoredResponse]] = defaultdict(list)
    for path in run.response_shards(iteration):
        for row in read_responses(path):
            if row.fate in (Fate.KEPT, Fate.NOT_SELECTED):
                rows[row.response.prompt_id].append(row)
    return rows, json.loads(run.report(iteration).read_text())


@pytest.mark.usefixtures("strangers")
def test_a_strangers_reward_and_rule_run_by_their_class_paths(evolve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    root = evolve(
        "--rollout.reward=brevity_reward.Brevity", "--rollout.reward.scale=30",
        "--rollout.selection=worst_rule.Worst", "--rollout.aggregation=mean", dynamics=False,
    )  # fmt: skip
    prompts, report = read(root)
    for rows in prompts.values():
        for row in rows:
            scores = [1 / (1 + len(line) / 30) for line in row.response.text.splitlines()]
            assert row.step_scores == pytest.approx(scores)
            assert row.process_reward == pytest.approx(sum(scores) / len(scores))
        [kept] = [row for row in rows if row.fate is Fate.KEPT]
        assert kept.process_reward == min(row.process_reward or 0 for row in rows)
    chosen = sum(len(rows) > 1 for rows in prompts.values())
    assert report["choice"] == {"prompts": chosen, "of": len(prompts)}
    assert f"a choice for {chosen} of {len(prompts)} prompts" in capsys.readouterr().err
    # An edited file, be it by a comment, is not what the run began with.
    file = evolve.folder / "brevity_reward.py"
    file.write_text(f"{REWARD}# Shorter is better.\n")
    _own_source.cache_clear()
    assert main(["fit", "--config", str(root / "config.yaml"), "--trainer.max_epochs=3"]) == 1
    told = capsys.readouterr().err
    assert "another configuration: the code of brevity_reward.Brevity was edited." in told
    assert f"delete '{root / 'code.json'}' to go on with it" in told
    file.write_text(REWARD)
    _own_source.cache_clear()
    scored = [row.step_scores for path in RunDirectory(root).response_shards(1) for row in read_responses(path)]
    scored = [scores for scores in scored if len(scores) > 1]
    worst = sum(scores.index(min(scores)) == len(scores) - 1 for scores in scored)
    assert report["min_on_answer_step"] == worst / len(scored)

    # Another scale is another reward: responses and verdicts are read, scores are not.
    again = evolve(
        name="again", dynamics=False, reuse=str(root), reward={"class_path": "brevity_reward.Brevity"},
        selection={"class_path": "worst_rule.Worst", "init_args": {"count": 2}},
    )  # fmt: skip
    others, report = read(again)
    assert report["reused"] == 16
    assert report["seconds"]["generate"] == 0
    assert {name: [row.response for row in rows] for name, rows in others.items()} == {
        name: [row.response for row in rows] for name, rows in prompts.items()
    }
    assert all(row.process_reward == min(row.step_scores) for rows in others.values() for row in rows)
    assert max(row.process_reward or 0 for rows in others.values() for row in rows) != max(
        row.process_reward or 0 for rows in prompts.values() for row in rows
    )


def test_the_likelihood_and_the_oracle_are_rewards_too(evolve: Any) -> None:
    likely, _ = read(
        evolve(name="likely", dynamics=False, selection="top_k", top_k=1, reward="mstar.rewards.Likelihood")
    )
    assert all(0 < (row.process_reward or 0) <= 1 for rows in likely.values() for row in rows)
    settings = evolve.settings("oracle", dynamics=False, selection="threshold", reward="mstar.rewards.Oracle")
    status = main(["fit", "--config", str(evolve.write(settings, "oracle"))])
    right, _ = read(evolve.folder / "oracle")
    rows = [row for found in right.values() for row in found]
    assert all((row.fate is Fate.KEPT) == row.chain_correct for row in rows)
    # A run that keeps nothing ends with an error.
    kept = [read(evolve.folder / "oracle", iteration)[1]["funnel"]["kept"] for iteration in (1, 2)]
    assert status == (0 if any(kept) else 1)


def test_a_rule_that_needs_a_reward_and_one_that_is_no_rule_are_refused(
    evolve: Any, strangers: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for flag, complaint in (
        ("--rollout.selection=worst_rule.Worst", "rollout.selection 'Worst' ranks by a reward"),
        ("--rollout.selection=best", "best"),
        ("--rollout.reward=mstar.grading.AnswerGrader", "does not correspond to a subclass of Reward"),
    ):
        with pytest.raises((SystemExit, AssertionError)):
            evolve(flag)
        assert complaint in capsys.readouterr().err
