"""How long prompts and responses are taken to be."""

from __future__ import annotations

from typing import Any

import pytest

from mstar.memory.configuration import read_plan
from mstar.memory.lengths import Lengths, assume_lengths, count_lengths
from mstar.memory.plan import Plan
from mstar.memory.run_account import Given, account_of
from mstar.memory.shape import read_config, shape_of
from mstar.types import Prompt

MODEL = "mstar/tiny-idefics3"
SHAPE = shape_of(read_config(MODEL, False, None))
SHORT = Prompt(id="short", question="How many?", answer="1")
LONG = Prompt(id="long", question="How many? " * 50, answer="1")


def plan_of(refresh: dict[str, Any] | None = None, **data: Any) -> Plan:
    """A run whose engine draws 300 tokens."""
    engine = {
        "class_path": "mstar.generation.TransformersEngine",
        "init_args": {"max_new_tokens": 300, "batch_size": 8},
    }
    rollout = {"engine": engine, "reward_model": "m", "refresh_reward_model": refresh}
    return read_plan(
        {
            "model": {"class_path": "mstar.modules.PolicyModule", "init_args": {"model_name": MODEL}},
            "data": {"class_path": "mstar.datamodules.PolicyDataModule", "init_args": data},
            "trainer": {"accelerator": "cpu"},
            "rollout": {"class_path": "mstar.callbacks.RolloutCallback", "init_args": rollout},
        }
    )


@pytest.mark.parametrize("counted", [True, False])
def test_the_longest_example_bounds_what_is_trained_on_and_not_what_is_scored(tiny: Any, counted: bool) -> None:
    def lengths(plan: Plan) -> Lengths:
        if counted:
            return count_lengths(plan, SHAPE, tiny.renderer, [(SHORT, None)])
        return assume_lengths(plan, SHAPE, 20, None)

    free, bounded = lengths(plan_of()), lengths(plan_of(max_example_tokens=100))
    assert (free.scored, free.trained) == (300, 300)
    assert (bounded.scored, bounded.trained) == (300, 100 - bounded.prompt)
    assert bounded.said == f"{free.said}, of {bounded.trained} where they are trained on (data.max_example_tokens)"


def test_prompts_that_are_put_aside_are_not_counted(tiny: Any) -> None:
    rows = [(SHORT, None), (LONG, None)]
    short, both = (count_lengths(plan_of(), SHAPE, tiny.renderer, some) for some in (rows[:1], rows))
    assert both.prompt > short.prompt
    assert count_lengths(plan_of(max_prompt_tokens=short.prompt), SHAPE, tiny.renderer, rows) == short
    # Where none is left, the settings alone say how long they are.
    assert count_lengths(plan_of(max_prompt_tokens=5), SHAPE, tiny.renderer, rows).prompt == 5


def test_an_engine_that_continues_responses_reads_what_there_is_of_them() -> None:
    refresh = {"class_path": "mstar.callbacks.RewardModelRefresh", "init_args": {"iterations": [2]}}

    def prompts(plan: Plan) -> int:
        stages = account_of(plan, Given(prompt_tokens=100)).stages
        [read] = [
            amount.num_bytes
            for one in stages
            if one.name == "generate"
            for amount in one.amounts
            if amount.name == "keys and values of prompts"
        ]
        return read

    assert prompts(plan_of(refresh)) == 4 * prompts(plan_of())
