"""Sharded weights: two processes compute what one does, and nothing waits for ever."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mstar.errors import ConfigError
from mstar.models.export import save_model
from mstar.models.sharding import (
    decoder_layers,
    full_state,
    inside_forward,
    load_full_state,
    shard,
    whole_weights,
)

# Rounding of float32 sums of other order; the gradients themselves are around 0.1.
ROUNDING = 1e-5

Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def found(forker: Any, tmp_path_factory: pytest.TempPathFactory, llava: Any) -> Found:
    """What each of two processes finds."""
    path = tmp_path_factory.mktemp("sharding") / "found.json"
    worker, folder = Path(__file__).with_name("sharding_worker.py"), path.with_name("llava")
    save_model(llava.model, llava.renderer, folder)
    forker.run([path, folder], path.with_name("log"), number=2, script=worker)
    found: Found = json.loads(path.read_text())
    return found


def test_the_whole_state_is_that_of_the_plain_model(found: Found) -> None:
    states = [dict(result["state"]) for result in found]
    gathered = [state.pop("gathered") for state in states]
    assert gathered[0] > 40
    assert gathered[1] == 0
    assert states == [dict.fromkeys(state, True) for state in states]


@pytest.mark.parametrize(
    "case",
    ["pictures", "pictures_on_one", "no_pictures", "unused", "checkpointing", "lora_language", "lora_all", "frozen"],
)
def test_gradients_are_those_of_one_process(found: Found, case: str) -> None:
    for result in found:
        assert result["gradients"][case] < ROUNDING


def test_weights_that_nothing_uses_have_a_gradient_for_the_optimizer(found: Found) -> None:
    for result in found:
        assert result["gradients"]["completed"]


@pytest.mark.parametrize("case", ["imitated", "imitated_by_adapters", "nft", "grpo"])
def test_weights_and_advantages_count_over_all_processes(found: Found, case: str) -> None:
    for result in found:
        assert result["weights"][case] < ROUNDING


@pytest.mark.parametrize("case", ["shared", "unshared"])
def test_an_implicit_reward_is_trained_as_on_one_process(found: Found, case: str) -> None:
    for result in found:
        assert result["implicit"][case] < ROUNDING


def test_processes_generate_on_their_own(found: Found) -> None:
    assert [result["generation"]["texts"] for result in found] == [12, 0]
    for result in found:
        assert result["generation"]["same"]
        assert result["generation"]["training_refused"]
        # The order in which weights are fetched has forgotten the unequal numbers of forward passes.
        assert result["generation"]["gradients_after"] < ROUNDING


@pytest.mark.parametrize("case", ["features", "no_features"])
def test_shared_prompts_train_a_sharded_scorer(found: Found, case: str) -> None:
    for result in found:
        assert result["scorer"][case] < ROUNDING


def test_an_optimizer_goes_on_with_the_state_of_a_plain_one(found: Found) -> None:
    for result in found:
        # A step of AdamW is about as large as the learning rate, 0.01.
        assert result["optimizer"]["step"] < 1e-5


@pytest.mark.parametrize(("name", "number"), [("tiny", 3), ("split", 2), ("llava", 2)])
def test_the_layers_of_the_language_model_are_found(name: str, number: int, request: pytest.FixtureRequest) -> None:
    layers = decoder_layers(request.getfixturevalue(name).model)
    assert [type(layer).__name__ for layer in layers] == ["LlamaDecoderLayer"] * number


def test_a_plain_model_is_left_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model.register_buffer("scratch", torch.zeros(1), persistent=False)
    state = dict(full_state(model))
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert not any(value.requires_grad for value in state.values())
    assert inside_forward(model, lambda a, b: a + b, 1, b=2) == 3
    with whole_weights(model):
        assert [name for name, _ in full_state(model)] == list(state)
    load_full_state(model, {name: torch.ones_like(value) for name, value in state.items()})
    assert model[0].weight.tolist() == [[1, 1], [1, 1]]


STOPPED = """
import sys
from pathlib import Path
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from mstar.models.sharding import shard, whole_weights
from tests.models.sharding_worker import policy

dist.init_process_group("gloo", init_method=Path(sys.argv[1]).as_uri(), rank=0, world_size=1)
module = policy()
shard(module.model, init_device_mesh("cpu", (1,)))
whole = whole_weights(module.model)
whole.__enter__()
sys.exit(3)
"""


def test_a_process_that_ends_while_weights_are_whole_ends_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", STOPPED, str(tmp_path / "meeting")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "Exception ignored" in done.stderr) == (3, False), done.stderr


def test_a_model_wrapped_for_ddp_has_its_own_names() -> None:
    wrapped = DistributedDataParallel.__new__(DistributedDataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module = nn.Linear(2, 2)
    assert [name for name, _ in full_state(wrapped)] == ["weight", "bias"]


def test_what_cannot_be_sharded_is_refused() -> None:
    mesh: Any = None
    quantised = nn.Linear(2, 2)
    quantised.weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ConfigError, match="quantised weights cannot be sharded"):
        shard(quantised, mesh)
    with pytest.raises(ConfigError, match="Linear has no stack of layers"):
        shard(nn.Linear(2, 2), mesh)
