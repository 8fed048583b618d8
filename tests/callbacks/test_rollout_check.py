"""Prompts are checked before a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from lightning.pytorch import Trainer

from mstar.callbacks import RolloutCallback
from mstar.datamodules import PolicyDataModule
from mstar.errors import ConfigError, DataError
from mstar.generation import TransformersEngine
from mstar.models.lora import LoraSettings
from mstar.modules import PolicyModule
from mstar.prompts import TinyDice
from mstar.rewards import Likelihood, Oracle
from mstar.selection import All, Mixed, SelectionRule
from mstar.temperature import AdaptiveTemperature, Pair, TemperatureController
from mstar.types import Prompt


class Listed(TinyDice):
    def __init__(self, prompts: list[Prompt]) -> None:
        super().__init__("pool", 1)
        self.prompts = prompts
        self.size = len(prompts)

    def __getitem__(self, index: int) -> Prompt:
        return self.prompts[index]


class Silent(TransformersEngine):
    logprobs = False


def check(callback: RolloutCallback, data: PolicyDataModule) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=1)
    callback.check(trainer, PolicyModule("mstar/tiny-idefics3"), data)


@pytest.mark.parametrize(
    ("callback", "named"),
    [
        (RolloutCallback(selection="likelihood", engine=Silent()), "rollout.selection"),
        (RolloutCallback(selection="mixed", reward=Oracle(), engine=Silent()), "rollout.selection"),
        (RolloutCallback(reward=Likelihood(), engine=Silent()), "rollout.reward Likelihood"),
        (RolloutCallback(method="grpo", engine=Silent()), "rollout.method 'grpo'"),
    ],
)
def test_what_reads_log_probabilities_needs_an_engine_that_gives_them(callback: RolloutCallback, named: str) -> None:
    with pytest.raises(ConfigError, match=f"{named} reads log-probabilities, which Silent does not give"):
        check(callback, PolicyDataModule(TinyDice("pool", 4)))
    check(RolloutCallback(selection="random", engine=Silent()), PolicyDataModule(TinyDice("pool", 4)))


@pytest.mark.parametrize(
    ("callback", "named"),
    [
        (RolloutCallback(selection="oracle"), "rollout.selection"),
        (RolloutCallback(selection="oracle", unlabelled="oracle"), "rollout.selection"),
        (RolloutCallback(reward=Oracle()), "rollout.reward Oracle"),
    ],
)
def test_the_oracle_needs_data_that_knows_the_right_chains(callback: RolloutCallback, named: str) -> None:
    known, unknown = TinyDice("pool", 4), Listed([Prompt("x", "?", answer="1")])
    voted = callback.settings.unlabelled != "off"
    data = PolicyDataModule(known, unlabelled=unknown) if voted else PolicyDataModule(unknown)
    with pytest.raises(ConfigError, match=f"{named} needs data with known right chains, which prompt 'x' of data"):
        check(callback, data)
    again = RolloutCallback(selection="oracle")
    check(again, PolicyDataModule(known, unlabelled=unknown))


def test_a_vote_needs_prompts() -> None:
    with pytest.raises(DataError, match=r"data\.unlabelled has no prompts, so there is nothing to vote on"):
        check(
            RolloutCallback(selection="random", unlabelled="voting"),
            PolicyDataModule(TinyDice("pool", 4), unlabelled=Listed([])),
        )


@pytest.mark.parametrize("unlabelled", ["voting", "oracle"])
def test_no_prompt_is_labelled_and_unlabelled(unlabelled: Any) -> None:
    labelled, others = ([Prompt(name, "?", answer="1") for name in names] for names in ("ab", "cb"))
    callback = RolloutCallback(selection="random", unlabelled=unlabelled)
    with pytest.raises(DataError, match=r"data\.unlabelled: row 1 has the prompt id 'b'"):
        check(callback, PolicyDataModule(Listed(labelled), unlabelled=Listed(others)))


@pytest.mark.parametrize(
    ("rule", "top_k", "warned"), [(Mixed(), 4, True), (Mixed(4), 4, False), (Mixed(4), 2, False), (All(), 4, False)]
)
def test_a_rule_by_its_class_path_does_not_read_top_k_which_is_said(
    rule: SelectionRule, top_k: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    callback = RolloutCallback(selection=rule, top_k=top_k, reward=Oracle())
    check(callback, PolicyDataModule(TinyDice("pool", 4)))
    assert ("rollout.top_k is 4, but a rule that is given by its class path has its own" in caplog.text) is warned


class Forgetful(TemperatureController):
    """Learns, and keeps nothing of it."""

    now = 1.0

    @property
    def current(self) -> float:
        """What the last sweep came to."""
        return self.now

    def update(self, scores: Mapping[Pair, float], current: Pair, errors: Mapping[Pair, float] | None = None) -> Pair:
        """The lowest."""
        self.now = min(scores)[0]
        return min(scores)


class Mindful(Forgetful):
    """Keeps it."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on."""
        self.now = state["temperature"]


