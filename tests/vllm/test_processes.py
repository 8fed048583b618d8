"""Real vLLM in two processes that the trainer started: an engine each, or one engine of both."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mstar.generation import Request, Sample, plan_samples
from mstar.models.backbone import load_model
from mstar.models.export import save_model
from mstar.prompts import TinyDice

if TYPE_CHECKING:
    from tests.conftest import Policy
    from tests.vllm.conftest import MakeEngine

pytestmark = pytest.mark.vllm

WORKER = Path(__file__).parent / "worker.py"


@pytest.fixture(scope="module")
def folder(trained: Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    save_model(trained.model, trained.renderer, folder / "policy")
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path, trained: Policy, make_engine: MakeEngine) -> dict[str, list[str]]:
    """What one process writes with the weights that the two processes end with."""
    model: Any = load_model(str(folder / "policy")).eval()
    model.load_state_dict({name: value + 0.01 for name, value in model.state_dict().items()})
    engine = make_engine()
    engine.start(model, trained.renderer)
    prompts = list(TinyDice("pool", 6))
    greedy = Sample(0, 0.0, 0)
    written = engine.generate(
        [Request(p, (greedy, *plan_samples(0, "x", p.id, 4, 1.0, first_index=1))) for p in prompts]
    )
    engine.close()
    return {row[0].prompt_id: [response.text for response in row] for row in written}


def run(folder: Path, case: str) -> list[dict[str, Any]]:
    (folder / "store").unlink(missing_ok=True)
    processes = [
        subprocess.Popen([sys.executable, str(WORKER), str(folder), str(rank), case], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=240)
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in processes:
            process.kill()
    return [json.loads((folder / f"found-{case}-{rank}.json").read_text()) for rank in range(2)]


def test_an_engine_a_process_for_sharded_weights(folder: Path, alone: dict[str, list[str]]) -> None:
    found = run(folder, "sharded")
    ids = list(alone)
    assert [list(part["texts"]) for part in found] == [ids[0::2], ids[1:2]]
    for part in found:
        assert part["drift"] < 1e-4
        assert all(texts == alone[prompt_id] for prompt_id, texts in part["texts"].items())


def test_one_engine_of_two_processes(folder: Path, alone: dict[str, list[str]]) -> None:
    for part in run(folder, "tensor_parallel"):
        assert part["drift"] < 1e-4
        # The halves of a sum are added in another order, so that now and then another token is drawn.
        same = sum(a == b for i in alone for a, b in zip(part["texts"][i], alone[i], strict=True))
        assert same >= 27
        assert all(part["texts"][i][0] == alone[i][0] for i in alone)
