"""The report file and the numbers of one iteration, with and without TensorBoard."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mstar.callbacks.iteration_log import IterationLog, log_dashboard
from mstar.dashboards.report import write_report
from mstar.dashboards.wording import format_percent
from mstar.evaluation.dynamics import Dynamics, Sweep
from mstar.iteration.iteration import IterationResult
from mstar.iteration.report import IterationReport
from mstar.storage import RunDirectory

if TYPE_CHECKING:
    from tests.conftest import Evolve
    from tests.stub_server import StubServer

DYNAMICS = Dynamics(
    prompts=8, greedy_accuracy=0.25, greedy_chain_accuracy=None, mean_accuracy=0.2, pass_at_k=0.5, k=16,
    pass_at_k_gap=0.25, majority=0.3, reward_pass_at_k=None, reward_k=2, reward=None,
)  # fmt: skip


def log_iteration(root: Path, logger: Any) -> dict[str, Any]:
    trainer = Trainer(accelerator="cpu", logger=logger, default_root_dir=root, enable_checkpointing=False)
    run = RunDirectory(root)
    log_dashboard(trainer)
    log = IterationLog(run, trainer, 3)
    counts = Counter(prompts=2, generated=8, parsed=6, correct=4, unique=3, kept=2, tokens=80)
    report = IterationReport(3, 0.9, counts)
    log.iteration_done(IterationResult((), report, ()))
    assert json.loads(run.report(3).read_text())["funnel"]["kept"] == 2
    sweep = Sweep({0.5: {"reward_pass@2": (0.4, 0.4)}, 1.0: {"reward_pass@2": (0.5, 0.7)}})
    log.swept(sweep.report({2: "reward_pass@2"}, (0.5, 2), (1.0, 2)))
    log.trained(1.5)
    with log.timed("dynamics"):
        pass
    log.dynamics(DYNAMICS, 0.9)
    log.write()
    found: dict[str, Any] = json.loads(run.report(3).read_text())
    return found


def test_a_likelihood_that_ranks_better_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    report = log_iteration(tmp_path, False)
    log = IterationLog(RunDirectory(tmp_path), Trainer(accelerator="cpu", logger=False), 3)
    for error, warnings in ((0.1, []), (0.05, ["iteration 3"])):
        log.report = report | {"mprm": {"likelihood_lead": 0.15, "likelihood_lead_error": error}}
        log.announce(refreshes=False)
        assert [r.getMessage()[:11] for r in caplog.records if r.levelname == "WARNING"] == warnings


def test_large_numbers_are_said_with_their_thousands_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "mstar.callbacks.iteration_log")
    log = IterationLog(RunDirectory(tmp_path), Trainer(accelerator="cpu", logger=False), 1)
    counts = Counter(prompts=900, generated=14400, correct=7200, unique=5000, kept=1800)
    log.report = IterationReport(1, 0.9, counts).as_dict()
    log.announce(refreshes=False)
    said = "14,400 responses at T=0.9; 7,200 right, 5,000 of them distinct, 1,800 kept"
    assert any(said in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("kind", ["none", "csv"])
def test_the_report_is_written_without_tensorboard(tmp_path: Path, kind: str) -> None:
    found = log_iteration(tmp_path, False if kind == "none" else CSVLogger(tmp_path))
    assert found["iteration"] == 3
    assert found["seconds"]["train"] == 1.5
    assert found["dynamics"]["pass_at_k"] == 0.5
    assert found["mprm"] is None
    assert found["sweep"] == {
        "chosen": 1.0,
        "metric": "reward_pass@2",
        "current": 0.5,
        "lead": pytest.approx(0.2),
        "standard_error": pytest.approx(0.1),
        "scores": {"0.5": {"reward_pass@2": 0.4}, "1.0": {"reward_pass@2": 0.6}},
    }


def test_what_is_not_known_is_not_logged(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="tensorboard")
    log_iteration(tmp_path, logger)
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {"dynamics/pass@16", "dynamics/temperature", "time/train", "time/dynamics"} <= tags
    assert not [tag for tag in tags if tag.startswith("sweep/")]
    unknown = {"dynamics/reward_pass@2", "dynamics/greedy_chain_accuracy", "rollout/tokens_per_second", "mprm/auc"}
    assert not unknown & tags
    assert [(e.step, e.value) for e in events.Scalars("funnel/unique")] == [(3, 3.0)]


class Numbers(DummyLogger):
    """Keeps the numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[str, float] = {}

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.numbers |= metrics


def test_every_logger_gets_everything_that_it_can_show(tmp_path: Path) -> None:
    first, second, third = CSVLogger(tmp_path), TensorBoardLogger(tmp_path, name="tensorboard"), Numbers()
    log_iteration(tmp_path, [first, second, third])
    first.save()
    second.finalize("success")
    events = EventAccumulator(second.log_dir)
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert "dynamics/pass@16" in tags
    assert "custom_scalars__config__" in events.Tags()["tensors"]
    header = Path(first.log_dir, "metrics.csv").read_text().partition("\n")[0]
    assert set(header.split(",")) - {"step"} == tags == set(third.numbers)


