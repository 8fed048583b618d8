"""What is proposed where the memory is not enough."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from mstar.memory.advice import _changes, find_remedies
from mstar.memory.configuration import read_plan
from mstar.memory.plan import Plan


def test_settings_of_the_rollouts_are_tried_together() -> None:
    engine = {"class_path": "mstar.generation.VllmEngine", "init_args": {"gpu_memory_utilization": 0.6}}
    refresh = {"class_path": "mstar.callbacks.RewardModelRefresh", "init_args": {"iterations": [2], "batch_size": 32}}
    arguments: dict[str, Any] = {"reward_model": "m", "engine": engine, "refresh_reward_model": refresh}
    rollout = {"class_path": "mstar.callbacks.RolloutCallback", "init_args": arguments}
    plan = read_plan({"model": {"class_path": "mstar.modules.PolicyModule", "init_args": {}}, "rollout": rollout})
    for name, change in _changes(plan):
        if name.startswith("--rollout."):
            plan = change(plan)
    found = plan.rollout
    assert found is not None
    assert found.reward is not None
    assert (found.engine.share, found.refresh_rows, found.reward.quantization) == (0.3, 4, "nf4")


def test_what_cannot_be_sharded_is_not_proposed_with_sharding() -> None:
    plan = read_plan({"model": {"class_path": "mstar.modules.PolicyModule", "init_args": {}}})
    asked: list[Plan] = []
    find_remedies(plan, lambda changed: asked.append(changed) or SimpleNamespace(capacity=None))  # type: ignore[func-returns-value, arg-type, return-value]
    sharded = [changed for changed in asked if changed.strategy == "fsdp2"]
    assert any(changed.training.lora is not None for changed in sharded)
    assert all(changed.optimizer_name == plan.optimizer_name for changed in sharded)
    assert all(changed.training.lora is None or changed.training.lora.quantization == "none" for changed in sharded)
