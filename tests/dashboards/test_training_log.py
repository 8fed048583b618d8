from __future__ import annotations

from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from torch.utils.tensorboard import SummaryWriter

from mstar.dashboards.training_log import read_training_logs


def test_every_value_is_read_from_every_folder(tmp_path: Path) -> None:
    for folder in ("tensorboard/version_0", "mprm/tensorboard/version_0"):
        with SummaryWriter(str(tmp_path / folder)) as writer:
            for step in range(12_000 if folder[0] == "t" else 3):
                writer.add_scalar("train/loss", step / 2, step)
            writer.add_text("samples/0", "text", 1)
    mprm, fit = read_training_logs(tmp_path)
    assert (mprm.path, fit.path) == ("mprm/tensorboard/version_0", "tensorboard/version_0")
    assert mprm.scalars == {"train/loss": ((0, 0.0), (1, 0.5), (2, 1.0))}
    assert len(fit.scalars["train/loss"]) == 12_000
    assert fit.last("train/loss") == 5999.5
    assert fit.last("val/loss") is None


def test_what_a_killed_run_logged_twice_is_read_once(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for first, value in ((0, 1.0), (3, 2.0)):
            writer.file_writer.add_event(Event(step=first, file_version="brain.Event:2"))
            writer.file_writer.add_event(Event(step=first, session_log=SessionLog(status=SessionLog.START)))
            for step in range(first, 5):
                writer.add_scalar("train/loss", value, step)
    (log,) = read_training_logs(tmp_path)
    assert log.scalars["train/loss"] == ((0, 1.0), (1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0))


def test_a_damaged_file_and_values_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path / "a")) as writer:
        for step, value in enumerate((1.0, float("nan"), float("inf"), 2.0, 3.0)):
            writer.add_scalar("train/loss", value, step)
    (file,) = (tmp_path / "a").iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "events.out.tfevents.1.x").write_bytes(b"nothing of the kind")
    (log,) = read_training_logs(tmp_path)
    assert log.scalars == {"train/loss": ((0, 1.0), (3, 2.0))}