def test_callbacks_see_the_numbers_of_an_iteration_and_none_of_the_policy_before_the_first(tmp_path: Path) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_checkpointing=False)
    IterationLog(RunDirectory(tmp_path), trainer, 0).dynamics(DYNAMICS, 1.0)
    assert not trainer.callback_metrics
    log = IterationLog(RunDirectory(tmp_path), trainer, 1)
    log.iteration_done(IterationResult((), IterationReport(1, 0.9), ()))
    log.dynamics(DYNAMICS, 0.9)
    log.write()
    seen = dict(trainer.callback_metrics)
    assert float(seen["dynamics/pass@16"]) == 0.5
    assert "dynamics/reward_pass@2" not in seen
    trainer.callback_metrics.clear()
    IterationLog.resumed(RunDirectory(tmp_path), trainer, 1).recall()
    assert dict(trainer.callback_metrics) == seen


@pytest.mark.parametrize(
    ("drawn", "generate", "rate"),
    [(0, 0.0, 8.0), (8, 2.0, 4.0)],  # all shards are read; one that is damaged is drawn again
)
def test_an_iteration_that_is_read_again_keeps_the_times_in_which_it_was_made(
    tmp_path: Path, drawn: int, generate: float, rate: float
) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_checkpointing=False)
    made = {"generate": 10.0, "grade": 1.0, "score": 5.0, "sweep": 7.0}
    first = IterationLog(RunDirectory(tmp_path), trainer, 1)
    counts = Counter(tokens=80, new_tokens=80)
    first.iteration_done(IterationResult((), IterationReport(1, 0.9, counts, seconds=made), ()))
    first.trained(30.0)
    first.write()
    counts = Counter(tokens=80, new_tokens=drawn)
    again = IterationReport(1, 0.9, counts, seconds={"generate": generate, "grade": 0.5, "score": 0.0})
    log = IterationLog(RunDirectory(tmp_path), trainer, 1)
    for stage in ("refresh", "sweep"):
        with log.timed(stage):
            pass
    log.iteration_done(IterationResult((), again, ()))
    report = json.loads(RunDirectory(tmp_path).report(1).read_text())
    # It is trained again; its sweep and its MPRM are found.
    assert report["seconds"].pop("sweep") == pytest.approx(7.0, abs=0.1)
    assert report["seconds"].pop("refresh") == pytest.approx(0.0, abs=0.1)
    assert report["seconds"] == {"generate": 10 + generate, "grade": 1.5, "score": 5}
    assert report["tokens_per_second"] == rate


def test_a_fit_shows_what_its_judge_was_asked_and_how_it_agrees(
    evolve: Evolve, stub: StubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.write = lambda body: "ANSWER: 99\nVERDICT: INCORRECT"
    grader = {
        "class_path": "mstar.judges.JudgeGrader",
        "init_args": {
            "address": stub.address,
            "model": "judge",
            "check": 1.0,
            "cache": str(evolve.folder / "answers"),
            "traffic": {"input_price": 1e4, "output_price": 2e4},
        },
    }
    root = evolve("--trainer.max_epochs=1", grader=grader)
    report = json.loads(RunDirectory(root).report(1).read_text())
    judged, funnel = report["judge"], report["funnel"]
    # Every response is judged, and what the rules can read is compared: they agree on those that both take for wrong.
    assert (judged["asked"], judged["rules_alone"]) == (64, funnel["correct"])
    assert judged["agreement"] == (judged["both"] - funnel["correct"]) / judged["both"]
    assert judged["cost"] == pytest.approx((judged["prompt_tokens"] * 1e4 + judged["num_tokens"] * 2e4) / 1e6)
    events = EventAccumulator(str(next(root.rglob("events.out.tfevents.*")).parent)).Reload()
    [agreement], [cost] = events.Scalars("judge/agreement"), events.Scalars("judge/cost")
    assert (agreement.step, agreement.value) == (1, pytest.approx(judged["agreement"]))
    assert cost.value == pytest.approx(judged["cost"])
    # At the end, with what the validation prompts took.
    said = capsys.readouterr().err
    assert f"asked about 64 responses and agrees with the rules in {judged['agreement']:.1%} of the" in said
    total = re.search(r"since this start: judge judge \((\d+) answers .* which cost ([\d.]+)\)", said)
    assert total is not None
    assert int(total[1]) == len(stub.asked) > judged["requests"]
    assert float(total[2]) > judged["cost"]
    page = write_report(root).read_text().replace("\n", "")
    assert "<h3>The judge</h3>" in page
    assert re.search(rf"<h3>The judge</h3>.*<td[^>]*>{format_percent(judged['agreement'])}</td>", page)
