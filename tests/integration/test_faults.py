"""Faults that are really caused: what was written stays, the message says what to do, and the same command goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mstar.__main__ import main
from mstar.generation import Request, TransformersEngine
from mstar.prompts import TinyDice
from mstar.storage import RunDirectory, read_responses
from mstar.types import Prompt, Response
from tests.integration.kill_many import differences
from tests.integration.results import report_of


class Failing(TransformersEngine):
    """Fails at one of its calls, once; the way of failing is a name, so that a configuration can hold it."""

    calls = 0
    at = 2

    def __init__(self, how: str = "raise", max_new_tokens: int = 26) -> None:
        super().__init__(max_new_tokens, progress=False)
        self.how = how

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        written = super().generate(requests)
        type(self).calls += 1
        if type(self).calls == type(self).at:
            if self.how == "raise":
                raise RuntimeError("the engine is gone")
            if self.how == "fewer prompts":
                return written[:-1]
            if self.how == "fewer samples":
                return [written[0][:-1], *written[1:]]
            return [[replace(r, prompt_id="another") for r in rows] for rows in written]
        return written


class Deadly(TinyDice):
    """Prompts whose pictures kill a process that builds batches from them, as the kernel does if memory runs out."""

    def __getitem__(self, index: int) -> Prompt:
        if torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@pytest.fixture
def small(evolve: Any) -> Any:
    """One iteration of four shards, without dynamics."""

    def run(*flags: str, **rollout: Any) -> int:
        settings = evolve.settings(**{"shard_size": 4, "dynamics": False} | rollout)
        settings["trainer"]["max_epochs"] = 1
        return main(["fit", "--config", str(evolve.write(settings)), *flags])

    return run


@pytest.fixture(scope="module")
def whole(evolve_once: Any) -> Path:
    root: Path = evolve_once("--trainer.max_epochs", "1", name="whole", shard_size=4, dynamics=False)
    return root


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture
def disk() -> Iterator[Any]:
    """Makes file systems of a given size; only root may."""
    mounted: list[Path] = []

    def make(path: Path, size: int) -> None:
        path.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("file systems cannot be mounted here")
        mounted.append(path)

    yield make
    for path in mounted:
        subprocess.run(["umount", str(path)], check=True)  # noqa: S607


# The rows of four shards take about 40 kB, a checkpoint about 8 MB.
@pytest.mark.parametrize(("size", "folder"), [(28 << 10, "iterations"), (4 << 20, "checkpoints")])
def test_a_full_disk(
    small: Any, evolve: Any, whole: Path, disk: Any, size: int, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = evolve.folder / "run"
    disk(root / folder, size)
    assert small() == 1
    message = last_line(capsys)
    assert message.startswith(f"mstar fit: error: {root / folder}")
    assert message.endswith(
        "cannot be written (No space left on device): make room, or mend the path or its permissions, then run the "
        "same command again; it goes on from what is there."
    )
    assert [path for path in root.rglob(".*") if path.is_file()] == []
    shards = RunDirectory(root).response_shards(1)
    assert all(len(read_responses(shard)) == 16 for shard in shards)
    subprocess.run(["mount", "-o", "remount,size=1g", str(root / folder)], check=True)  # noqa: S607
    before = [shard.stat().st_mtime_ns for shard in shards]
    assert small() == 0
    assert [shard.stat().st_mtime_ns for shard in shards] == before
    assert differences(whole, root) == []


def test_a_full_disk_at_the_export_loses_no_training(
    small: Any, evolve: Any, whole: Path, disk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    root, exported = evolve.folder / "run", evolve.folder / "disk/policy"
    disk(exported.parent, 1 << 20)
    flags = ["--trainer.callbacks+", "mstar.callbacks.ExportCallback", "--trainer.callbacks.folder", str(exported)]
    assert small(*flags) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.strip().splitlines()[-1] == (
        f"mstar fit: error: {exported.parent}/.policy.unfinished cannot be written (No space left on device): make "
        "room, or mend the path or its permissions, then run the same command again; it goes on from what is there."
    )
    assert not exported.exists()
    assert not (root / "finished.json").exists()
    subprocess.run(["mount", "-o", "remount,size=1g", str(exported.parent)], check=True)  # noqa: S607
    last = root / "checkpoints/last.ckpt"
    before = last.stat().st_mtime_ns
    assert small(*flags) == 0
    assert last.stat().st_mtime_ns == before
    assert [path.name for path in exported.parent.iterdir()] == ["policy"]
    models = [(folder / "model.safetensors").read_bytes() for folder in (whole / "policy", exported)]
    assert models[0] == models[1]
    assert (root / "finished.json").exists()


def test_a_folder_that_cannot_be_written(small: Any, capsys: pytest.CaptureFixture[str]) -> None:
    # Even root may not write here.
    root = Path("/proc/1/mstar") if os.geteuid() else Path("/sys/mstar")
    assert small("--trainer.default_root_dir", str(root)) == 1
    assert last_line(capsys).startswith(f"mstar fit: error: {root} cannot be written (")


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "flipped":
        # In a response's text, which no format looks at.
        place = content.index(b"dice") if b"dice" in content else len(content) // 3
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    else:
        path.write_bytes(content[: {"truncated": len(content) // 2, "empty": 0}[how]])


@pytest.mark.parametrize("how", ["flipped", "truncated", "empty"])
def test_a_damaged_shard_is_put_aside_and_made_again(
    small: Any, evolve: Any, whole: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = evolve.folder / "run"
    (root / "iterations").parent.mkdir()
    shutil.copytree(whole / "iterations", root / "iterations")
    shard = RunDirectory(root).responses(1, 2)
    others = [path for path in RunDirectory(root).response_shards(1) if path != shard]
    before = [path.stat().st_mtime_ns for path in others]
    damage(shard, how)
    assert small() == 0
    assert f"put aside as {shard.name}.damaged, and made again" in capsys.readouterr().err
    assert shard.with_name(f"{shard.name}.damaged").exists()
    assert [path.stat().st_mtime_ns for path in others] == before
    assert [name for name in differences(whole, root) if ".damaged" not in name] == []


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", "the engine is gone"),
        ("fewer prompts", "returned responses to 3 prompts instead of 4"),
        ("fewer samples", "returned 3 responses to the prompt '"),
        ("others", "that are not the 4 samples that it was asked for"),
    ],
)
def test_an_engine_that_fails_loses_no_shard(
    small: Any, evolve: Any, whole: Path, how: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = {"class_path": f"{__name__}.Failing", "init_args": {"how": how}}
    sys.modules.setdefault(__name__, sys.modules[Failing.__module__])
    Failing.calls = 0
    if how == "raise":
        with pytest.raises(RuntimeError, match=message):
            small(engine=engine)
    else:
        assert small(engine=engine) == 1
        assert message in last_line(capsys)
    [shard] = RunDirectory(evolve.folder / "run").response_shards(1)
    before = shard.stat().st_mtime_ns
    assert small(engine=engine) == 0
    assert shard.stat().st_mtime_ns == before
    kept = [RunDirectory(root).examples(1).read_bytes() for root in (whole, evolve.folder / "run")]
    assert kept[0] == kept[1]


def test_a_batch_that_does_not_fit_into_memory_is_halved(
    small: Any, evolve: Any, whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mstar.generation import transformers_engine

    encode, sizes = transformers_engine.encode_prefix, []

    def encode_few(policy: Any, inputs: Any, *arguments: Any) -> Any:
        sizes.append(len(inputs.ids_BT))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(policy, inputs, *arguments)

    monkeypatch.setattr(transformers_engine, "encode_prefix", encode_few)
    assert small() == 0
    # 4 prompts of 4 samples in the first batch; the batch size stays as it was found to fit.
    assert sizes[:3] == [4, 2, 2]
    assert set(sizes[1:]) == {2}
    assert "Memory is short for 16 responses at a time: going on with 8" in capsys.readouterr().err
    # Log-probabilities may differ in their last digits, as with any other batch size.
    kept = [RunDirectory(root).examples(1).read_bytes() for root in (whole, evolve.folder / "run")]
    assert kept[0] == kept[1]


@pytest.mark.timeout(200)
def test_a_data_worker_that_dies_is_named(small: Any, evolve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    settings = evolve.settings(dynamics=False)
    settings["trainer"]["max_epochs"] = 1
    settings["data"]["init_args"] |= {
        "num_workers": 1,
        "train": {"class_path": f"{__name__}.Deadly", "init_args": {"split": "pool", "size": 32}},
    }
    assert main(["fit", "--config", str(evolve.write(settings))]) == 1
    message = last_line(capsys)
    assert "a process that builds batches died (DataLoader worker" in message
    assert "lower data.num_workers" in message


def test_a_clock_that_jumps_changes_nothing(
    small: Any, evolve: Any, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from itertools import count

    jumps = count()
    honest = time.time
    monkeypatch.setattr(time, "time", lambda: honest() + (-1) ** next(jumps) * 1e6)
    assert small() == 0
    assert differences(whole, evolve.folder / "run") == []
    report = report_of(evolve.folder / "run", 1)
    assert all(0 <= seconds < 600 for seconds in report["seconds"].values())


def test_a_run_that_is_in_use_is_refused(
    small: Any, evolve: Any, hold_elsewhere: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    root = evolve.folder / "run"
    holder = hold_elsewhere(root)
    assert small() == 1
    assert last_line(capsys).startswith(f"mstar fit: error: '{root}' is in use by process {holder.pid} on ")
    assert not (root / "iterations").exists()
    # However it ends, it holds the folder no longer.
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (root / "run.lock").exists()
    assert small() == 0


@pytest.mark.timeout(200)
def test_slurms_warning_puts_the_job_in_the_queue_again(evolve: Any, tmp_path: Path, forker: Any) -> None:
    """With SLURM's environment and a ``scontrol`` that writes down what it is asked."""
    bin_folder, asked = tmp_path / "bin", tmp_path / "asked"
    bin_folder.mkdir()
    scontrol = bin_folder / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    scontrol.chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": "17", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "evolve", "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "PATH": f"{bin_folder}:{os.environ['PATH']}",
    }  # fmt: skip
    config = evolve.write(evolve.settings(shard_size=4, dynamics=False))
    root = evolve.folder / "run"
    log = tmp_path / "log"
    run = forker.start(["fit", "--config", config], log, **slurm)
    deadline = time.monotonic() + 120
    while not (root / "checkpoints/last.ckpt").exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGUSR1)
    assert run.wait(100) == 128 + signal.SIGUSR1, log.read_text()
    assert asked.read_text() == "requeue 17\n"
    assert not list(root.glob("hpc_ckpt*"))
