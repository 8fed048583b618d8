"""What one iteration leaves behind: its report file, and its numbers and pictures in the logger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from mstar.dashboards.figures import sweep_figure
from mstar.dashboards.tensorboard import log_layout, log_samples
from mstar.distributed import is_main
from mstar.evaluation.dynamics import Dynamics
from mstar.generation.drift import Drift
from mstar.iteration import IterationResult
from mstar.storage import RunDirectory, read_json, write_json

__all__ = ["IterationLog", "log_dashboard"]


def log_dashboard(trainer: Trainer, num_samples: int) -> None:
    """Writes the layout of TensorBoard's Custom Scalars tab.

    Args:
        trainer: Its logger gets it.
        num_samples: K, for the tags.
    """
    writer = _writer(trainer)
    if writer is not None:
        log_layout(writer, num_samples)


def _writer(trainer: Trainer) -> SummaryWriter | None:
    logger = trainer.logger
    return logger.experiment if isinstance(logger, TensorBoardLogger) and is_main() else None


class IterationLog:
    """Collects one iteration's results; scalars are logged with the iteration's number as their step.

    Args:
        run: The run directory.
        trainer: Its logger gets the numbers.
        iteration: The iteration's number, from 1; 0 stands for the policy before the first.
    """

    def __init__(self, run: RunDirectory, trainer: Trainer, iteration: int) -> None:
        self.run = run
        self.trainer = trainer
        self.iteration = iteration
        self.report: dict[str, Any] = {"iteration": iteration}
        self._writer = _writer(trainer)

    @classmethod
    def resumed(cls, run: RunDirectory, trainer: Trainer, iteration: int) -> IterationLog:
        """The log of an iteration that has a report already; the same arguments."""
        log = cls(run, trainer, iteration)
        log.report = read_json(run.report(iteration))
        return log

    def drifted(self, drift: Drift | None) -> None:
        """Takes in how far the engine is from the trainer, once the present weights were handed to it.

        Args:
            drift: None for an engine that computes with the policy itself. Of several hand-overs in an iteration the
                first is logged, and the largest drift goes into the report.
        """
        if drift is None:
            return
        if "engine_drift" not in self.report:
            self._scalars("rollout", {"engine_drift": drift.mean})
        self.report["engine_drift"] = max(drift.mean, self.report.get("engine_drift", 0.0))

    def iteration_done(self, result: IterationResult) -> None:
        """Takes in what the iteration's stages did."""
        self.report |= result.report.as_dict()
        self._scalars("funnel", self.report["funnel"])
        names = ("tokens", "truncated_fraction", "tokens_per_second", "kept_chain_accuracy", "min_on_answer_step")
        choice = result.report.chosen / max(result.report.answered, 1)
        self._scalars("rollout", {name: self.report[name] for name in names} | {"choice_fraction": choice})
        self._scalars("time", self.report["seconds"])
        if self._writer is not None:
            log_samples(self._writer, result.shown, self.iteration)
        self.write()

    def swept(self, scores: Mapping[float, Mapping[str, float]], chosen: float, metric: str) -> None:
        """Takes in a temperature sweep."""
        self.report["sweep"] = {"chosen": chosen, "scores": {str(t): dict(row) for t, row in scores.items()}}
        for temperature, row in scores.items():
            self._scalars("sweep", {f"{name}/T={temperature:g}": value for name, value in row.items()})
        if self._writer is not None:
            self._writer.add_figure("dynamics/sweep", sweep_figure(scores, chosen, metric), self.iteration)

    def trained(self, seconds: float) -> None:
        """Takes in how long the epoch's training took."""
        self.report["seconds"]["train"] = seconds
        self._scalars("time", {"train": seconds})

    def dynamics(self, dynamics: Dynamics, temperature: float) -> None:
        """Takes in the dynamics of the policy after the iteration.

        Args:
            dynamics: What was measured.
            temperature: The temperature that it was measured at.
        """
        values = dynamics.as_dict()
        quality = values.pop("reward")
        self.report |= {"dynamics": values, "mprm": quality}
        self._scalars(
            "dynamics",
            {
                "greedy_accuracy": dynamics.greedy_accuracy,
                "greedy_chain_accuracy": dynamics.greedy_chain_accuracy,
                "mean_accuracy": dynamics.mean_accuracy,
                f"pass@{dynamics.k}": dynamics.pass_at_k,
                f"pass@{dynamics.k}_gap": dynamics.pass_at_k_gap,
                f"reward_pass@{dynamics.reward_k}": dynamics.reward_pass_at_k,
                "majority": dynamics.majority,
                "temperature": temperature,
            },
        )
        self._scalars("mprm", quality or {})

    def forget_dynamics(self) -> None:
        """Has the dynamics measured again."""
        for name in ("dynamics", "mprm"):
            self.report.pop(name, None)

    def write(self) -> None:
        """Writes the report file."""
        if is_main():
            write_json(self.run.report(self.iteration), self.report)

    def announce(self) -> None:
        """Prints the iteration in one line."""
        funnel = self.report["funnel"]
        parts = [
            f"iteration {self.iteration}: {funnel['generated']} responses at T={self.report['temperature']:g}",
            f"{funnel['correct']} right, {funnel['unique']} of them distinct, {funnel['kept']} kept",
        ]
        if timeouts := self.report.get("grading_timeouts"):
            parts.append(f"{timeouts} comparisons of formulas ran out of computing time")
        if choice := self.report.get("choice"):
            parts.append(f"a choice for {choice['prompts']} of {choice['of']} prompts")
        if (share := self.report.get("min_on_answer_step")) is not None:
            parts.append(f"the lowest step score is the answer's in {share:.0%} of the scored responses")
        measured = self.report.get("dynamics")
        if measured:
            greedy, pass_at_k = measured["greedy_accuracy"], measured["pass_at_k"]
            parts.append(f"validation: greedy {greedy:.1%}, Pass@{measured['k']} {pass_at_k:.1%}")
        if self.report["skipped"]:
            parts.append("nothing was kept, so there was nothing to train on")
        self.trainer.print("; ".join(parts))

    def _scalars(self, group: str, values: Mapping[str, float | None]) -> None:
        known = {f"{group}/{name}": float(value) for name, value in values.items() if value is not None}
        if known and self.trainer.logger is not None:
            self.trainer.logger.log_metrics(known, self.iteration)
