"""What a run's loggers show, read back from what the real packages wrote."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from mstar.errors import MissingExtraError
from mstar.prompts.tiny_dice import TinyDice
from mstar.storage import PromptResponses
from mstar.trainer.loggers import log_numbers, log_prompts, log_settings
from mstar.trainer.trackio_logger import TrackioLogger
from mstar.types import Response, ScoredResponse, Verdict, VerdictStatus

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


NUMBERS = {
    "dynamics/pass@16": 0.5, "dynamics/pass@16_gap": 0.25, "dynamics/reward_pass@2": 0.375, "funnel/kept": 4.0,
    "mprm/auc": 0.75, "time/train": 1.5,
}  # fmt: skip


def log_everything(logger: Logger) -> None:
    prompt = TinyDice("pool", 1)[0]
    verdict = Verdict(True, "7", VerdictStatus.GRADED)
    scored = ScoredResponse(Response(prompt.id, 0, "one step\n7", 5, True, 1.0, -1.0), verdict, (0.25, 0.5), 0.25)
    log_settings(logger, SETTINGS)
    for step in (1, 2):
        log_numbers(logger, NUMBERS, step)
    log_prompts(logger, [PromptResponses(prompt, (scored,))], 2)
    logger.finalize("success")


def test_weights_and_biases_has_numbers_pictures_texts_and_settings_offline(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    log_everything(WandbLogger(project="mstar", save_dir=tmp_path, offline=True, settings={"silent": True}))
    wandb.finish()
    wandb.teardown()  # the file is whole once the process is gone that writes it
    (folder,) = tmp_path.glob("wandb/offline-run-*")
    (file,) = folder.glob("*.wandb")
    numbers: dict[str, list[tuple[int, float]]] = {}
    kinds = {}
    settings: dict[str, Any] = {}
    for record in read_wandb(file):
        row = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for name in row.keys() & NUMBERS.keys():
            numbers.setdefault(name, []).append((row["trainer/global_step"], row[name]))
        kinds |= {name.removesuffix("/_type"): kind for name, kind in row.items() if name.endswith("/_type")}
        settings |= {item.key: json.loads(item.value_json) for item in record.config.update if item.key}
    assert numbers == {name: [(1, value), (2, value)] for name, value in NUMBERS.items()}
    assert kinds == {
        "samples/0": "images/separated",
        "samples/table": "table-file",
    }
    assert settings["model.lr"] == 1e-3
    assert len(list(folder.glob("files/media/images/**/*.png"))) == 1
    (table,) = (json.loads(path.read_text()) for path in folder.glob("files/media/table/**/*.json"))
    assert [table["data"][0][column] for column in (3, 5)] == ["one step\n7", "0.25 0.50"]


def read_wandb(path: Path) -> Iterator[Any]:
    """The records of an offline run: LevelDB's log format, blocks of 32 KiB with pieces of records."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, record = path.read_bytes(), 7, b""
    while place < len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        size, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        record += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last piece
            yield Record.FromString(record)
            record = b""


def test_mlflow_has_numbers_pictures_texts_and_settings_under_names_that_it_takes(tmp_path: Path) -> None:
    for package in ("mlflow", "sqlalchemy", "alembic"):
        pytest.importorskip(package)
    logger = MLFlowLogger(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", artifact_location=str(tmp_path / "artifacts"))
    log_everything(logger)
    client = logger.experiment
    run = client.get_run(logger.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["model.lr"] == "0.001"
    assert set(run.data.metrics) == {
        "dynamics/pass_at_16", "dynamics/pass_at_16_gap", "dynamics/reward_pass_at_2", "funnel/kept", "mprm/auc",
        "time/train",
    }  # fmt: skip
    history = client.get_metric_history(logger.run_id, "dynamics/pass_at_16")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.5)]
    pictures = {path.name.partition("+")[0] for path in tmp_path.rglob("images/*.png")}
    assert pictures == {"samples~0"}
    (table,) = (json.loads(path.read_text()) for path in tmp_path.rglob("samples/table-0002.json"))
    assert table["step scores"] == ["0.25 0.50"]


def test_trackio_has_numbers_pictures_texts_and_settings_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))  # it reads this when it is imported, here alone
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    log_everything(TrackioLogger("run", "mstar-test"))
    later = TrackioLogger("run", "mstar-test")
    log_settings(later, SETTINGS)
    log_numbers(later, NUMBERS, 3)
    later.finalize("success")
    assert SQLiteStorage.get_runs("mstar-test") == ["run"]
    rows = SQLiteStorage.get_logs("mstar-test", "run")
    numbers = [{name: row[name] for name in NUMBERS} | {"step": row["step"]} for row in rows if "mprm/auc" in row]
    assert numbers == [NUMBERS | {"step": step} for step in (1, 2, 3)]
    shown = {name: value for row in rows for name, value in row.items() if isinstance(value, dict)}
    assert {name: value["_type"] for name, value in shown.items()} == {
        "samples/0": "trackio.image",
        "samples/table": "trackio.table",
    }
    assert shown["samples/table"]["_value"][0]["step scores"] == "0.25 0.50"
    assert len(list((tmp_path / "media").rglob("*.png"))) == 1
    settings = SQLiteStorage.get_run_config("mstar-test", "run")
    assert settings["model.lr"] == 1e-3


def test_trackio_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mstar\[trackio\]'"):
        TrackioLogger("run")
