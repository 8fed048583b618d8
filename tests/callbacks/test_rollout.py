"""The rollout callback by itself; whole fits with it are in tests/integration."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from mstar.callbacks import ExportCallback, RewardModelRefresh, RolloutCallback, rollout
from mstar.datamodules import PolicyDataModule
from mstar.errors import ConfigError
from mstar.generation import Engine, Request, TransformersEngine
from mstar.modules import PolicyModule
from mstar.prompts import TinyDice
from mstar.rendering import Renderer
from mstar.rewards import MPRM, Likelihood
from mstar.storage import RunDirectory, write_json
from mstar.temperature import AdaptiveTemperature
from mstar.types import Response


def trainer() -> Trainer:
    return Trainer(accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, barebones=True)


def data() -> PolicyDataModule:
    return PolicyDataModule(TinyDice("pool", 4), validation=TinyDice("validation", 4))


def test_the_seed_is_the_runs_unless_it_is_given() -> None:
    torch.manual_seed(17)
    assert RolloutCallback(selection="random").settings.seed == 17
    assert RolloutCallback(selection="random", seed=3).settings.seed == 3
    assert RolloutCallback(selection="random", seed=3).settings.selector.seed == 3


def test_its_state_is_made_of_primitives_and_is_read_back(tmp_path: Path) -> None:
    callback = RolloutCallback(selection="random", temperature=AdaptiveTemperature(), seed=1)
    callback.settings.controller.update({(0.7, 2): 1.0}, (1.0, 2))
    torch.save(callback.state_dict(), tmp_path / "state.pt")
    other = RolloutCallback(selection="random", temperature=AdaptiveTemperature(), seed=1)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.settings.controller.current == 0.7
    assert other.state_dict() == callback.state_dict()
    # Of an older version's checkpoint that a policy is tested with, it takes nothing.
    older = {name: value for name, value in callback.state_dict().items() if name != "unwatched"}
    other.load_state_dict(older | {"temperature": {"current": 0.5}})
    assert other.state_dict() == callback.state_dict()


def test_a_fit_does_not_go_on_from_a_state_of_another_seed() -> None:
    callback = RolloutCallback(selection="random", seed=2)
    checkpoint = {"callbacks": {callback.state_key: RolloutCallback(selection="random", seed=1).state_dict()}}
    policy, fitting = PolicyModule("mstar/tiny-idefics3"), trainer()
    # Reading it alone is fine: a policy can be tested with any seed.
    callback.on_load_checkpoint(fitting, policy, checkpoint)
    fitting.state.fn = TrainerFn.FITTING
    with pytest.raises(ConfigError, match=r"rollout\.seed is 2, but the checkpoint was made with 1"):
        callback.on_load_checkpoint(fitting, policy, checkpoint)


def test_a_run_does_not_go_on_from_a_checkpoint_of_another_one(tmp_path: Path) -> None:
    callback = RolloutCallback(selection="random", seed=1)
    state = callback.state_dict() | {"iteration": 1}
    fitting = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_model_summary=False)
    fitting.state.fn = TrainerFn.FITTING
    checkpoint = {"callbacks": {callback.state_key: state}, "global_step": 3}
    policy = PolicyModule("mstar/tiny-idefics3")
    with pytest.raises(
        ConfigError, match=r"has no iteration 1, which .* or export it \(mstar export\) and start a new"
    ):
        callback.on_load_checkpoint(fitting, policy, checkpoint)
    write_json(RunDirectory(tmp_path).report(1), {})
    callback.on_load_checkpoint(fitting, policy, checkpoint)


def test_a_run_does_not_go_on_from_a_checkpoint_of_an_older_version() -> None:
    callback = RolloutCallback(selection="random", seed=1)
    state = callback.state_dict()
    state["refreshed_reward_model"] = state.pop("refreshed")
    fitting = trainer()
    fitting.state.fn = TrainerFn.FITTING
    with pytest.raises(
        ConfigError, match=r"is an older version's, .*: export it \(mstar export\), and start a new run"
    ):
        callback.on_load_checkpoint(
            fitting, PolicyModule("mstar/tiny-idefics3"), {"callbacks": {callback.state_key: state}}
        )


@pytest.mark.parametrize(("elsewhere", "closed"), [(True, 1), (False, 0)])
def test_of_several_processes_a_stop_leaves_nothing_on_servers(
    elsewhere: bool, closed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning calls no teardown after an exception; closing an engine of several processes here may wait for them."""
    engine = TransformersEngine()
    engine.elsewhere, ends = elsewhere, list[int]()
    monkeypatch.setattr(engine, "close", lambda: ends.append(1))
    monkeypatch.setattr(rollout, "world_size", lambda: 2)
    callback = RolloutCallback(selection="random", engine=engine)
    callback.on_exception(trainer(), PolicyModule("mstar/tiny-idefics3"), KeyboardInterrupt())
    assert len(ends) == closed