def test_a_temperature_that_would_forget_what_it_learned_is_refused() -> None:
    data = PolicyDataModule(TinyDice("pool", 4))
    for controller in (Mindful(), AdaptiveTemperature(minimum=1.0, maximum=1.0)):
        check(RolloutCallback(selection="random", temperature=controller), data)
    with pytest.raises(ConfigError, match=r"rollout\.temperature 'Forgetful' learns in update, but a run that goes on"):
        check(RolloutCallback(selection="random", temperature=Forgetful()), data)


@pytest.mark.parametrize(("interval", "warned"), [(0.5, True), (1.0, False)])
def test_rest_em_on_a_part_of_the_prompts_is_none(
    interval: float, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    callback = RolloutCallback(selection="random", method="rest_em", interval=interval)
    check(callback, PolicyDataModule(TinyDice("pool", 4)))
    assert ("takes all of them in each" in caplog.text) is warned


@pytest.mark.parametrize(
    ("method", "adapters", "precision", "quantization", "warned"),
    [
        ("grpo", "merged", "bf16-mixed", "none", True),
        ("grpo", "merged", "32-true", "none", False),
        ("grpo", "merged", "bf16-mixed", "nf4", False),
        ("grpo", "apart", "bf16-mixed", "none", False),
        ("rest_em", "merged", "bf16-mixed", "none", False),
    ],
)
def test_samples_of_rounded_adapters_are_said(
    method: Any, adapters: Any, precision: Any, quantization: Any, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    engine = TransformersEngine(adapters=adapters)
    callback = RolloutCallback(method=method, engine=engine, **({"selection": "random"} if method == "rest_em" else {}))
    policy = PolicyModule("mstar/tiny-idefics3", lora=LoraSettings(quantization=quantization))
    trainer = Trainer(accelerator="cpu", precision=precision, logger=False, enable_checkpointing=False, max_epochs=1)
    callback.check(trainer, policy, PolicyDataModule(TinyDice("pool", 4)))
    assert ("set rollout.engine.init_args.adapters to apart" in caplog.text) is warned


@pytest.mark.parametrize(
    ("size", "processes", "group_size", "better"),
    [
        # 500 prompts in 20 shards.
        (26, 32, 1, 16),
        (16, 32, 1, None),
        (26, 32, 4, 21),
        (21, 32, 4, None),
        (26, 1, 1, None),
        # It is as even as it can be.
        (1, 400, 1, None),
    ],
)
def test_a_size_of_shards_that_leaves_processes_idle_is_said(
    size: int,
    processes: int,
    group_size: int,
    better: int | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = TransformersEngine()
    monkeypatch.setattr(TransformersEngine, "group_size", group_size)
    callback = RolloutCallback(selection="random", engine=engine, shard_size=size, interval=0.25)
    # They have not joined yet.
    trainer = Trainer(accelerator="cpu", devices=processes, logger=False, enable_checkpointing=False, max_epochs=1)
    callback.check(trainer, PolicyModule("mstar/tiny-idefics3"), PolicyDataModule(TinyDice("pool", 2_000)))
    said = re.findall(r"of the 500 prompts .* set rollout\.shard_size to (\d+)", caplog.text)
    assert said == ([] if better is None else [str(better)])


@pytest.mark.parametrize(
    ("example", "prompt", "said"),
    [
        (None, 100, ""),
        (140, 100, ""),
        (139, 100, "raise it to 140"),
        (41, None, ""),
        (40, None, "raise it to more than 41"),
    ],
)
def test_responses_that_would_be_chosen_and_put_aside_are_told_of(
    example: int | None, prompt: int | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    callback = RolloutCallback(selection="random", engine=TransformersEngine(max_new_tokens=40))
    data = PolicyDataModule(TinyDice("pool", 4), max_prompt_tokens=prompt, max_example_tokens=example)
    check(callback, data)
    assert (said in caplog.text) if said else ("data.max_example_tokens" not in caplog.text)
