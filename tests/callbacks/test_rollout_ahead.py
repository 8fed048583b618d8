"""Generation overlapped with training, with servers that only pretend to be vLLM."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import runpy
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mstar.callbacks import RolloutCallback
from mstar.errors import ConfigError
from mstar.generation import VllmServerEngine, derive_seed
from mstar.generation.vllm_server_worker import model_sizes
from mstar.models.backbone import load_model, load_renderer
from mstar.prompts import TinyDice
from mstar.selection import Balance
from mstar.storage import RunDirectory, read_responses
from tests.integration.kill_many import differences

if TYPE_CHECKING:
    from tests.conftest import Evolve

TESTS = Path(__file__).parents[1]
Stub: Any = runpy.run_path(str(TESTS / "generation/test_vllm_server_engine.py"))["Stub"]

# Seeds of the samples of the second iteration.
SECOND = {derive_seed(5, "rollout/2", prompt.id, index) for prompt in TinyDice("pool", 32) for index in range(4)}


class Answering:
    """A stub that answers with a number, now and then the right one; it notes which weights drew which seed."""

    def __init__(self, policy: Path) -> None:
        model: Any = load_model(str(policy))
        self.renderer = load_renderer(str(policy), model)
        self.stub = Stub(model_sizes(model.config))
        self.drawn: dict[int, set[str]] = {}
        self.plain = self.stub.draw
        self.stub.draw = self.draw

    def draw(self, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self.plain(body)
        seed = body["sampling_params"].get("seed")
        if seed is None:
            return answer
        self.drawn.setdefault(seed, set()).add(self.stub.version)
        key = f"{self.stub.version} {seed} {body['token_ids']}"
        number = hashlib.blake2b(key.encode(), digest_size=1).digest()[0] % 9
        [tokens], _ = self.renderer.encode_responses([f"Answer: {number}"])
        answer["choices"][0] |= {
            "token_ids": tokens,
            "finish_reason": "stop",
            "logprobs": {"content": [{"token_id": token, "logprob": -0.5} for token in tokens]},
        }
        return answer

    def weights_of(self, iteration: int, ids: set[str], stage: str = "rollout", first: int = 0) -> set[str]:
        """The versions of the weights that drew an iteration's samples of some prompts."""
        numbers = range(first, first + 4)
        seeds = {derive_seed(5, f"{stage}/{iteration}", prompt, index) for prompt in ids for index in numbers}
        return {version for seed in seeds for version in self.drawn[seed]}


@pytest.fixture(scope="module")
def server(warm_policy: Path) -> Iterator[Answering]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        made = Answering(warm_policy)
        yield made
        made.stub.close()


@pytest.fixture(scope="module")
def whole(evolve_once: Evolve, server: Answering) -> RunDirectory:
    """A run that nothing disturbs."""
    return fit(evolve_once, server, "whole")


def settings(evolve: Evolve, server: Answering, name: str, **changes: Any) -> dict[str, Any]:
    engine = {
        "class_path": "mstar.generation.VllmServerEngine",
        "init_args": {
            "addresses": [server.stub.address],
            "shared_folder": str(evolve.folder / "shared"),
            "max_new_tokens": 26,
            "drift_bound": 1000.0,
            "progress": False,
        },
    }
    own: dict[str, Any] = {"engine": engine, "seed": 5, "shard_size": 4, "overlap_shards": 2, "dynamics": False}
    made = evolve.settings(name, **(own | changes))
    checkpoints = {"class_path": "mstar.callbacks.IterationCheckpoint", "init_args": {"every_n_steps": 1}}
    made["trainer"] |= {"max_epochs": 3, "callbacks": [checkpoints]}
    return made


def fit(evolve: Evolve, server: Answering, name: str, status: int = 0, **changes: Any) -> RunDirectory:
    from mstar.__main__ import main

    config = evolve.write(settings(evolve, server, name, **changes), name)
    assert main(["fit", "--config", str(config)]) == status
    return RunDirectory(evolve.folder / name)


def drawn_by(run: RunDirectory, server: Answering, iteration: int) -> list[set[str]]:
    """For each shard of an iteration, the weights that drew it."""
    shards = [read_responses(path) for path in run.response_shards(iteration)]
    return [server.weights_of(iteration, {row.response.prompt_id for row in shard}) for shard in shards]


def test_the_first_shards_are_drawn_by_the_weights_of_the_iteration_before(
    evolve_once: Evolve, server: Answering, whole: RunDirectory
) -> None:
    weights = [drawn_by(whole, server, iteration) for iteration in (1, 2, 3)]
    [first], [second], [third] = (set.union(*row[2:]) for row in weights)
    assert len({first, second, third}) == 3
    assert weights == [[{first}] * 4, [{first}] * 2 + [{second}] * 2, [{second}] * 2 + [{third}] * 2]
    # What of it is stale is said in the plan and in the report.
    plans = [json.loads(whole.plan(iteration).read_text()) for iteration in (1, 2, 3)]
    assert "ahead" not in plans[0]
    for before, plan in itertools.pairwise(plans):
        assert plan["ahead"] == {
            "shards": [0, 1],
            "drawn_in_iteration": before["iteration"],
            "policy": before["policy"],
            "temperature": 1.0,
        }
        assert plan["policy"] != before["policy"]
    reports = [json.loads(whole.report(iteration).read_text()) for iteration in (1, 2, 3)]
    ahead = [report.get("drawn_ahead") for report in reports]
    assert ahead == [None, *({"prompts": 8, "weights_of_iteration": number} for number in (1, 2))]
    assert all(report["funnel"]["kept"] for report in reports)
    # Nothing of it is left, in the run's folder or in that of the weights.
    assert not list((whole.root / "ahead").iterdir())
    assert not list((evolve_once.folder / "shared").iterdir())


