"""The event file, read back with TensorBoard's own reader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from mstar.prompts import TinyDice
from mstar.types import Prompt
from tests.integration.results import report_of

CONTRACT = {
    "dynamics/greedy_accuracy",
    "dynamics/pass@4",
    "dynamics/pass@4_gap",
    "dynamics/reward_pass@2",
    "dynamics/temperature",
    "funnel/generated",
    "funnel/parsed",
    "funnel/correct",
    "funnel/unique",
    "funnel/kept",
    "rollout/tokens",
    "rollout/truncated_fraction",
    "rollout/tokens_per_second",
    "time/generate",
    "time/grade",
    "time/score",
    "time/train",
    "mprm/auc",
    "mprm/best_of_n",
    "mprm/majority",
    "mprm/weighted_vote",
    "train/loss",
    "train/lr",
}


class Unknown(TinyDice):
    """Validation prompts whose right chains are not known, so that the final answers are the MPRM's measure."""

    def __getitem__(self, index: int) -> Prompt:
        return replace(super().__getitem__(index), reference_responses=())


@pytest.fixture(scope="module")
def run(evolve_once: Any, warm_mprm: Path) -> Path:
    adaptive = {
        "class_path": "mstar.temperature.AdaptiveTemperature",
        "init_args": {"minimum": 0.5, "maximum": 1.5, "step": 0.5, "every": 1, "margin": 0.0},
    }
    validation = f"--data.validation={Unknown.__module__}.{Unknown.__qualname__}"
    root: Path = evolve_once(validation, selection="top_k", reward_model=str(warm_mprm), temperature=adaptive)
    return root


@pytest.fixture(scope="module")
def events(run: Path) -> EventAccumulator:
    reader = EventAccumulator(str(run / "tensorboard/version_0"), size_guidance={"images": 0, "tensors": 0})
    reader.Reload()
    return reader


def reports(run: Path) -> list[dict[str, Any]]:
    return [report_of(run, i) for i in range(3)]


def test_the_tags_are_those_of_the_contract(events: EventAccumulator) -> None:
    assert set(events.Tags()["scalars"]) >= CONTRACT


def test_scalars_have_the_iteration_as_their_step_and_the_reports_values(run: Path, events: EventAccumulator) -> None:
    found = [(e.step, e.value) for e in events.Scalars("dynamics/pass@4")]
    assert found == [(i, pytest.approx(report["dynamics"]["pass_at_k"])) for i, report in enumerate(reports(run))]
    kept = [(e.step, e.value) for e in events.Scalars("funnel/kept")]
    assert kept == [(i, reports(run)[i]["funnel"]["kept"]) for i in (1, 2)]
    assert [e.step for e in events.Scalars("mprm/best_of_n")] == [0, 1, 2]
    assert [e.step for e in events.Scalars("time/train")] == [1, 2]


def test_training_is_logged_every_step(run: Path, events: EventAccumulator) -> None:
    batches = sum(-(-report["funnel"]["kept"] // 4) for report in reports(run)[1:])
    assert len(events.Scalars("train/loss")) == batches
    rates = [e.value for e in events.Scalars("train/lr")]
    assert rates[:5] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3])


def test_the_sweep_is_in_the_report(run: Path) -> None:
    sweep = reports(run)[2]["sweep"]
    assert list(sweep["scores"]) == ["0.5", "1.0", "1.5"]
    best = max(row["reward_pass@2"] for row in sweep["scores"].values())
    assert sweep["scores"][str(sweep["chosen"])]["reward_pass@2"] == best
    assert all(set(row) == {"reward_pass@2", "balance@2", "pass@4", "accuracy"} for row in sweep["scores"].values())
    assert reports(run)[2]["temperature"] == sweep["chosen"]
    assert "sweep" not in reports(run)[1]


def test_samples_are_shown_as_pictures_and_texts(events: EventAccumulator) -> None:
    assert [image.step for image in events.Images("samples/0")] == [1, 2]
    assert "samples/3/text_summary" in events.Tags()["tensors"]


def test_the_layout_is_written_once(events: EventAccumulator) -> None:
    [event] = events.Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    assert layout.category[0].title == "Dynamics"
    drawn = {tag for category in layout.category for chart in category.chart for tag in chart.multiline.tag}
    assert "^dynamics/pass@[0-9]+$" in {tag.replace("\\@", "@").replace("\\/", "/") for tag in drawn}


def test_what_is_not_a_fit_leaves_no_empty_logs(evolve: Any) -> None:
    for command in ("test", "predict", "test"):
        root = evolve(command=command)
    assert [folder.name for folder in (root / "tensorboard").iterdir()] == ["test"]
    assert "test/accuracy" in EventAccumulator(str(root / "tensorboard/test")).Reload().Tags()["scalars"]
