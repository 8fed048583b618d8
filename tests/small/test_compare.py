"""The table of the experiment: paired differences, kinds of question, and how rewards rank right answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from mstar.errors import ConfigError
from mstar.prompts import Charts
from mstar.small.compare import measure_ranking, write_comparison
from mstar.storage import PromptResponses, RunDirectory, read_json, write_json, write_responses
from mstar.types import Prompt, Response, ScoredResponse, Verdict, VerdictStatus


def respond(
    prompt: Prompt, index: int, right: bool, chain: bool, reward: float | None, logprob: float
) -> ScoredResponse:
    return ScoredResponse(
        Response(prompt.id, index, f"text {index}", 1, True, 1.0, logprob),
        Verdict(right, "7", VerdictStatus.GRADED),
        process_reward=reward,
        chain_correct=chain,
    )


def write_tested(root: Path, seed: int, arms: dict[str, list[tuple[bool, bool]]]) -> None:
    """A seed whose arms answered so: (right, chain right) of every chart."""
    charts = list(Charts("test", 4))
    stages: dict[str, object] = {}
    for arm, answers in arms.items():
        groups = [
            PromptResponses(chart, (respond(chart, 0, *answer, None, -1.0),))
            for chart, answer in zip(charts, answers, strict=True)
        ]
        write_responses(root / f"seed-{seed}/test/{arm}/predictions.parquet", groups)
        stages |= {name: {"seconds": 9, "cpu_seconds": 60, "result": {}} for name in (arm, f"test {arm}")}
    write_json(root / f"seed-{seed}/stages.json", {"seed": seed, "stages": stages})


def test_the_table_has_what_is_tested(tmp_path: Path) -> None:
    yes, lucky, no = (True, True), (True, False), (False, False)
    write_tested(tmp_path, 0, {"warmup": [yes, no, no, no], "mprm_top_1": [yes, yes, lucky, no]})
    write_tested(tmp_path, 1, {"warmup": [yes, yes, no, no]})
    text = write_comparison(tmp_path)
    assert (tmp_path / "table.md").read_text() == text
    lines = text.splitlines()
    assert lines[0] == "| arm | seed 0 | seed 1 | CPU-s |"
    assert lines[2:4] == [
        "| warmup | 25.0 / 25.0 (0) | 50.0 / 50.0 (0) | 120 |",
        "| mprm_top_1 | 75.0 / 50.0 (33) |  | 120 |",
    ]
    # One seed has both: 2 of 4 differ in the answer, 1 of 4 in the chain. 1.96 x sqrt(1/3 / 4) and sqrt(1/4 / 4).
    assert "| mprm_top_1 less warmup | +50.0 ± 56.6 | +25.0 ± 49.0 | 1 |" in lines
    kinds = next(line for line in lines if line.startswith("| arm | total"))
    assert kinds == "| arm | total | difference | more | tallest | range | count |"
    found = read_json(tmp_path / "table.json")
    assert found["arms"]["warmup"]["1"] == {"accuracy": 0.5, "chain_accuracy": 0.5}
    assert found["ranking"] == {}


def test_seeds_of_other_models_are_no_one_table(tmp_path: Path) -> None:
    for seed, model in ((0, None), (1, "other/model")):
        write_tested(tmp_path, seed, {"warmup": [(True, True)] * 4})
        write_json(tmp_path / f"seed-{seed}/manifest.json", {"model": model, "numbers": "float32"})
    with pytest.raises(ConfigError, match=r"seed-0' and '.*seed-1' cannot be in one table: model not set \(now other"):
        write_comparison(tmp_path)


def test_ranking_compares_right_answers_of_one_prompt(tmp_path: Path) -> None:
    both, alike, wrong = Charts("pool", 3)
    groups = [
        PromptResponses(
            both,
            (
                respond(both, 0, True, True, 0.9, -3.0),
                respond(both, 1, True, False, 0.2, -1.0),
                respond(both, 2, True, True, 0.8, -0.5),
                respond(both, 3, False, False, None, -0.1),
            ),
        ),
        PromptResponses(alike, (respond(alike, 0, True, True, 0.1, -1.0), respond(alike, 1, True, True, 0.3, -2.0))),
        PromptResponses(wrong, (respond(wrong, 0, False, False, None, -1.0),)),
    ]
    write_responses(RunDirectory(tmp_path).responses(1, 0), groups)
    # Of five right answers four have right chains; one prompt has both kinds, which the MPRM tells apart, and the
    # likelihood in one of two pairs. A standard error needs two such prompts.
    ranking = measure_ranking(tmp_path)
    assert ranking is not None
    assert (ranking.prompts, ranking.right, ranking.right_chains) == (3, 5, 0.8)
    quality = ranking.quality
    found = (quality.compared_correct, quality.auc_within_correct, quality.likelihood_auc_within_correct)
    assert (*found, quality.likelihood_lead, quality.likelihood_lead_error) == (1, 1.0, 0.5, None, None)
    assert measure_ranking(tmp_path / "elsewhere") is None