def test_the_dynamics_of_an_iteration_are_those_of_the_weights_that_it_made(
    evolve_once: Evolve, server: Answering
) -> None:
    server.drawn.clear()
    run = fit(evolve_once, server, "measured", dynamics=True, overlap_shards=0)
    ids = {prompt.id for prompt in TinyDice("validation", 8)}
    [first], [second], [third] = (set.union(*drawn_by(run, server, iteration)) for iteration in (1, 2, 3))
    assert len({first, second, third}) == 3
    # Sample 0 of a prompt is the greedy one.
    measured = [server.weights_of(iteration, ids, "dynamics", first=1) for iteration in (0, 1, 2)]
    assert measured == [{first}, {second}, {third}]


def test_a_run_that_is_killed_while_slow_servers_draw_ends_like_one_left_alone(
    evolve_once: Evolve, server: Answering, whole: RunDirectory, forker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = evolve_once.write(settings(evolve_once, server, "killed"), "killed")
    run, log = RunDirectory(evolve_once.folder / "killed"), evolve_once.folder / "log"
    # One shard is drawn, and the other never ends while the process lives.
    rows = list(read_responses(whole.responses(2, 1)))
    held = {derive_seed(5, "rollout/2", row.response.prompt_id, row.response.sample_index) for row in rows}
    released = threading.Event()

    def hold(stub: Any, body: dict[str, Any]) -> None:
        if body["sampling_params"].get("seed") in held:
            released.wait(120)
            time.sleep(0.05)

    server.stub.fault = hold
    server.drawn.clear()
    # In the training of the first iteration, and at its end, before what is drawn ahead is waited for.
    for pattern in ("checkpoints/last.ckpt", "checkpoints/iteration-0001.ckpt"):
        child = forker.start(["fit", "--config", str(config)], log)
        deadline = time.monotonic() + 120
        while not (run.root / pattern).exists() or not (run.ahead(2) / "responses-00000.parquet").exists():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.005)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert not (run.ahead(2) / "responses-00001.parquet").exists()
    released.set()
    fit(evolve_once, server, "killed")
    said = capsys.readouterr().err
    assert "they are stale by one iteration; continuous imitates what is kept of them" in said
    assert "those to 8 prompts drawn while iteration 1 trained, by its weights" in said
    assert differences(whole.root, run.root) == []
    assert [len(weights) for weights in drawn_by(run, server, 2)] == [1] * 4
    assert not list((run.root / "iterations").glob("*.old-*"))


def test_what_goes_wrong_in_the_thread_ends_the_run_and_loses_no_training(
    evolve_once: Evolve, server: Answering, whole: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    server.stub.fault = lambda stub, body: (500, "lost") if body["sampling_params"].get("seed") in SECOND else None
    run = fit(evolve_once, server, "failing", status=1)
    assert "servers when they were lost" in capsys.readouterr().err
    assert (run.root / "checkpoints/iteration-0001.ckpt").exists()
    shutil.copytree(run.root, evolve_once.folder / "late")
    server.stub.fault = lambda stub, body: None
    fit(evolve_once, server, "failing")
    assert differences(whole.root, run.root) == []
    # With that, the weights are gone, and whoever wants them is told so.
    late = fit(evolve_once, server, "late")
    assert "2 shards of iteration 2 that they were to draw are drawn by its own weights" in capsys.readouterr().err
    assert "ahead" not in json.loads(late.plan(2).read_text())
    assert json.loads(late.plan(3).read_text())["ahead"]["drawn_in_iteration"] == 2


def test_it_is_off_by_default_and_refused_where_it_cannot_be() -> None:
    engine = VllmServerEngine("http://a:1", "shared")
    assert RolloutCallback(selection="random").settings.overlap_shards == 0
    assert RolloutCallback(selection="random", engine=engine, overlap_shards=1).settings.overlap_shards == 1
    with pytest.raises(ConfigError, match=r"TransformersEngine does not draw by servers .* choose VllmServerEngine"):
        RolloutCallback(selection="random", overlap_shards=1)
    with pytest.raises(ConfigError, match="overlap_shards is -1, but it must be at least 0"):
        RolloutCallback(selection="random", engine=engine, overlap_shards=-1)
    with pytest.raises(ConfigError, match=r"rollout\.balance\.extra_samples follow from the verdicts"):
        RolloutCallback(
            selection="random", engine=engine, overlap_shards=1, balance=Balance(hard=0.5, extra_samples=0.5)
        )
