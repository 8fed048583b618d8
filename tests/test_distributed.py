"""One process and two: results come together in order, and training and testing in two processes are those of one."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import mstar.distributed
from mstar.distributed import (
    by_shard,
    find_device,
    find_lost_process,
    from_main,
    gather_lists,
    is_main,
    leads_group,
    rank,
    refuse_lone_tasks,
    takes_part,
    wait_for_all,
    world_size,
)
from mstar.errors import ConfigError

GATHER = """
import json, sys, time
from pathlib import Path
from mstar.distributed import by_shard, from_main, gather_lists, is_main, joined_processes, rank
from mstar.distributed import wait_for_all, world_size
from mstar.types import Response

folder = Path(sys.argv[1])
mains = is_main()
joined = joined_processes()
joined.__enter__()
number = rank()
responses = [Response(f"p{number}", i, "text", 3, True, 1.0, -0.5) for i in range(number * 3)]
out = {
    "rank": rank(),
    "world": world_size(),
    "main": is_main(),
    "numbers": gather_lists([number * 10, number * 10 + 1]),
    "uneven": [(r.prompt_id, r.sample_index) for r in gather_lists(responses)],
    "nothing": gather_lists([]),
    "of_main": from_main(number + 7),
    "shards": by_shard("abcdefg", 2, lambda part: [f"{number}{letter}" for letter in part]),
    "one shard": by_shard("ab", 2, lambda part: [f"{number}{letter}" for letter in part]),
}
if number == 1:
    time.sleep(0.5)
    (folder / "late").write_text("here")
wait_for_all()
out["waited"] = (folder / "late").exists()
joined.__exit__(None, None, None)
out["after"] = world_size(), is_main() == mains == (number == 0)
(folder / f"out-{number}.json").write_text(json.dumps(out))
"""

# Gradients are averaged over equally many tokens on both sides, because all rationales have one length.
FIT = """
import json, os, sys
from pathlib import Path
import torch
from lightning.pytorch import Trainer, seed_everything
from mstar.datamodules import PolicyDataModule
from mstar.models.fingerprint import fingerprint_model
from mstar.modules import PolicyModule
from mstar.prompts import TinyDice

