"""What a run is said to leave on the disk."""

from __future__ import annotations

from typing import Any

import pytest

from mstar.memory.configuration import read_plan
from mstar.memory.lengths import Lengths
from mstar.memory.run import Run
from mstar.memory.shape import read_config, shape_of
from mstar.memory.storage_account import disk_account

MODEL = "mstar/tiny-idefics3"
SHAPE = shape_of(read_config(MODEL, False, None))


def disk(checkpoint: dict[str, Any] | None = None, **rollout: Any) -> dict[str, int]:
    config = {
        "model": {"class_path": "mstar.modules.PolicyModule", "init_args": {"model_name": MODEL, "dtype": "float32"}},
        "data": {},
        "trainer": {
            "max_epochs": 30,
            "callbacks": [{"class_path": "mstar.callbacks.IterationCheckpoint", "init_args": checkpoint or {}}],
        },
        "rollout": {"class_path": "R", "init_args": rollout},
    }
    lengths = Lengths(prompt=100, scored=2000, trained=2000, patches=0, pixel_bytes=0, said="")
    # A quarter of the prompts is an iteration's.
    run = Run(read_plan(config), SHAPE, lengths, on_gpu=False, capacity=None, local=1, base=0, total=4000)
    return {amount.name: amount.num_bytes for amount in disk_account(run)}


@pytest.mark.parametrize(
    ("checkpoint", "iterations", "number"),
    [
        ({}, [2, 4, 6, 8], 3),
        ({}, [2], 1),
        ({}, [2, 40], 1),
        ({"keep_last": 3}, range(2, 31), 4),
        ({"every": 4}, range(2, 31), 9),
        ({"keep_all": True}, range(2, 31), 29),
    ],
)
def test_retrained_mprms_are_counted_as_long_as_they_stay(
    checkpoint: dict[str, Any], iterations: Any, number: int
) -> None:
    refresh = {"class_path": "mstar.callbacks.RewardModelRefresh", "init_args": {"iterations": list(iterations)}}
    found = disk(checkpoint, refresh_reward_model=refresh)
    expected = number * SHAPE.weights * 4
    assert [value for name, value in found.items() if "MPRM" in name] == [expected]
    assert not any("MPRM" in name for name in disk(checkpoint))


def test_responses_are_counted_by_their_length_and_examples_beside_them() -> None:
    """Of 2,000 tokens, a response took 3.4 KB, and 17.7 KB with its tokens; an example takes as much."""

    def counted(**rollout: Any) -> tuple[float, float]:
        found = disk(num_samples=8, **rollout)
        return found["responses of 2,000 tokens"] / 8e6, found["examples"] / 1e6

    assert counted(top_k=2) == pytest.approx((30 * 3.4, 30 * 2 * 3.4), rel=0.1)
    assert counted(top_k=2, keep_iterations=3) == pytest.approx((3 * 3.4, 30 * 2 * 3.4), rel=0.1)
    assert counted(method="grpo") == pytest.approx((30 * 17.7, 30 * 8 * 17.7), rel=0.1)
    assert counted(method="grpo", keep_iterations=1) == pytest.approx((17.7, 2 * 8 * 17.7), rel=0.1)