def test_a_folder_to_read_from_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    iterations = tmp_path / "run/iterations"
    (iterations / "0001").mkdir(parents=True)
    (iterations / "0001/plan.json").touch()
    missing, within = "there is no folder '%s', so", "'%s' lies within a run, so"
    for folder, told in (
        *((tmp_path, ""), (tmp_path / "run", ""), (tmp_path / "no", missing)),
        *((iterations, within), (iterations / "0001", within)),
    ):
        callback = RolloutCallback(selection="random", reuse=str(folder))
        callback.check(trainer(), PolicyModule("mstar/tiny-idefics3"), PolicyDataModule(TinyDice("pool", 4)))
        said = capsys.readouterr().err
        assert [words % folder in said for words in (missing, within)] == [told is missing, told is within]


@pytest.mark.parametrize(
    ("module", "datamodule", "complaint"),
    [
        (BoringModel, data, "rollout trains a PolicyModule, but model is BoringModel"),
        (lambda: PolicyModule("mstar/tiny-idefics3"), BoringDataModule, "but data is BoringDataModule"),
        (lambda: PolicyModule("mstar/tiny-idefics3"), lambda: None, "but data is NoneType"),
    ],
)
def test_other_modules_are_refused(module: Any, datamodule: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        RolloutCallback(selection="random").check(trainer(), module(), datamodule())


def test_the_check_reads_no_weights_of_the_mprm(warm_mprm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MPRM, "open", lambda *_, **__: pytest.fail("the MPRM was loaded"))
    callback = RolloutCallback(reward_model=str(warm_mprm))
    for _ in range(2):
        callback.check(trainer(), PolicyModule("mstar/tiny-idefics3"), data())
    assert callback.settings.ready_reward is None


def test_the_check_finds_an_mprm_that_lacks_its_weights(warm_mprm: Path, tmp_path: Path) -> None:
    shutil.copytree(warm_mprm, tmp_path / "mprm")
    (tmp_path / "mprm/model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"lacks its file model\.safetensors"):
        RolloutCallback(reward_model=str(tmp_path / "mprm")).check(
            trainer(), PolicyModule("mstar/tiny-idefics3"), data()
        )


def test_only_an_mprm_is_retrained_and_a_folder_is_short_for_one(warm_mprm: Path) -> None:
    refresh = RewardModelRefresh([2], TinyDice("refresh", 4))
    with pytest.raises(ConfigError, match=r"retrains an MPRM, but rollout\.reward is Likelihood"):
        RolloutCallback(reward=Likelihood(), refresh_reward_model=refresh)
    with pytest.raises(ConfigError, match="set one of the two"):
        RolloutCallback(reward=Likelihood(), reward_model=str(warm_mprm))
    short = RolloutCallback(reward_model=str(warm_mprm), reward_batch_size=5, aggregation="mean").settings.reward
    assert isinstance(short, MPRM)
    assert (short.folder, short.batch_size, short.aggregation) == (str(warm_mprm), 5, "mean")
    with pytest.raises(ConfigError, match=r"neither rollout\.reward_model is set"):
        RolloutCallback(refresh_reward_model=refresh)
    # The first iterations go without one, until it is trained.
    waiting = RolloutCallback(selection="random", refresh_reward_model=refresh).settings
    assert waiting.reward is not None
    assert waiting.ready_reward is None


class Gold(Engine):
    """Writes the gold answer."""

    max_new_tokens = 40

    def start(self, policy: nn.Module, renderer: Renderer) -> None: ...

    def update_weights(self, policy: nn.Module) -> None: ...

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        return [
            [
                Response(
                    prompt_id=request.prompt.id, sample_index=sample.index, text=f"Answer: {request.prompt.answer}",
                    temperature=sample.temperature, logprob=-1.0, num_tokens=4, finished=True,
                )
                for sample in request.samples
            ]
            for request in requests
        ]  # fmt: skip


def test_a_callback_serves_two_trainers_and_its_data_a_validation(tmp_path: Path) -> None:
    callback = RolloutCallback(num_samples=2, interval=0.5, selection="random", engine=Gold(), seed=0)
    for name, epochs in (("first", 2), ("second", 1)):
        fitting = Trainer(
            accelerator="cpu", max_epochs=epochs, callbacks=[callback], default_root_dir=tmp_path / name, logger=False,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        )  # fmt: skip
        policy, prompts = PolicyModule("mstar/tiny-idefics3", lr=1e-3), data()
        fitting.fit(policy, datamodule=prompts)
        assert RunDirectory(tmp_path / name).iterations == list(range(epochs + 1))
    # The examples of the last iteration are still the training data.
    [found] = fitting.validate(policy, datamodule=prompts, verbose=False)
    assert found["val/accuracy"] == 1.0


def test_who_watches_an_iteration_comes_after_the_callback() -> None:
    callback, best = RolloutCallback(selection="random", seed=0), ExportCallback(export_best=True)
    for callbacks in ([callback, best], [best, callback]):
        fitting = Trainer(accelerator="cpu", max_epochs=2, callbacks=callbacks, logger=False)
        policy = PolicyModule("mstar/tiny-idefics3")
        if callbacks[0] is callback:
            callback.check(fitting, policy, data())
            callback._checked = False
            continue
        with pytest.raises(ConfigError, match=r"ExportCallback in trainer\.callbacks looks at an iteration before"):
            callback.check(fitting, policy, data())
