"""One seed, one result: whatever the process, the batch or the order of the work."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mstar.storage import ExampleFile, RunDirectory
from mstar.types import Example
from tests.integration.results import rows_of


def weights(root: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(root / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return state


def examples(root: Path) -> list[list[Example]]:
    run = RunDirectory(root)
    return [list(ExampleFile(run.examples(iteration))) for iteration in (1, 2)]


def same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def run(evolve_once: Any) -> Path:
    root: Path = evolve_once(name="first", dynamics=False)
    return root


def test_two_runs_with_one_seed_are_equal(run: Path, evolve_once: Any, forker: Any) -> None:
    config = evolve_once.write(evolve_once.settings("again", dynamics=False), "again")
    # In a process with another seed of the hashes of strings.
    script = evolve_once.folder / "hashes.py"
    script.write_text("import sys; print(hash('mstar')); from mstar.__main__ import main; raise SystemExit(main())")
    log = evolve_once.folder / "again.log"
    forker.run(["fit", "--config", config], log, script=script)
    assert int(log.read_text().split()[0]) != hash("mstar")
    again = evolve_once.folder / "again"
    for iteration in (1, 2):
        assert rows_of(again, iteration) == rows_of(run, iteration)
    assert examples(again) == examples(run)
    assert same_weights(weights(again), weights(run))


def test_another_seed_draws_other_prompts_and_responses(run: Path, evolve_once: Any) -> None:
    other = evolve_once("--seed_everything", "1", name="other", dynamics=False)
    ids = [{row.response.prompt_id for row in rows_of(root, 1)} for root in (run, other)]
    assert ids[0] != ids[1]
    shared = ids[0] & ids[1]
    texts = [
        {(r.response.prompt_id, r.response.sample_index): r.response.text for r in rows_of(root, 1)}
        for root in (run, other)
    ]
    assert any(texts[0][prompt_id, i] != texts[1][prompt_id, i] for prompt_id in shared for i in range(4))
    assert not same_weights(weights(run), weights(other))


def test_the_engine_batch_and_the_shards_do_not_change_what_is_kept(run: Path, evolve_once: Any) -> None:
    flags = ["--rollout.engine.batch_size", "5", "--rollout.shard_size", "3", "--trainer.max_epochs", "1"]
    small = evolve_once(*flags, name="small", dynamics=False)
    assert len(RunDirectory(small).response_shards(1)) == 6
    assert [r.response.text for r in rows_of(small, 1)] == [r.response.text for r in rows_of(run, 1)]
    assert examples_of(small) == examples_of(run)
    for one, other in zip(rows_of(small, 1), rows_of(run, 1), strict=True):
        assert one.response.logprob == pytest.approx(other.response.logprob, abs=1e-3)


def examples_of(root: Path) -> list[Example]:
    return list(ExampleFile(RunDirectory(root).examples(1)))


def forget(run: Path) -> None:
    """Leaves of a run what it generated alone, so that a new one may begin in its folder."""
    shutil.rmtree(run / "checkpoints")
    for name in ("config.yaml", "finished.json"):
        (run / name).unlink()


def test_shards_of_another_plan_are_moved_aside(run: Path, evolve_once: Any) -> None:
    copy = run.parent / "changed"
    shutil.copytree(run, copy)
    forget(copy)
    kept = RunDirectory(copy).responses(1, 0).read_bytes()
    evolve_once("--rollout.temperature", "0.7", "--trainer.max_epochs", "1", name="changed", dynamics=False)
    assert (copy / "iterations/0001.old-1/responses-00000.parquet").read_bytes() == kept
    assert (copy / "iterations/0002.old-1/examples.parquet").is_file()
    assert {row.response.temperature for row in rows_of(copy, 1)} == {0.7}
    forget(copy)
    evolve_once("--data.train.size", "24", "--trainer.max_epochs", "1", name="changed", dynamics=False)
    assert (copy / "iterations/0001.old-2").is_dir()
    assert len(rows_of(copy, 1)) == 12 * 4
