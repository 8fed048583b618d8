"""Several processes: what a run writes does not depend on their number, and none waits for one that is gone.

The processes are real ones, over gloo. Where one of them ends before the others, Lightning's own launcher starts them
(``launched.py``); elsewhere the tests do, as ``torchrun`` would.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mstar.__main__ import main
from mstar.iteration.plan import iteration_indices
from mstar.prompts import TinyDice
from mstar.storage import ExampleFile, RunDirectory
from tests.integration.kill_many import differences

# What the processes load beside mstar.
HELPERS = '''
import json, os, signal, time
from dataclasses import replace
from pathlib import Path
from lightning.pytorch import Callback
from mstar import process_start
from mstar.distributed import rank
from mstar.generation import TransformersEngine
from mstar.grading import AnswerGrader
from mstar.models.fingerprint import fingerprint_model


class Ruled(AnswerGrader):
    """Finds every answer to some prompts wrong, and every answer to some others right."""

    def __init__(self, wrong: list[str], right: list[str]) -> None:
        self.wrong = wrong
        self.right = right

    def grade(self, prompt, response):
        verdict = super().grade(prompt, response)
        correct = (verdict.correct or prompt.id in self.right) and prompt.id not in self.wrong
        return replace(verdict, correct=correct and verdict.predicted is not None)


class Witness(Callback):
    """Every process writes down how many prompts it sampled, how many steps it took, and its last weights."""

    def __init__(self):
        self.steps = []

    def on_train_epoch_start(self, trainer, module):
        self.steps.append(0)

    def on_train_batch_end(self, trainer, module, *rest):
        self.steps[-1] += 1

    def on_fit_end(self, trainer, module):
        seen = {"weights": fingerprint_model(module.model), "steps": self.steps}
        Path(trainer.default_root_dir, f"witness-{trainer.global_rank}.json").write_text(json.dumps(seen))


class Doomed(Callback):
    """One process is killed before its second step."""

    def __init__(self, victim: int) -> None:
        self.victim = victim

    def on_train_batch_start(self, trainer, module, batch, index):
        if index == 1 and trainer.global_rank == self.victim:
            os.kill(os.getpid(), signal.SIGKILL)


class DoomedEngine(TransformersEngine):
    """One process is killed while it samples."""

    def __init__(self, victim: int) -> None:
        super().__init__(26, progress=False)
        self.victim = victim

    def generate(self, requests):
        if rank() == self.victim:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().generate(requests)


def pause(folder, moment):
    """Says that the moment has come, and lets it last until the test says so; it comes once."""
    Path(folder, f"at-{moment}").touch()
    while not Path(folder, f"after-{moment}").exists():
        time.sleep(0.02)


class Impatient(Callback):
    """A process that has lost the first one ends soon, if not by itself."""

    def __init__(self) -> None:
        process_start._ORDERLY_END = 0.5


class Pauses(Callback):
    """Process 0 pauses in the training of each iteration, before its second step; the other waits for it there."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_train_batch_start(self, trainer, module, batch, index):
        if index == 1 and trainer.is_global_zero:
            pause(self.folder, f"training-{trainer.current_epoch + 1}")


class PausingEngine(TransformersEngine):
    """Process 1 pauses before its first shard, until process 0 has none left and waits for it."""

    def __init__(self, folder: str) -> None:
        super().__init__(26, progress=False)
        self.folder = folder

    def generate(self, requests):
        if rank() == 1:
            pause(self.folder, "sampling")
        return super().generate(requests)
