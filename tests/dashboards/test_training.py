"""The curves of a training."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from mstar.dashboards.report import write_report
from mstar.storage import write_json

from .conftest import Page  # type: ignore[import-not-found]


def test_a_supervised_run_shows_its_losses_and_nothing_of_iterations(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("rollout: null\n")
    write_json(tmp_path / "finished.json", {"epochs": 3, "steps": 900})
    with SummaryWriter(str(tmp_path / "tensorboard" / "version_0")) as writer:
        for step in range(900):
            writer.add_scalar("train/loss", 2 - step / 900, step)
        writer.add_scalar("val/accuracy", 0.625, 899)
    with SummaryWriter(str(tmp_path / "tensorboard" / "test")) as writer:
        writer.add_scalar("test/accuracy", 0.75, 0)
    page = Page(write_report(tmp_path))
    assert "training run" in page.text
    anchors = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert anchors == ["#training", "#config"]
    text = page.text.replace("\u202f", " ")
    for shown in ("steps900", "epochs3", "62.5 %", "75.0 %", "the mean of 8 logged values"):
        assert shown in text
    assert "iteration" not in page.text
    assert len(page.scripts) == 1


def test_a_run_with_an_objective_shows_what_it_does_to_the_policy_and_no_rate_that_stays(tmp_path: Path) -> None:
    (tmp_path / "iterations").mkdir()
    logged = {"train/loss": 0.5, "train/kl": 0.011, "train/ratio": 1.25, "train/clipped_fraction": 0.07}
    with SummaryWriter(str(tmp_path / "tensorboard" / "version_0")) as writer:
        writer.add_scalar("funnel/kept", 4, 1)
        for step in range(3):
            for tag, value in (logged | {"train/lr": 1e-4, "val/accuracy": 0.5}).items():
                writer.add_scalar(tag, value, step)
    text = Page(write_report(tmp_path)).text
    for shown in ("nats a token 0.011", "mean ratio 1.25", "share 7\u202f%", "training 0.5"):
        assert shown in text
    for left_out in ("Learning rate", "Validation accuracy"):
        assert left_out not in text


def test_an_mprm_s_run_shows_its_ranking_over_the_steps(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path / "tensorboard" / "version_0")) as writer:
        for step in range(3):
            writer.add_scalar("train/loss", 1.5, step)
            writer.add_scalar("train/step_loss", 0.5, step)
            writer.add_scalar("val/loss", 1.25, step)
            writer.add_scalar("mprm/auc_within", 0.5 + step / 10, step)
    text = Page(write_report(tmp_path)).text
    for shown in ("Ranking (AUC)", "within prompts 0.70", "validation 1.25", "steps (cross-entropy) 0.5"):
        assert shown in text
