"""The settings of a run in its loggers."""

from __future__ import annotations

from pathlib import Path

import yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from mstar.trainer.loggers import log_settings

SETTINGS = {"model.init_args.lr": 1e-3, "rollout.init_args.deduplicate": True, "trainer.callbacks": ["one", "other"]}


def test_every_logger_gets_the_settings_as_plain_values(tmp_path: Path) -> None:
    for logger in (CSVLogger(tmp_path / "csv"), TensorBoardLogger(tmp_path / "events", default_hp_metric=False)):
        log_settings(logger, SETTINGS)
        logger.save()
        found = yaml.safe_load(Path(logger.log_dir, "hparams.yaml").read_text())
        assert found == {"model.lr": 1e-3, "rollout.deduplicate": True, "trainer.callbacks": "['one', 'other']"}


def test_tensorboards_table_of_runs_has_them_without_a_chart_of_its_own(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, default_hp_metric=False)
    log_settings(logger, SETTINGS)
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert events.Tags()["scalars"] == []
    metadata = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = HParamsPluginData.FromString(metadata).session_start_info
    assert start.hparams["model.lr"].number_value == 1e-3
    assert start.hparams["trainer.callbacks"].string_value == "['one', 'other']"