'''


@pytest.fixture
def start(evolve: Any, forker: Any) -> Any:
    """Starts a fit whose further processes Lightning starts, in one process group and with one log."""

    def start(settings: dict[str, Any], name: str) -> Any:
        (evolve.folder / "helpers.py").write_text(HELPERS)
        command = ["fit", "--config", evolve.write(settings, name)]
        log = evolve.folder / f"{name}.log"
        log.unlink(missing_ok=True)
        return forker.start(command, log, script=Path(__file__).with_name("launched.py"), path=[evolve.folder])

    return start


@pytest.fixture
def start_anew(evolve: Any) -> Any:
    """The same by new interpreters alone: ``python -m mstar``, and what Lightning makes of it."""

    def start(settings: dict[str, Any], name: str) -> subprocess.Popen[str]:
        (evolve.folder / "helpers.py").write_text(HELPERS)
        outside = {
            k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "LOCAL_RANK", "MASTER_", "WORLD"))
        }
        with (evolve.folder / f"{name}.log").open("w") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "mstar", "fit", "--config", str(evolve.write(settings, name))],
                env={**outside, "PYTHONPATH": f"{evolve.folder}:{Path(__file__).parents[2]}", "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )

    return start


@pytest.fixture
def together(evolve: Any, forker: Any) -> Any:
    """Runs a fit to its end in as many processes as its settings say."""

    def run(settings: dict[str, Any], name: str) -> str:
        (evolve.folder / "helpers.py").write_text(HELPERS)
        log: Path = evolve.folder / f"{name}.log"
        command = ["fit", "--config", evolve.write(settings, name)]
        forker.run(command, log, number=settings["trainer"]["devices"], path=[evolve.folder])
        return log.read_text()

    return run


def finish(process: Any, seconds: float = 150) -> int:
    """Waits for a process; whatever happens, nothing of its group stays behind."""
    try:
        return process.wait(seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def alive(group: int) -> bool:
    """Whether a process group has a process that is not a zombie."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, found = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(found) == group and state != "Z":
            return True
    return False


def several(settings: dict[str, Any], number: int, **strategy: Any) -> dict[str, Any]:
    """The same run in several processes."""
    ddp = {"class_path": "lightning.pytorch.strategies.DDPStrategy", "init_args": strategy}
    settings["trainer"] |= {"devices": number, "strategy": ddp if strategy else "ddp"}
    return settings


def dice(split: str, size: int, **more: Any) -> dict[str, Any]:
    return {"class_path": "mstar.prompts.TinyDice", "init_args": {"split": split, "size": size, **more}}


def everything(evolve: Any, name: str, mprm: Path) -> dict[str, Any]:
    """Two iterations with all stages: voting, a sweep, an MPRM that is retrained; weights that stay as they are.

    How gradients are averaged depends on the number of processes, so the rate is too small for a float32.
    """
    settings: dict[str, Any] = evolve.settings(
        name,
        selection="top_k",
        top_k=1,
        reward_model=str(mprm),
        shard_size=3,
        unlabelled="voting",
        interval=0.25,
        temperature={
            "class_path": "mstar.temperature.AdaptiveTemperature",
            "init_args": {"minimum": 0.5, "maximum": 1.5, "step": 0.5, "every": 1, "margin": 0.0},
        },
        refresh_reward_model={
            "iterations": [2],
            "prompts": dice("refresh", 8),
            "annotation": {"num_samples": 4, "num_continuations": 2, "shard_size": 3},
            "lr": 1e-4,
        },
    )
    settings["model"]["init_args"]["lr"] = 1e-30
    settings["data"]["init_args"] |= {"unlabelled": dice("pool", 12, seed=1), "validation": dice("validation", 70)}
    return settings


def test_three_processes_write_what_one_writes(evolve: Any, together: Any, warm_mprm: Path) -> None:
    one, three = (evolve.folder / name for name in ("one", "three"))
    assert main(["fit", "--config", str(evolve.write(everything(evolve, "one", warm_mprm), "one"))]) == 0
    log = together(several(everything(evolve, "three", warm_mprm), 3), "three")
    assert log.count("iteration 2: 44 responses") == 1

    def files(root: Path) -> dict[str, bytes]:
        folders = (root / "iterations", root / "mprm", root / "policy")
        return {
            # What a refreshed MPRM was trained from is a path within its run.
            str(path.relative_to(root)): path.read_bytes().replace(bytes(root), b"run")
            for folder in folders
            for path in folder.rglob("*")
            if path.is_file()
        }

    a, b = files(one), files(three)
    assert a.keys() == b.keys()
    assert len([name for name in a if "responses-" in name]) == 8
    assert len([name for name in a if "labels-" in name]) == 3
    for name in a:
        if not name.endswith("report.json"):
            assert a[name] == b[name], name
            continue
        reports = [json.loads(text) for text in (a[name], b[name])]
        for report in reports:
            for measured in ("seconds", "tokens_per_second"):
                report.pop(measured, None)
        assert reports[0] == reports[1], name
    # Written once, by the main process.
    assert len(list((three / "tensorboard").rglob("events.*"))) == 1


def test_no_process_waits_for_one_without_data(evolve: Any, together: Any) -> None:
    """Of two processes, one has no prompts; then nothing is kept; then one example; then all is as usual."""
    pool = TinyDice("pool", 32)
    ids = [[pool[int(i)].id for i in iteration_indices(32, 0.25, n, 0, "labelled")] for n in (1, 2, 3, 4)]
    rules = {"wrong": [*ids[1], *ids[2][1:]], "right": ids[2][:1]}
    grader = {"class_path": "helpers.Ruled", "init_args": rules}
    settings = several(evolve.settings("two", interval=0.25, top_k=1, dynamics=False, grader=grader), 2)
    settings["data"]["init_args"]["batch_size"] = 1
    settings["trainer"] |= {"max_epochs": 4, "callbacks": [{"class_path": "helpers.Witness"}]}
    together(settings, "two")
    run = RunDirectory(evolve.folder / "two")
    assert [len(run.response_shards(n)) for n in (1, 2, 3, 4)] == [1, 1, 1, 1]
    kept = [len(ExampleFile(run.examples(n))) for n in (1, 2, 3, 4)]
    assert min(kept[0], kept[3]) > 1
    assert kept[1:3] == [0, 1]
    first, second = (json.loads((run.root / f"witness-{n}.json").read_text()) for n in (0, 1))
    assert first == second
    # As many steps on both: where the examples do not come out even, one of them is used twice.
    assert first["steps"] == [(n + 1) // 2 for n in kept]


@pytest.mark.parametrize(("victim", "where"), [(0, "sampling"), (1, "training")])
def test_when_a_process_is_killed_the_others_end_and_say_so(evolve: Any, start: Any, victim: int, where: str) -> None:
    engine = {"class_path": "helpers.DoomedEngine", "init_args": {"victim": victim}}
    rollout: dict[str, Any] = {"shard_size": 4, "dynamics": False, "selection": "all"}
    settings = several(evolve.settings("killed", **rollout), 2, timeout="0:01:00")
    if where == "sampling":
        settings["rollout"]["engine"] = engine
    else:
        settings["trainer"]["callbacks"] = [{"class_path": "helpers.Doomed", "init_args": {"victim": victim}}]
        settings["data"]["init_args"]["batch_size"] = 1
    process = start(settings, "killed")
    code = finish(process)
    ended = time.monotonic()
    try:
        while alive(process.pid) and time.monotonic() < ended + 60:
            time.sleep(0.2)
        assert not alive(process.pid)
    finally:
        if alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    log = (evolve.folder / "killed.log").read_text()
    assert code != 0
    sentence = (
        f"mstar fit: error: process {1 - victim} of 2 lost process {victim}, which ended or no longer answers: see "
        "what that one said last, then run the same command again; a fit goes on from what is written.\n"
    )
    # Lightning's launcher looks after the processes that it started; it may be the first to notice.
    assert sentence in log or (victim == 1 and "terminated with code -9" in log), log[-3000:]


def children(process: int) -> list[int]:
    """The processes that a process has started, but for the tracker that Python 3.14 starts for tqdm's lock."""
    found: list[int] = []
    for number in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            if b"resource_tracker" not in Path(f"/proc/{number}/cmdline").read_bytes():
                found.append(int(number))
    return found


def wait_until(condition: Callable[[], Any], process: Any, log: Path, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.02)


def pausing(evolve: Any, name: str, pauses: Path) -> dict[str, Any]:
    """A run of two processes that wait for files in a folder."""
    pauses.mkdir(exist_ok=True)
    settings = several(evolve.settings(name, shard_size=4, selection="all", dynamics=False), 2)
    settings["rollout"]["engine"] = {"class_path": "helpers.PausingEngine", "init_args": {"folder": str(pauses)}}
    settings["trainer"]["callbacks"] = [{"class_path": "helpers.Pauses", "init_args": {"folder": str(pauses)}}]
    return settings


@pytest.mark.parametrize("moment", ["sampling", "starting"])
def test_one_process_that_is_asked_to_stop_ends_the_others_as_if_they_had_been(
    evolve: Any, start: Any, start_anew: Any, moment: str
) -> None:
    """The second of two, while the first waits for its shards, or for it to start."""
    pauses, log = evolve.folder / "pauses", evolve.folder / "one.log"
    # A new interpreter has not imported anything when it is asked.
    process = (start_anew if moment == "starting" else start)(pausing(evolve, "one", pauses), "one")
    try:
        if moment == "starting":
            wait_until(lambda: children(process.pid), process, log)
        else:
            wait_until((pauses / "at-sampling").exists, process, log)
            wait_until((evolve.folder / "one/iterations/0001/responses-00002.parquet").exists, process, log)
        os.kill(children(process.pid)[0], signal.SIGTERM)
        (pauses / "after-sampling").touch()
        assert finish(process, 60) == 143, log.read_text()[-3000:]
    finally:
        if alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    said = log.read_text()
    assert "stopped by SIGTERM" in said
    assert "mstar fit: error" not in said


def test_a_process_ends_with_the_first_one_that_was_killed(evolve: Any, start: Any) -> None:
    """While it draws, and does not wait for the first one."""
    pauses, log = evolve.folder / "pauses", evolve.folder / "one.log"
    settings = pausing(evolve, "one", pauses)
    settings["trainer"]["callbacks"].append({"class_path": "helpers.Impatient"})
    process = start(settings, "one")
    try:
        wait_until((pauses / "at-sampling").exists, process, log)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 30
        while alive(process.pid):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "the process that had started this one has ended" in log.read_text()
    finally:
        if alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.timeout(400)
def test_two_processes_that_are_asked_to_stop_end_at_once_and_lose_nothing(
    evolve: Any, start: Any, together: Any
) -> None:
    """SIGTERM, as batch systems send it: to all processes, to the first one, or to another one alone."""

    moments = {
        "sampling": lambda process: os.killpg(process, signal.SIGTERM),
        "training-1": lambda process: os.kill(process, signal.SIGTERM),
        "training-2": lambda process: os.kill(children(process)[0], signal.SIGTERM),
    }
    whole, stopped = evolve.folder / "whole", evolve.folder / "stopped"
    log = stopped.with_suffix(".log")
    pauses = evolve.folder / "pauses"
    for moment, ask in moments.items():
        process = start(pausing(evolve, "stopped", pauses), "stopped")
        try:
            wait_until((pauses / f"at-{moment}").exists, process, log)
            if moment == "sampling":
                wait_until((stopped / "iterations/0001/responses-00002.parquet").exists, process, log)
            ask(process.pid)
            (pauses / f"after-{moment}").touch()
            assert finish(process, 60) == 143, f"{moment}: {log.read_text()[-3000:]}"
            deadline = time.monotonic() + 20
            while alive(process.pid):
                assert time.monotonic() < deadline, moment
                time.sleep(0.1)
        finally:
            if alive(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
        said = log.read_text()
        assert "mstar fit: stopped by SIGTERM; the same command goes on." in said
        assert "Traceback" not in said
        assert "mstar fit: error" not in said
        assert (stopped / "checkpoints/last.ckpt").exists() == (moment != "sampling")
    together(pausing(evolve, "stopped", pauses), "stopped")
    # The same run, never stopped: its pauses are over before they begin.
    for moment in moments:
        (pauses / f"after-{moment}").touch()
    together(pausing(evolve, "whole", pauses), "whole")
    assert differences(whole, stopped) == []
