"""Self-evolving runs with real vLLM, by the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from mstar.__main__ import main
from mstar.generation import Request, VllmEngine
from mstar.storage import RunDirectory, read_responses
from mstar.types import Response

if TYPE_CHECKING:
    from tests.conftest import Evolve

pytestmark = pytest.mark.vllm

ENGINE = {
    "class_path": "mstar.generation.VllmEngine",
    "init_args": {"max_new_tokens": 26, "enforce_eager": True, "kv_cache_gb": 0.25, "progress": False},
}


def scalars(folder: Path, tag: str) -> dict[int, float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[int, float] = {}
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        events = EventAccumulator(str(path)).Reload()
        if tag in events.Tags()["scalars"]:
            found |= {event.step: event.value for event in events.Scalars(tag)}
    return found


def test_a_run_learns_from_vllm_and_proves_every_sync(evolve: Evolve) -> None:
    folder = evolve(name="vllm", engine=ENGINE)
    drift = scalars(folder, "rollout/engine_drift")
    assert sorted(drift) == [1, 2]
    assert all(0 < value < 1e-4 for value in drift.values())
    run = RunDirectory(folder)
    for iteration in (1, 2):
        report = json.loads(run.report(iteration).read_text())
        assert report["funnel"]["generated"] == 64
        assert report["funnel"]["kept"] > 0
        assert 0 < report["engine_drift"] < 1e-4
        rows = [row for path in run.iteration(iteration).glob("responses-*.parquet") for row in read_responses(path)]
        assert len(rows) == 64
        assert all(row.response.logprob < 0 for row in rows)
    # The same command with the Transformers engine measures the same greedy accuracy of the same first policy.
    other = RunDirectory(evolve(name="transformers"))
    ours, theirs = (json.loads(r.report(0).read_text())["dynamics"]["greedy_accuracy"] for r in (run, other))
    assert ours == theirs


def test_predict_and_a_benchmark_draw_with_the_engine_of_the_configuration(
    evolve: Evolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the rollouts, or of the policy where there are none; their weights are those of the checkpoint."""
    asked: list[str] = []
    generate = VllmEngine.generate

    def watched(engine: VllmEngine, requests: Sequence[Request]) -> list[list[Response]]:
        asked.extend(request.prompt.id for request in requests)
        return generate(engine, requests)

    monkeypatch.setattr(VllmEngine, "generate", watched)
    folder = evolve(name="vllm", engine=ENGINE, command="predict")
    assert len(asked) == 8
    drawn = [row.response.text for row in read_responses(folder / "predictions.parquet")]
    other = evolve(name="transformers", command="predict")
    assert drawn == [row.response.text for row in read_responses(other / "predictions.parquet")]
    settings = evolve.settings("benchmark")
    del settings["rollout"]
    settings["model"]["init_args"]["engine"] = ENGINE
    config = evolve.write(settings | {"benchmark": {"num_samples": 2, "resamples": 20}}, "benchmark")
    assert main(["test", "--config", str(config)]) == 0
    assert len(asked) == 16
    rows = pq.read_table(evolve.folder / "benchmark/tinydice.parquet").to_pylist()
    assert [row["response"] for row in rows] == drawn
    assert all(len(row["samples"]) == 2 for row in rows)


def test_a_run_stops_when_the_engine_is_stale(
    evolve: Evolve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mstar.generation.vllm_session import VllmSession

    push = VllmSession._push_weights
    pushes = []

    def push_twice_only(session: Any) -> None:
        pushes.append(1)
        if len(pushes) <= 2:  # at the start, and before the first iteration
            push(session)

    monkeypatch.setattr(VllmSession, "_push_weights", push_twice_only)
    config = evolve.write(evolve.settings("stale", engine=ENGINE), "stale")
    assert main(["fit", "--config", str(config)]) != 0
    message = capsys.readouterr().err
    assert "the VllmEngine does not have the trainer's weights: 'model." in message
    assert not (evolve.folder / "stale" / "iterations" / "0002").exists()
