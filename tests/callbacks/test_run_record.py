"""What a run leaves of the scores of its epochs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.demos.boring_classes import BoringModel

from mstar import __version__
from mstar.callbacks.run_record import RunRecord, find_finished


class Scored(BoringModel):
    """Logs as an MPRM does: in the epoch's end, and what cannot be computed as no number."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self.step(batch).detach() * 0 + 0.5)

    def on_validation_epoch_end(self) -> None:
        self.log("mprm/auc", (self.current_epoch + 1) / 4)
        self.log("mprm/ece", float("nan"))


class Record(RunRecord):
    """Without a configuration to write."""

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        pass


def fit(root: Path, epochs: int, checkpoint: str | None = None) -> dict[str, dict[str, float]]:
    trainer = Trainer(
        max_epochs=epochs, limit_train_batches=1, limit_val_batches=1, accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=root,
        callbacks=[Record(LightningArgumentParser(), None)],
    )  # fmt: skip
    trainer.fit(Scored(), ckpt_path=checkpoint)
    trainer.save_checkpoint(root / f"{epochs}.ckpt")
    trainer.validate(Scored(), verbose=False)
    found: dict[str, dict[str, float]] = json.loads((root / "validation.json").read_text())
    return found


def test_what_every_epoch_reached_is_written_down(tmp_path: Path) -> None:
    reached = {str(epoch): {"val/loss": 0.5, "mprm/auc": epoch / 4} for epoch in (1, 2, 3)}
    assert fit(tmp_path, 2) == {name: reached[name] for name in "12"}
    # What a killed run measured after the checkpoint is not this one's, and neither is what another fit reached.
    (tmp_path / "validation.json").write_text(json.dumps({name: reached[name] for name in "12"} | {"7": {}}))
    assert fit(tmp_path, 3, str(tmp_path / "2.ckpt")) == reached
    assert fit(tmp_path, 1) == {"1": reached["1"]}


def test_a_run_says_which_version_it_was_made_with(tmp_path: Path) -> None:
    parser = LightningArgumentParser()
    parser.add_argument("--seed", type=int, default=3)
    RunRecord(parser, parser.get_defaults()).save_config(
        Trainer(default_root_dir=tmp_path, logger=False), Scored(), "fit"
    )
    first, *others = (tmp_path / "config.yaml").read_text().splitlines()
    assert first.startswith(f"# mstar {__version__}")
    assert others[-1] == "seed: 3"


def test_what_the_earliest_versions_wrote_of_a_finished_run_is_read(tmp_path: Path) -> None:
    (tmp_path / "finished.json").write_text('{"epochs": 4, "steps": 12, "max_epochs": 4, "max_steps": -1}')
    limits = [find_finished(tmp_path, Trainer(max_epochs=epochs, logger=False)) for epochs in (4, 5)]
    assert limits == ["trainer.max_epochs", None]