devices, folder = int(sys.argv[1]), Path(sys.argv[2])
seed_everything(3)
source = TinyDice("seed", 12)
module = PolicyModule("mstar/tiny-idefics3", lr=0.05, optimizer=torch.optim.SGD, max_new_tokens=4)
data = PolicyDataModule(source, test=TinyDice("test", 5), batch_size=4 // devices, eval_batch_size=2)
trainer = Trainer(
    accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_epochs=2, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
)
trainer.fit(module, datamodule=data)
weights = module.model.lm_head.weight.detach().double()
before = fingerprint_model(module.model)
# Answers that differ from prompt to prompt: the graders are given a rule instead of a trained model.
from mstar.grading import Grader
from mstar.types import Verdict, VerdictStatus
class Rule(Grader):
    def grade(self, prompt, response):
        return Verdict(prompt.id in ("test-0-0", "test-0-3"), None, VerdictStatus.GRADED)
module.grader = Rule()
(tested,) = trainer.test(module, datamodule=data, verbose=False)
out = {"weights": before, "sum": weights.abs().sum().item(), "steps": trainer.global_step, "tested": tested}
(folder / f"out-{devices}-{trainer.global_rank}.json").write_text(json.dumps(out))
"""


def test_one_process_is_the_main_one_and_keeps_its_items() -> None:
    assert (rank(), world_size(), is_main()) == (0, 1, True)
    items = (3, 1, 2)
    gathered = gather_lists(items)
    assert gathered == [3, 1, 2]
    assert from_main(3) == 3
    assert by_shard("abcde", 2, lambda part: part.upper()) == list("ABCDE")
    wait_for_all()


def test_before_the_processes_are_joined_the_launcher_tells_which_is_the_main_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "0")
            assert is_main()
            patch.setenv(name, "1")
            assert not is_main()


@pytest.mark.parametrize(
    ("known", "alone"),
    [
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_NTASKS": "8", "SLURM_PROCID": "3"}, True),
        # A job's script, a shell in it with a terminal, torchrun or one task a machine, and tasks with their own work.
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, False),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PTY_PORT": "34889"}, False),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "8"}, False),
        ({"SLURM_STEP_NUM_TASKS": "8", "WORLD_SIZE": "1", "SLURM_PROCID": "3"}, False),
    ],
)
def test_tasks_of_srun_that_do_not_know_of_each_other_are_told_apart_and_refused_without_a_trainer(
    known: dict[str, str], alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    unset = ("WORLD_SIZE", "MASTER_ADDR", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_PTY_PORT")
    for name in (*unset, "RANK", "LOCAL_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    # The fourth of eight tasks is not the one that says what is said once.
    assert is_main() != alone
    refused = pytest.raises(ConfigError, match=r"srun started 8 tasks.*torchrun") if alone else nullcontext()
    with refused:
        refuse_lone_tasks()


def test_each_process_of_a_machine_has_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.empty", lambda size, device: None)  # as if there were so many
    current: list[str] = []
    monkeypatch.setattr("torch.cuda.set_device", current.append)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert find_device("cuda") == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [find_device(device) for device in ("cuda", "cuda:1", "cpu")] == ["cuda:3", "cuda:1", "cpu"]
    assert current == ["cuda:3", "cuda:1"]
    # A Mac has one, and could even make a tensor there.
    with pytest.raises(ConfigError, match=r"device is mps:0, .*no float64.*cpu"):
        find_device("mps:0")


@pytest.mark.parametrize(
    ("message", "lost"),
    [
        ("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1", "lost another one, which ended"),
        ("[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 5ms for recv", "no longer answers ([gloo"),
        ("gloo: invalid tensor layout", None),
        ("expected scalar type Float but found Half", None),
        ("CUDA out of memory", None),
    ],
)
def test_an_error_that_comes_from_a_lost_process_is_told_from_others(message: str, lost: str | None) -> None:
    found = find_lost_process(RuntimeError(message))
    assert (found is None) == (lost is None)
    assert found is None or (lost or "") in str(found)


def test_two_processes(forker: Any, tmp_path: Path) -> None:
    script = tmp_path / "gather.py"
    script.write_text(GATHER)
    forker.run([tmp_path], tmp_path / "log", number=2, script=script)
    for number in range(2):
        assert json.loads((tmp_path / f"out-{number}.json").read_text()) == {
            "rank": number,
            "world": 2,
            "main": number == 0,
            "numbers": [0, 1, 10, 11],
            "uneven": [["p1", 0], ["p1", 1], ["p1", 2]],
            "nothing": [],
            "of_main": 7,
            "shards": ["0a", "0b", "1c", "1d", "0e", "0f", "1g"],
            "one shard": ["0a", "0b"],
            "waited": True,
            "after": [1, True],
        }


def test_training_and_testing_in_two_processes_equal_those_in_one(forker: Any, tmp_path: Path) -> None:
    script = tmp_path / "fit.py"
    script.write_text(FIT)
    for number in (1, 2):
        forker.run([str(number), tmp_path], tmp_path / "log", number=number, script=script)
    one, first, second = (json.loads((tmp_path / f"out-{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))  # type: dict[str, Any], dict[str, Any], dict[str, Any]
    assert first == second
    assert first["steps"] == one["steps"] == 6
    # Rounding differs, and nothing else: each step saw the same rows.
    assert first["sum"] == pytest.approx(one["sum"], rel=1e-6)
    # Five prompts on two processes: one of them is answered twice, and must not count twice.
    assert one["tested"]["test/accuracy"] == pytest.approx(0.4)
    assert first["tested"] == pytest.approx(one["tested"])


def test_groups_do_each_piece_once_and_one_of_them_hands_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mstar.distributed, "world_size", lambda: 4)
    done: dict[int, list[int]] = {}
    for number in range(4):
        monkeypatch.setattr(mstar.distributed, "rank", lambda number=number: number)
        done[number] = [piece for piece in range(5) if takes_part(piece, 2)]
        assert leads_group(2) == (number in (0, 2))
        assert [piece for piece in range(5) if takes_part(piece)] == list(range(number, 5, 4))
        handed_on = by_shard(range(5), 1, list, group_size=2)
        assert handed_on == (done[number] if number in (0, 2) else [])
    assert done == {0: [0, 2, 4], 1: [0, 2, 4], 2: [1, 3], 3: [1, 3]}
