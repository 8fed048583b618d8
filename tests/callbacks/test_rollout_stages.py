"""What an iteration's shards belong to; whole iterations are in tests/iteration and tests/integration."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

import mstar.callbacks.rollout_stages
from mstar.callbacks import IterationCheckpoint, RolloutCallback
from mstar.callbacks.rollout_stages import RolloutStages
from mstar.datamodules import PolicyDataModule
from mstar.evaluation.dynamics import Sweep
from mstar.generation import TransformersEngine
from mstar.grading import AnswerGrader
from mstar.modules import PolicyModule
from mstar.prompts import MixedPrompts, TinyDice
from mstar.rewards import Oracle
from mstar.storage import RunDirectory
from mstar.temperature import AdaptiveTemperature


class Quantized(TransformersEngine):
    """An engine whose weights may be quantized."""

    def __init__(self, quantization: str = "none", batch_size: int = 64) -> None:
        super().__init__(batch_size=batch_size)
        self.quantization = quantization


class Strict(AnswerGrader):
    """A grader with a setting."""

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({}, True),
        ({"engine": Quantized(batch_size=2)}, True),
        ({"engine": Quantized("int8")}, False),
        ({"grader": Strict(True)}, False),
        ({"dtype": "bfloat16"}, False),
    ],
)
def test_shards_of_other_settings_are_not_gone_on_with(
    tmp_path: Path, changed: dict[str, Any], kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first checkpoint, when a changed configuration is not refused."""
    monkeypatch.setattr(mstar.callbacks.rollout_stages, "run_iteration", lambda *_, before: None)
    # Weights that all types can hold: their hash is the same.
    monkeypatch.setattr(mstar.callbacks.rollout_stages, "fingerprint_model", lambda _: "abc")
    trainer: Any = SimpleNamespace(default_root_dir=str(tmp_path), max_epochs=1)
    for settings in ({}, changed):
        given = {"engine": Quantized(), "grader": Strict(), "dtype": "float32", **settings}
        policy = PolicyModule("mstar/tiny-idefics3", dtype=given.pop("dtype"))
        policy.configure_model()
        rollout = RolloutCallback(selection="random", seed=0, **given)
        data = PolicyDataModule(TinyDice("pool", 4))
        data.trainer = SimpleNamespace(lightning_module=policy)  # type: ignore[assignment]
        RolloutStages(rollout.settings, trainer, policy, data).run_iteration(1)
    assert (tmp_path / "iterations/0001.old-1").exists() != kept
    assert RunDirectory(tmp_path).plan(1).is_file()


def test_an_interrupted_iteration_goes_on_at_the_temperature_that_its_sweep_chose(
    tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made again, equal but for rounding, the sweep would choose another one of two that are all but equal."""
    measured: list[str] = []

    def sweep(*_: Any, candidates: Any, **__: Any) -> Sweep:
        measured.append("once more")
        scores = {0.5: 0.1, 1.0: 0.2, 1.5: 0.3} if len(measured) == 1 else {0.5: 0.3, 1.0: 0.2, 1.5: 0.1}
        return Sweep({t: {"reward_pass@2": (scores[t], 1 / 3)} for t in candidates})

    monkeypatch.setattr(mstar.callbacks.rollout_stages, "sweep", sweep)
    weights = ["abc"]
    monkeypatch.setattr(mstar.callbacks.rollout_stages, "fingerprint_model", lambda _: weights[0])
    fit: Any = SimpleNamespace(max_epochs=4, lightning_module=SimpleNamespace(renderer=tiny.renderer))
    fit.default_root_dir, fit.current_epoch, fit.fast_dev_run = str(tmp_path), 2, False

    def choose(**changed: Any) -> dict[str, Any]:
        policy = PolicyModule("mstar/tiny-idefics3")
        policy.configure_model()
        temperature = AdaptiveTemperature(minimum=0.5, maximum=1.5, step=0.5, margin=0.0)
        rollout = RolloutCallback(reward=Oracle(), seed=0, temperature=temperature, **changed)
        data = PolicyDataModule(TinyDice("pool", 4), validation=TinyDice("validation", 2))
        data.trainer = fit
        found = RolloutStages(rollout.settings, fit, policy, data).choose_temperature(3)
        assert rollout.settings.controller.current == found["chosen"]
        return found

    first = choose()
    assert first["chosen"] == 1.5
    assert choose() == choose(engine=TransformersEngine(batch_size=2)) == first
    assert len(measured) == 1
    # By another policy or grader it is measured anew, and that is then what is gone on with.
    weights[0] = "def"
    assert choose()["chosen"] == choose()["chosen"] == 0.5
    assert len(measured) == 2
    choose(grader=Strict(True))
    assert len(measured) == 3


@pytest.mark.parametrize(
    ("method", "keep", "examples"),
    [
        ("iterative_rft", 1, [1, 2, 3, 4, 5]),
        ("grpo", 1, [4, 5]),
        ("grpo", 3, [3, 4, 5]),
        ("grpo", None, [1, 2, 3, 4, 5]),
    ],
)
def test_examples_with_tokens_go_with_the_responses_unless_a_checkpoint_may_need_them(
    tmp_path: Path, method: str, keep: int | None, examples: list[int]
) -> None:
    run = RunDirectory(tmp_path)
    for number in range(1, 6):
        for path in (run.responses(number, 0), run.examples(number), run.report(number)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
    trainer = Mock(default_root_dir=str(tmp_path), current_epoch=4, checkpoint_callbacks=[IterationCheckpoint()])
    RolloutStages.drop_old(Mock(settings=Mock(method=method, keep_iterations=keep), run=run, trainer=trainer))
    numbers = range(1, 6)
    assert [n for n in numbers if run.examples(n).exists()] == examples
    assert [n for n in numbers if run.responses(n, 0).exists()] == [n for n in numbers if n > 5 - (keep or 5)]
    assert all(run.report(n).exists() for n in numbers)


def test_an_iteration_takes_prompts_from_their_sources_by_weight() -> None:
    sources = [TinyDice("pool", 6), TinyDice("pool", 6, seed=1)]
    rollout = RolloutCallback(selection="random", interval=1 / 3, seed=0)
    fit: Any = SimpleNamespace(max_epochs=1)
    data = PolicyDataModule(MixedPrompts(sources, [1, 3]))
    stages = RolloutStages(rollout.settings, fit, PolicyModule("mstar/tiny-idefics3"), data)
    for iteration in (1, 2):
        chosen = {prompt.id for prompt in stages.find_prompts(iteration).labelled}
        assert [len(chosen & {prompt.id for prompt in source}) for source in sources] == [1, 3]


def test_a_fast_dev_run_draws_responses_to_a_handful_of_prompts(tiny: Any) -> None:
    rollout = RolloutCallback(selection="random", interval=0.5, seed=0)
    data = PolicyDataModule(TinyDice("pool", 64), validation=TinyDice("validation", 20), batch_size=4)
    fit: Any = SimpleNamespace(max_epochs=1, lightning_module=SimpleNamespace(renderer=tiny.renderer))
    fit.default_root_dir, fit.current_epoch = "", 0
    data.trainer = fit
    stages = RolloutStages(rollout.settings, fit, PolicyModule("mstar/tiny-idefics3"), data)
    for batches, counts in ((True, (8, 8)), (3, (12, 12)), (False, (32, 20))):
        fit.fast_dev_run = batches
        assert (len(stages.find_prompts(1).labelled), len(data.held_out())) == counts
