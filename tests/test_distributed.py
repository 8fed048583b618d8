"""One process and two: results come together in order, and training and testing in two processes are those of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mstar.distributed import gather_lists, is_main, rank, wait_for_all, world_size

GATHER = """
import json, sys, time
from pathlib import Path
import torch.distributed as dist
from mstar.distributed import gather_lists, is_main, rank, wait_for_all, world_size
from mstar.types import Response

number, folder = int(sys.argv[1]), Path(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=number, world_size=2)
responses = [Response(f"p{number}", i, "text", 3, True, 1.0, -0.5) for i in range(number * 3)]
out = {
    "rank": rank(),
    "world": world_size(),
    "main": is_main(),
    "numbers": gather_lists([number * 10, number * 10 + 1]),
    "uneven": [(r.prompt_id, r.sample_index) for r in gather_lists(responses)],
    "nothing": gather_lists([]),
}
if number == 1:
    time.sleep(0.5)
    (folder / "late").write_text("here")
wait_for_all()
out["waited"] = (folder / "late").exists()
(folder / f"out-{number}.json").write_text(json.dumps(out))
dist.destroy_process_group()
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
module = PolicyModule("mstar/tiny-idefics3", lr=0.05, optimizer=torch.optim.SGD, max_new_tokens=24)
data = PolicyDataModule(source, test=TinyDice("test", 5), batch_size=4 // devices, eval_batch_size=2)
trainer = Trainer(
    accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_epochs=2, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
)
trainer.fit(module, datamodule=data)
weights = module.model.lm_head.weight.detach().double()
before = fingerprint_model(module.model)
# Answers that differ from prompt to prompt: the graders are given a rule instead of a trained model.
class Rule:
    def grade(self, prompt, response):
        from mstar.types import Verdict, VerdictStatus
        return Verdict(prompt.id in ("test-0-0", "test-0-3"), None, VerdictStatus.GRADED)
module.grader = Rule()
(tested,) = trainer.test(module, datamodule=data, verbose=False)
out = {"weights": before, "sum": weights.abs().sum().item(), "steps": trainer.global_step, "tested": tested}
(folder / f"out-{devices}-{trainer.global_rank}.json").write_text(json.dumps(out))
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "LOCAL_RANK"))}
    return subprocess.Popen(
        [sys.executable, script, *arguments],
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[1])},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes: subprocess.Popen[str]) -> None:
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), errors


def test_one_process_is_the_main_one_and_keeps_its_items() -> None:
    assert (rank(), world_size(), is_main()) == (0, 1, True)
    items = (3, 1, 2)
    gathered = gather_lists(items)
    assert gathered == [3, 1, 2]
    wait_for_all()


def test_two_processes(tmp_path: Path) -> None:
    script = tmp_path / "gather.py"
    script.write_text(GATHER)
    finish(*(start(str(script), str(number), str(tmp_path)) for number in range(2)))
    for number in range(2):
        assert json.loads((tmp_path / f"out-{number}.json").read_text()) == {
            "rank": number,
            "world": 2,
            "main": number == 0,
            "numbers": [0, 1, 10, 11],
            "uneven": [["p1", 0], ["p1", 1], ["p1", 2]],
            "nothing": [],
            "waited": True,
        }


def test_training_and_testing_in_two_processes_equal_those_in_one(tmp_path: Path) -> None:
    script = tmp_path / "fit.py"
    script.write_text(FIT)
    for devices in ("1", "2"):
        finish(start(str(script), devices, str(tmp_path)))
    one, first, second = (json.loads((tmp_path / f"out-{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))  # type: dict[str, Any], dict[str, Any], dict[str, Any]
    assert first == second
    assert first["steps"] == one["steps"] == 6
    # Rounding differs, and nothing else: each step saw the same rows.
    assert first["sum"] == pytest.approx(one["sum"], rel=1e-6)
    # Five prompts on two processes: one of them is answered twice, and must not count twice.
    assert one["tested"]["test/accuracy"] == pytest.approx(0.4)
    assert first["tested"] == pytest.approx(one["tested"])
