"""Settings of methods that contradict each other."""

from __future__ import annotations

from typing import Any

import pytest

from mstar.callbacks.rollout import RolloutCallback
from mstar.errors import ConfigError
from mstar.selection import Balance, PolicyGradient, Voting
from mstar.temperature import AdaptiveTemperature

BALANCED = AdaptiveTemperature(criterion="balance", top_k_candidates=[1, 4])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"policy_gradient": PolicyGradient()}, "policy_gradient is for methods that learn from every sample"),
        ({"method": "rloop", "step_rewards": "drop"}, "step_rewards is for methods .* but rollout.method is 'rloop'"),
        ({"method": "grpo", "step_rewards": "drop"}, "rollout.step_rewards 'drop' reads a reward, but neither"),
        ({"method": "nft", "policy_gradient": PolicyGradient(clip_low=0.1)}, "clip_low has no effect"),
        ({"method": "nft", "answer_conditioned": True}, "answer_conditioned draws from another prompt"),
        ({"method": "grpo", "voting": Voting(weight="share")}, "rollout.voting.weight is for methods that imitate"),
        ({"method": "grpo", "balance": Balance(repeat_hard=2)}, "keep_easy and repeat_hard are for methods"),
        ({"selection": "all", "temperature": BALANCED}, "which this method or selection does not use"),
        ({"method": "grpo", "temperature": BALANCED}, "which this method or selection does not use"),
    ],
)
def test_what_does_not_go_together(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        RolloutCallback(**{"selection": "random", **settings})


def test_methods_that_learn_from_all_need_no_reward_and_no_selection() -> None:
    settings = RolloutCallback(method="grpo", policy_gradient=PolicyGradient(passes=3)).settings
    assert settings.objective is not None
    assert (settings.objective.method, settings.gradient.passes) == ("grpo", 3)
    assert RolloutCallback(method="rloop", selection="all").settings.objective is None
