"""The process reward: probabilities per step, whatever the batching; equal responses scored once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from mstar.errors import ConfigError
from mstar.models.backbone import EMBEDDED_MODEL, load_model, load_renderer
from mstar.models.step_scorer import StepScorer
from mstar.prompts import TinyDice
from mstar.rendering import Renderer
from mstar.rewards import ProcessReward, process_reward
from mstar.types import Prompt

TEXTS = ["red = 4\nblue = 5\nAnswer: 9", "red = 4\nAnswer: 1", "Answer: 2", "red is 7\nblue is 1\n7 + 1 = 8\nAnswer: 8"]


class CountingScorer(StepScorer):
    """Remembers what it was asked to score."""

    def score(
        self, renderer: Renderer, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> list[list[tuple[float, ...]]]:
        self.calls.append([list(texts) for texts in responses])
        return super().score(renderer, prompts, responses)


@pytest.fixture
def scorer() -> CountingScorer:
    made = CountingScorer(load_model(EMBEDDED_MODEL, seed=1))
    torch.nn.init.normal_(made.head.output.weight, generator=torch.Generator().manual_seed(0))
    made.calls = []
    return made


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return load_renderer(EMBEDDED_MODEL, load_model(EMBEDDED_MODEL))


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return list(TinyDice("validation", 3))


def test_scores_are_the_probabilities_of_the_logits(
    scorer: CountingScorer, renderer: Renderer, prompts: list[Prompt]
) -> None:
    [[scores]] = ProcessReward(scorer, renderer, progress=False).score([(prompts[0], TEXTS[:1])])
    steps = scorer.eval()(renderer.response_inputs(prompts[:1], TEXTS[:1]))
    assert scores == pytest.approx(steps.logits_N.sigmoid().tolist(), abs=1e-5)
    assert process_reward(scores) == min(scores)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batches_do_not_change_the_scores(
    scorer: CountingScorer, renderer: Renderer, prompts: list[Prompt], batch_size: int
) -> None:
    groups = [(prompts[0], TEXTS), (prompts[1], []), (prompts[2], TEXTS[:2])]
    scored = ProcessReward(scorer, renderer, batch_size, progress=False).score(groups)
    assert [len(rows) for rows in scored] == [4, 0, 2]
    assert max(sum(map(len, call)) for call in scorer.calls) <= batch_size
    for (prompt, texts), rows in zip(groups, scored, strict=True):
        for text, row in zip(texts, rows, strict=True):
            alone = scorer(renderer.response_inputs([prompt], [text])).logits_N.sigmoid().tolist()
            assert row == pytest.approx(alone, abs=1e-4)


def test_equal_responses_are_scored_once_and_blank_ones_never(
    scorer: CountingScorer, renderer: Renderer, prompts: list[Prompt]
) -> None:
    texts = [TEXTS[0], "", TEXTS[1], TEXTS[0], " \n"]
    [scored] = ProcessReward(scorer, renderer, progress=False).score([(prompts[0], texts)])
    assert scorer.calls == [[[TEXTS[0], TEXTS[1]]]]
    assert scored[0] == scored[3]
    assert scored[1] == scored[4] == ()
    assert process_reward(scored[1]) == 0.0


def test_nothing_to_score(scorer: CountingScorer, renderer: Renderer, prompts: list[Prompt]) -> None:
    assert ProcessReward(scorer, renderer, progress=False).score([(prompts[0], [""]), (prompts[1], [])]) == [[()], []]
    assert scorer.calls == []


def test_a_loaded_mprm_scores_as_the_saved_one(
    scorer: CountingScorer, renderer: Renderer, prompts: list[Prompt], tmp_path: Path
) -> None:
    scorer.save(tmp_path, renderer)
    groups = [(prompt, TEXTS) for prompt in prompts]
    loaded = ProcessReward.load(tmp_path, "cpu", 5, progress=False)
    assert loaded.score(groups) == ProcessReward(scorer, renderer, 5, progress=False).score(groups)


def test_a_batch_of_nothing_is_refused(scorer: CountingScorer, renderer: Renderer) -> None:
    with pytest.raises(ConfigError, match="batch_size is 0"):
        ProcessReward(scorer, renderer, 0)
