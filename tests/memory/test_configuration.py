"""What the account reads in a configuration."""

from __future__ import annotations

from typing import Any

import pytest

from mstar.errors import ConfigError
from mstar.memory.configuration import read_plan
from mstar.memory.plan import RewardPlan, RolloutPlan


def rollout(**given: Any) -> RolloutPlan:
    model = {"class_path": "mstar.modules.PolicyModule", "init_args": {"model_name": "mstar/tiny-idefics3"}}
    config = {"model": model, "data": {}, "trainer": {}, "rollout": {"class_path": "R", "init_args": given}}
    found = read_plan(config).rollout
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        ({"reward_model": "m", "reward_batch_size": 5, "reward_offload": False}, "rollout.reward_"),
        (
            {
                "reward": {
                    "class_path": "mstar.rewards.MPRM",
                    "init_args": {"folder": "m", "batch_size": 5, "offload": False, "quantization": "none"},
                }
            },
            "rollout.reward.init_args.",
        ),
    ],
)
def test_an_mprm_is_found_under_either_key(given: dict[str, Any], keys: str) -> None:
    assert rollout(**given).reward == RewardPlan("m", 5, None, False, "none", keys=keys)


@pytest.mark.parametrize(
    ("given", "level"), [({}, 2), ({"sleep_level": 0}, 0), ({"sleep_level": 1}, 1), ({"adapters": "apart"}, 1)]
)
def test_vllm_sleeps_as_it_is_told(given: dict[str, Any], level: int) -> None:
    engine = {"class_path": "mstar.generation.VllmEngine", "init_args": given}
    assert rollout(engine=engine).engine.sleep_level == level


def test_another_reward_takes_no_memory_of_its_own() -> None:
    assert rollout(reward={"class_path": "mstar.rewards.Likelihood", "init_args": {}}).reward is None


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, 2),
        ({"selection": "mixed", "top_k": 3}, 3),
        ({"selection": "threshold"}, 16),
        ({"selection": {"class_path": "my.Rule"}}, 16),
        ({"method": "grpo", "num_samples": 8}, 8),
    ],
)
def test_an_iteration_has_as_many_rows_as_are_kept_at_most(given: dict[str, Any], kept: int) -> None:
    assert rollout(**given).kept == kept


def test_limits_of_pixels_are_found_wherever_a_source_stands() -> None:
    source = {"class_path": "mstar.prompts.RecordPrompts", "init_args": {"pixels": {"maximum": 200704}}}
    part = {"class_path": "mstar.prompts.PromptPart", "init_args": {"source": source}}
    mixed = {"class_path": "mstar.prompts.MixedPrompts", "init_args": {"sources": [part]}}
    for data in ({"sources": {"dataset": source, "train": {"size": 3}}}, {"train": part}, {"train": mixed}):
        config = {"model": {"init_args": {"model_name": "m"}}, "data": {"init_args": data}, "trainer": {}}
        assert read_plan(config).max_pixels == 200704


def test_an_annotation_by_address_has_no_account() -> None:
    with pytest.raises(ConfigError, match="the policy is null: what draws by address"):
        read_plan({"policy": None, "engine": {"class_path": "mstar.generation.OpenAIEngine"}})
