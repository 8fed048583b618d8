"""The implicit process reward: it learns from outcomes alone, and scores steps by what they add."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from mstar.__main__ import main
from mstar.annotation.label_table import load_step_labels
from mstar.datamodules.step_label_batches import collate_step_labels
from mstar.errors import ConfigError
from mstar.models.backbone import load_model, load_renderer
from mstar.models.export import save_model
from mstar.models.implicit_scorer import step_logprobs
from mstar.modules import ImplicitRewardModule
from mstar.prompts import TinyDice
from mstar.rewards import Implicit, RewardHost
from mstar.steps import split_steps
from mstar.storage import write_step_labels
from mstar.types import Prompt, Response, StepLabels

CONFIG = Path(__file__).parents[2] / "configs/tiny/implicit.yaml"
PROMPTS = list(TinyDice("annotation", 8))


def wrong(text: str) -> str:
    """The same with another number in its first step."""
    place = next(i for i, letter in enumerate(text) if letter.isdigit())
    return f"{text[:place]}{9 - int(text[place])}{text[place + 1 :]}"


PAIRS = [(prompt, prompt.reference_responses[0]) for prompt in PROMPTS]


def test_it_starts_at_even_odds_for_every_response_cut_off_or_not(tiny_folder: str, tmp_path: Path) -> None:
    module = ImplicitRewardModule(tiny_folder)
    module.configure_model()
    prompt, text = PAIRS[0]
    with torch.no_grad():
        batch = module.renderer.response_inputs([prompt], [text])
        whole = [step_logprobs(module.model, batch, [ended]).logits_N.sum().item() for ended in (True, False)]
    assert abs(whole[0] - whole[1]) > 0.01
    steps = tuple(split_steps(text))
    none = (0,) * len(steps)
    rows = [
        StepLabels(prompt.id, text, steps, none, none, ended, logprob, finished=ended)
        for ended, logprob in zip((True, False), whole, strict=True)
    ]
    write_step_labels(tmp_path / "labels-00000.parquet", rows)
    kept = list(load_step_labels(tmp_path))
    assert kept == rows
    with torch.no_grad():
        reward_B, _ = module.rewards(collate_step_labels(kept, {0: prompt}, [0, 0], module.renderer))
    torch.testing.assert_close(reward_B, torch.zeros(2), atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def tiny_folder(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("policy")
    save_model(tiny.model, tiny.renderer, path)
    return str(path)


def write_labels(folder: Path, tiny_folder: str, known: bool = True) -> None:
    model = load_model(tiny_folder)
    renderer = load_renderer(tiny_folder, model)
    rows = []
    for prompt, right in PAIRS:
        for text in (right, wrong(right)):
            with torch.no_grad():
                logprob = step_logprobs(model, renderer.response_inputs([prompt], [text])).logits_N.sum().item()
            steps = tuple(split_steps(text))
            # No step is labelled.
            none = (0,) * len(steps)
            rows.append(StepLabels(prompt.id, text, steps, none, none, text == right, logprob if known else None))
    write_step_labels(folder / "labels-00000.parquet", rows)


def fit(tmp_path: Path, tiny_folder: str, *more: str) -> int:
    return main(
        [
            "fit", f"--config={CONFIG}", f"--model.model_name={tiny_folder}", f"--data.labels={tmp_path / 'labels'}",
            "--data.prompts.size=8", "--data.batch_size=8", "--data.validation_share=0", "--model.lr=2e-3",
            "--model.lr_scheduler=null", f"--trainer.default_root_dir={tmp_path}", "--trainer.max_epochs=6",
            "--trainer.enable_progress_bar=false", *more,
        ]
    )  # fmt: skip


def test_it_learns_to_rank_by_outcomes_and_scores_by_steps(tiny_folder: str, tmp_path: Path) -> None:
    write_labels(tmp_path / "labels", tiny_folder)
    assert fit(tmp_path, tiny_folder) == 0
    reward = Implicit(str(tmp_path / "policy"), tiny_folder)
    reward.check()
    reward.load(RewardHost())

    def respond(prompt: Prompt, text: str) -> Response:
        return Response(prompt.id, 0, text, 1, True, 1.0, math.nan)

    groups = [(prompt, [respond(prompt, right), respond(prompt, wrong(right))]) for prompt, right in PAIRS]
    scores = reward.score(groups)
    assert [len(rows[0]) for rows in scores] == [len(split_steps(right)) for _, right in PAIRS]
    ranked = [sum(math.log(p / (1 - p)) for p in row) for rows in scores for row in rows]
    assert all(right > other for right, other in zip(ranked[::2], ranked[1::2], strict=True))


def test_what_cannot_work_is_said(tiny_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="beta is 0"):
        ImplicitRewardModule(tiny_folder, beta=0)
    with pytest.raises(ConfigError, match=r"needs a policy in '.*nowhere'"):
        Implicit(tiny_folder, str(tmp_path / "nowhere")).check()
    write_labels(tmp_path / "labels", tiny_folder, known=False)
    assert fit(tmp_path, tiny_folder) == 1
    assert "log-probability of the policy that drew them" in capsys.readouterr().err
