"""Reads a run's folder for the HTML report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mstar.dashboards.prompt_sample import PromptSample, sample_prompts
from mstar.dashboards.run_config import SavedConfig, read_configs
from mstar.dashboards.step_labels import LabelSet, find_label_sets
from mstar.dashboards.tables import is_number, mapping
from mstar.dashboards.training_log import TrainingLog, read_training_logs
from mstar.errors import DataError
from mstar.provenance import flatten
from mstar.storage import RunDirectory, read_json, suggest_run


@dataclass(frozen=True)
class IterationData:
    """What is known of one iteration.

    Attributes:
        index: Its number, from 1.
        report: Its report; empty before it is written.
    """

    index: int
    report: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def values(self) -> Mapping[str, float]:
        """Every number of its report by its path, e.g. ``funnel/kept``, and ``right_samples``.

        That is the share of right responses, where prompts were voted on to the others alone, and without the further
        samples of hard prompts.
        """
        found = {path: float(value) for path, value in flatten(self.report, separator="/") if is_number(value)}
        place = "labelled/funnel" if "labelled" in self.report else "funnel"
        right, generated = (found.get(f"{place}/{name}") for name in ("correct", "generated"))
        return found | ({"right_samples": right / generated} if right is not None and generated else {})

    @property
    def complete(self) -> bool:
        """Whether it was trained to its end; its report is written before."""
        return "seconds/train" in self.values

    @property
    def skipped(self) -> bool:
        """Whether nothing was kept, so that the policy was not trained."""
        return bool(self.report.get("skipped"))


@dataclass(frozen=True, slots=True)
class RunData:
    """All that a report shows of one run.

    Attributes:
        evolves: Whether it is a self-evolving run, or a staged one with such a part.
        iterations: Every iteration, in order; number 0 is what was measured before the first.
        summary: The run's ``summary.json``, or an empty mapping.
        finished: The ``finished.json`` of the fit, which is there once it is done, or an empty mapping.
        settings: The configuration of a self-evolving run, or an empty mapping.
    """

    name: str
    evolves: bool = True
    iterations: tuple[IterationData, ...] = ()
    sample: PromptSample = field(default_factory=PromptSample)
    logs: tuple[TrainingLog, ...] = ()
    labels: tuple[LabelSet, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    finished: Mapping[str, Any] = field(default_factory=dict)
    configs: tuple[SavedConfig, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trained_iterations(self) -> tuple[IterationData, ...]:
        """The iterations that sampled and trained, so without number 0."""
        return tuple(iteration for iteration in self.iterations if iteration.index > 0)

    @property
    def stage_seconds(self) -> dict[str, float]:
        """How long each stage of a staged run took."""
        return {name: value for name, value in mapping(self.summary.get("stage_seconds")).items() if is_number(value)}


def read_run(root: Path, max_prompts: int) -> RunData:
    """Reads a run's folder, that of an annotation, or that of a staged run whose iterations are in ``evolve/``.

    Raises:
        DataError: the folder is missing or is not a run, or one of its files is damaged.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the folder that a run wrote.")
    run = RunDirectory(root)
    if not (root / "iterations").is_dir() and (root / "evolve" / "iterations").is_dir():
        run = RunDirectory(root / "evolve")
    configs, logs, labels = tuple(read_configs(root)), read_training_logs(root), find_label_sets(root, max_prompts)
    begun = (run.root / "iterations").is_dir() or (root / "summary.json").exists()
    evolving = [config.values for config in configs if config.values.get("rollout") is not None]
    evolves = begun or bool(evolving)
    if not (evolves or configs or logs or labels):
        raise DataError(
            f"{root} is not the folder of a run: it has no iterations folder, no summary.json, no config.yaml, no "
            f"TensorBoard files and no step labels; give the folder that a run wrote.{suggest_run(root)}"
        )
    return RunData(
        name=root.resolve().name,
        evolves=evolves,
        iterations=tuple(IterationData(number, _read_if_there(run.report(number))) for number in run.iterations),
        sample=sample_prompts(run, max_prompts),
        logs=logs,
        labels=labels,
        summary=_read_if_there(root / "summary.json"),
        finished=_read_if_there(run.root / "finished.json"),
        configs=configs,
        settings=evolving[0] if evolving else {},
    )


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}
