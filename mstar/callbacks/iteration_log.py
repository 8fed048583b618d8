"""What one iteration leaves behind: its report file, and its numbers and pictures in every logger."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch import Trainer

from mstar.dashboards.tensorboard import log_layout
from mstar.distributed import from_main, is_main, sum_all
from mstar.evaluation.dynamics import Dynamics
from mstar.evaluation.reward_quality import warn_of_likelihood
from mstar.generation.drift import Drift
from mstar.grading import Grader
from mstar.iteration.decline import find_collapse, find_fall
from mstar.iteration.iteration import IterationResult
from mstar.storage import RunDirectory, read_json, write_json
from mstar.trainer.loggers import log_numbers, log_prompts, writer_of

_log = logging.getLogger(__name__)


def tell_of_judge(grader: Grader) -> None:
    """Says what a judge was asked since this start, validation prompts included, and what that cost. Collective."""
    judged = sum_all(grader.judged())
    for note in judged.notes() if is_main() else ():
        _log.info("since this start: %s", note)


def log_dashboard(trainer: Trainer) -> None:
    """Writes the layout of TensorBoard's Custom Scalars tab."""
    for logger in trainer.loggers if is_main() else ():
        writer = writer_of(logger)
        if writer is not None:
            log_layout(writer)


class IterationLog:
    """Collects one iteration's results; scalars are logged with the iteration's number as their step.

    Callbacks find the same numbers in ``trainer.callback_metrics``, under the same tags.

    Args:
        trainer: Its loggers get the numbers.
        iteration: The iteration's number, from 1; 0 stands for the policy before the first.
    """

    def __init__(self, run: RunDirectory, trainer: Trainer, iteration: int, before: IterationLog | None = None) -> None:
        # Those of earlier iterations, by number: each is read once in a process.
        self.earlier: dict[int, dict[str, Any]] = {} if before is None else before.earlier
        self.run = run
        self.trainer = trainer
        self.iteration = iteration
        self.report: dict[str, Any] = {"iteration": iteration}

    @classmethod
    def resumed(cls, run: RunDirectory, trainer: Trainer, iteration: int) -> IterationLog:
        """The log of an iteration that has a report already; the same arguments."""
        log = cls(run, trainer, iteration)
        log.report = read_json(run.report(iteration))
        return log

    def recall(self) -> None:
        """Lets callbacks see what an earlier process measured."""
        for group, values in (*self._stages(), *self._dynamics()):
            self._watch(group, values)

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
        """Takes in what the iteration's stages did, in a run that was interrupted later on, too."""
        made = result.report.as_dict()
        made["seconds"] |= self.report.get("seconds", {})
        self.report |= made
        self._add_earlier()
        self._look_for_decline()
        for group, values in self._stages():
            self._scalars(group, values)
        for logger in self.trainer.loggers if is_main() else ():
            log_prompts(logger, result.shown, self.iteration)
        self.write()

    def _add_earlier(self) -> None:
        """Adds the times of the stages from an earlier report: shards that are there now were made in them."""
        path = self.run.report(self.iteration)
        # The main process's, which it will write over.
        earlier = from_main(read_json(path) if path.exists() else None)
        if earlier is None:
            return
        for stage in self.report["seconds"]:
            self.report["seconds"][stage] += earlier["seconds"].get(stage, 0.0)
        if self.report["tokens_per_second"] is None:
            self.report["tokens_per_second"] = earlier["tokens_per_second"]

    def _look_for_decline(self) -> None:
        """Says what has become worse since the first iteration, or since the best one; once while it lasts."""
        for number in range(1, self.iteration):
            if number not in self.earlier and (path := self.run.report(number)).exists():
                self.earlier[number] = read_json(path)
        earlier = [self.earlier[number] for number in sorted(self.earlier)]
        if not earlier:
            return
        collapse, fallen = find_collapse(earlier[0], self.report), find_fall([*earlier, self.report])
        for name, found in (("collapse", collapse), ("fallen", fallen)):
            if found is None:
                continue
            self.report[name] = found
            if is_main() and name not in earlier[-1]:
                _log.warning("iteration %d: %s", self.iteration, found)

    def swept(self, sweep: Mapping[str, Any]) -> None:
        """Takes in what a temperature sweep found and chose."""
        self.report["sweep"] = sweep
        self._scalars("sweep", {"top_k": sweep.get("top_k")})

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Takes in how long a stage takes that the iteration does not time itself; it is logged with what it made."""
        began = time.perf_counter()
        yield
        self.report.setdefault("seconds", {})[stage] = time.perf_counter() - began

    def trained(self, seconds: float) -> None:
        """Takes in how long the epoch's training took."""
        self.report["seconds"]["train"] = seconds
        self._scalars("time", {"train": seconds})

    def dynamics(self, dynamics: Dynamics, temperature: float) -> None:
        """Takes in the dynamics of the policy after the iteration."""
        values = asdict(dynamics)
        quality = values.pop("reward")
        self.report |= {"dynamics": values, "mprm": quality}
        for group, tagged in self._dynamics(temperature):
            self._scalars(group, tagged)

    def forget_dynamics(self) -> None:
        """Has the dynamics measured again."""
        for name in ("dynamics", "mprm"):
            self.report.pop(name, None)

    def write(self) -> None:
        """Writes the report file."""
        if is_main():
            write_json(self.run.report(self.iteration), self.report)

    def announce(self, *, refreshes: bool) -> None:
        """Prints the iteration in one line.

        Args:
            refreshes: Whether the run refreshes its MPRM.
        """
        funnel = self.report["funnel"]
        parts = [
            f"iteration {self.iteration}: {funnel['generated']:,} responses at T={self.report['temperature']:g}",
            f"{funnel['correct']:,} right, {funnel['unique']:,} of them distinct, {funnel['kept']:,} kept",
        ]
        if timeouts := self.report.get("grading_timeouts"):
            parts.append(f"{timeouts:,} comparisons of formulas ran out of computing time")
        if ahead := self.report.get("drawn_ahead"):
            number = ahead["weights_of_iteration"]
            parts.append(
                f"those to {ahead['prompts']:,} prompts drawn while iteration {number} trained, by its weights"
            )
        if choice := self.report.get("choice"):
            parts.append(f"a choice for {choice['prompts']:,} of {choice['of']:,} prompts")
        if (share := self.report.get("min_on_answer_step")) is not None:
            parts.append(f"the lowest step score is the answer's in {share:.0%} of the scored responses")
        if judged := self.report.get("judge"):
            agreement = "none" if judged["agreement"] is None else f"{judged['agreement']:.1%}"
            parts.append(
                f"the judge was asked about {judged['asked']:,} responses and agrees with the rules in {agreement} of "
                f"the {judged['both']:,} on which they are compared"
            )
        measured = self.report.get("dynamics")
        if measured:
            greedy, pass_at_k = measured["greedy_accuracy"], measured["pass_at_k"]
            parts.append(f"validation: greedy {greedy:.1%}, Pass@{measured['k']} {pass_at_k:.1%}")
        if without := self.report.get("no_gradient"):
            parts.append(f"{without:,} have no gradient, as all of their prompt's samples are right or all wrong")
        if self.report["skipped"]:
            parts.append("nothing was kept, so there was nothing to train on")
        warning = warn_of_likelihood(self.report.get("mprm") or {}, refreshes=refreshes)
        if is_main():
            _log.info("%s", "; ".join(parts))
            if warning is not None:
                _log.warning("iteration %d: %s", self.iteration, warning)

    def _stages(self) -> Iterator[tuple[str, Mapping[str, float | None]]]:
        """What the stages did, by the tags' groups; nothing of the policy before the first iteration."""
        report = self.report
        if "funnel" not in report:
            return
        names = (
            "tokens", "truncated_fraction", "tokens_per_second", "kept_chain_accuracy", "random_chain_accuracy",
            "min_on_answer_step", "entropy", "response_length", "all_right_fraction", "all_wrong_fraction",
            "right_chain_accuracy",
        )  # fmt: skip
        choice = report.get("choice")
        fraction = choice["prompts"] / max(choice["of"], 1) if choice else None
        voted = report.get("pseudo_labels") or {}
        yield "funnel", report["funnel"]
        yield (
            "rollout",
            {
                **{name: report.get(name) for name in names},
                "choice_fraction": fraction,
                "pseudo_label_accuracy": voted.get("accuracy"),
                "pseudo_label_fraction": 1 - voted["abstained"] / voted["voted"] if voted else None,
            },
        )
        if judged := report.get("judge"):
            share = judged["unreadable"] / judged["asked"]
            tokens = {"prompt_tokens": judged["prompt_tokens"], "tokens": judged["num_tokens"]}
            costs = {"asked": judged["asked"], **tokens, "cost": judged["cost"]}
            yield "judge", {"agreement": judged["agreement"], "unreadable_fraction": share, **costs}
        yield "time", report["seconds"]

    def _dynamics(self, temperature: float | None = None) -> Iterator[tuple[str, Mapping[str, float | None]]]:
        """What was measured, by the tags' groups; by default at the temperature of the iteration's responses."""
        found = self.report.get("dynamics")
        if found is None:
            return
        names = ("greedy_accuracy", "greedy_chain_accuracy", "mean_accuracy", "majority")
        yield (
            "dynamics",
            {
                **{name: found[name] for name in names},
                f"pass@{found['k']}": found["pass_at_k"],
                f"pass@{found['k']}_gap": found["pass_at_k_gap"],
                f"reward_pass@{found['reward_k']}": found["reward_pass_at_k"],
                "temperature": self.report.get("temperature") if temperature is None else temperature,
            },
        )
        yield "mprm", self.report["mprm"] or {}
        yield "time", {"dynamics": self.report.get("seconds", {}).get("dynamics")}

    def _scalars(self, group: str, values: Mapping[str, float | None]) -> None:
        known = self._watch(group, values)
        for logger in self.trainer.loggers if known else ():
            log_numbers(logger, known, self.iteration)

    def _watch(self, group: str, values: Mapping[str, float | None]) -> dict[str, float]:
        """Lets callbacks see numbers, and gives them their tags; what is not known is left out."""
        known = {f"{group}/{name}": float(value) for name, value in values.items() if value is not None}
        if self.iteration > 0:
            # Of the policy before the first iteration, there is nothing that could be stopped or kept.
            self.trainer.callback_metrics.update({tag: torch.tensor(value) for tag, value in known.items()})
        return known
